"""Whatever the bytes, decoding ends in a MoesaicError or in a mixture within limits."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from moesaic.codec import Info, Limits, Steps, decode_bytes, encode_mixture
from moesaic.codec.chunks import ChunkHeader, Span
from moesaic.codec.container import MAGIC, section, varint
from moesaic.errors import FormatError, LimitError, MoesaicError
from moesaic.mixture import render as render_module

LIMITS = Limits(kernels=5000, canvas_pixels=2**20, side=2**12, section_bytes=2**16, file_bytes=2**17)


@pytest.fixture(scope="module")
def files(make_mixture) -> list[bytes]:
    """Small files that use every feature: channels, orders, several chunks, metadata."""
    info = Info(icc=b"profile", exif=b"Exif\0\0camera", xmp=b"<x/>", text={"a": "b"})
    return [
        encode_mixture(make_mixture(3, channels=1), steps=Steps().scaled(3)),
        encode_mixture(make_mixture(40, channels=4, order=1), steps=Steps().scaled(3), chunks=2, info=info),
        encode_mixture(make_mixture(25, channels=3), steps=Steps().scaled(2), chunks=3),
        encode_mixture(make_mixture(9, channels=2, width=1, height=1), steps=Steps().scaled(4)),
    ]


def sections(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(MAGIC)
    while at < len(data):
        kind, at, length, shift = data[at : at + 4], at + 4, 0, 0
        while True:
            length |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                break
        found.append((kind, data[at : at + length]))
        at += length + 4
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    return MAGIC + b"".join(section(kind, payload) for kind, payload in parts)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes: flipped bits, new bytes, runs removed, repeated or inserted."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(out) + 1))
        run = int(rng.integers(1, 9))
        match rng.integers(0, 6):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(0, 8))
            case 1 if at < len(out):
                out[at] = int(rng.choice([0, 1, 127, 128, 255]))
            case 2:
                del out[at : at + run]
            case 3:
                out[at:at] = out[at : at + run]
            case 4:
                out[at:at] = rng.integers(0, 256, run, dtype=np.uint8).tobytes()
            case _:
                out[at : at + run] = rng.integers(0, 256, run, dtype=np.uint8).tobytes()
    return bytes(out)


def mutants(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Damaged files; in three of four the checksums are made right again, so that the inner parsers are reached."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = files[rng.integers(0, len(files))]
        if rng.random() < 0.25:
            yield mutate(data, rng)
            continue
        parts = sections(data)
        which = int(rng.integers(0, len(parts)))
        match rng.integers(0, 12):
            case 0:
                parts.insert(which, parts[int(rng.integers(0, len(parts)))])
            case 1:
                del parts[which]
            case _:
                parts[which] = parts[which][0], mutate(parts[which][1], rng)
        yield joined(parts)


def check(data: bytes) -> bool:
    """Decode; True when a mixture came out, which must be a sound one."""
    try:
        mixture = decode_bytes(data, limits=LIMITS).mixture
    except MoesaicError:
        return False
    assert len(mixture) <= LIMITS.kernels
    assert mixture.width * mixture.height <= LIMITS.canvas_pixels
    for tensor in (mixture.centres, mixture.factors, mixture.log_priors, mixture.colours, mixture.slopes):
        assert tensor is None or torch.isfinite(tensor).all()
    render_module.check(mixture)  # what every backend asks of a mixture
    return True


def test_the_files_are_sound(files):
    assert all(check(data) for data in files)
    assert all(joined(sections(data)) == data for data in files)


def test_ten_thousand_mutations(files):
    survived = sum(check(data) for data in mutants(files, 10_000, seed=1))
    assert 100 < survived < 9_000  # the changes reach beyond the checksums, and most are noticed


def test_every_truncation(files):
    for data in files:
        for length in range(len(data)):
            with pytest.raises(FormatError):
                decode_bytes(data[:length], limits=LIMITS)


def test_every_truncation_of_a_payload(files):
    for data in files:
        parts = sections(data)
        for i, (kind, payload) in enumerate(parts):
            for length in range(len(payload)):
                check(joined([*parts[:i], (kind, payload[:length]), *parts[i + 1 :]]))


def test_random_kernels_behind_valid_headers(files):
    rng = np.random.default_rng(3)
    for data in files:
        parts = sections(data)
        for _ in range(100):
            noise = rng.integers(0, 256, len(parts[-1][1]), dtype=np.uint8).tobytes()
            check(joined([*parts[:-1], (parts[-1][0], parts[-1][1][:4] + noise)]))


def test_memory_stays_small(files):
    decode_bytes(files[1])  # tables that are kept
    tracemalloc.start()
    try:
        for data in mutants(files, 400, seed=2):
            check(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**26


class TestLies:
    """Headers that ask for much and deliver little."""

    def swapped(self, files, kind: bytes, payload: bytes) -> bytes:
        return joined([(k, payload if k == kind else p) for k, p in sections(files[0])])

    def test_more_kernels_than_bytes_can_hold(self, files):
        parts = sections(files[0])
        head = parts[0][1][:6] + varint(64) + varint(64) + varint(2**20) + varint(1)
        chunk = ChunkHeader(2**20, Span(0, 1), 12).pack() + b"\1" * 50
        data = joined([(b"HEAD", head), parts[1], (b"KERN", chunk)])
        with pytest.raises(FormatError, match="cannot hold"):
            decode_bytes(data)

    def test_more_kernels_in_a_chunk_than_in_the_file(self, files):
        chunk = ChunkHeader(4, Span(0, 1), 12).pack() + b"\1" * 50
        with pytest.raises(FormatError, match="at most 3"):
            decode_bytes(self.swapped(files, b"KERN", chunk))

    def test_fewer_kernels_than_the_header_says(self, files):
        chunk = ChunkHeader(1, Span(0, 1), 30).pack()
        with pytest.raises(FormatError):
            decode_bytes(self.swapped(files, b"KERN", chunk))

    def test_tables_that_would_take_forever(self, files):
        head = sections(files[0])[0][1][:6] + varint(64) + varint(64) + varint(2**20) + varint(1)
        with pytest.raises(LimitError, match="table_symbols"):
            decode_bytes(self.swapped(files, b"HEAD", head), limits=Limits(table_symbols=2**30))

    @pytest.mark.parametrize("side", [2**19, 2**32])
    def test_a_canvas_beyond_the_limit(self, files, side):
        head = sections(files[0])[0][1][:6] + varint(side) + varint(1) + varint(3) + varint(1)
        with pytest.raises(LimitError, match="side"):
            decode_bytes(self.swapped(files, b"HEAD", head))

    def test_a_section_beyond_the_limit(self, files):
        body = b"QUAN" + varint(2**35)
        data = joined(sections(files[0])[:1]) + body + zlib.crc32(body).to_bytes(4, "little")
        with pytest.raises(LimitError, match="section_bytes"):
            decode_bytes(data)
