from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesaic.codec.container import (
    MAGIC,
    Cursor,
    FileReader,
    Header,
    Info,
    section,
    signed_varint,
    varint,
    write_file,
)
from moesaic.codec.limits import Limits
from moesaic.errors import ArgumentError, FormatError, LimitError

HEADER = Header(width=7, height=5, channels=3, order=0, kernels=6, chunks=2)
TABLES, CHUNKS = b"tables", [b"first", b"second"]
INFO = Info(icc=b"profile", exif=b"Exif\0\0camera", xmp=b"<x/>", text={"Author": "Ada", "Ort": "Köln"})


def read(data: bytes, limits: Limits | None = None, layers: int | None = None):
    reader = FileReader(BytesIO(data), limits=limits or Limits())
    return reader.header, reader.info(), reader.tables(), list(reader.chunks(layers))


def build(*sections: tuple[bytes, bytes]) -> bytes:
    return MAGIC + b"".join(section(kind, payload) for kind, payload in sections)


def head(**changes) -> bytes:
    """The payload of HEAD, with bytes replaced at given places."""
    payload = bytearray(write_file(HEADER, Info(), b"", [b""])[len(MAGIC) + 5 :][:10])
    for place, value in changes.items():
        payload[int(place[1:])] = value
    return bytes(payload)


class TestIntegers:
    @given(st.integers(0, 2**36 - 1))
    def test_unsigned_round_trip(self, value):
        assert Cursor(varint(value), "it").unsigned(2**36) == value

    @given(st.integers(-(2**34), 2**34))
    def test_signed_round_trip(self, value):
        assert Cursor(signed_varint(value), "it").signed(2**34) == value

    @pytest.mark.parametrize("raw", [b"\x80\x00", b"\xff\x80\x00"])
    def test_overlong_forms_are_refused(self, raw):
        with pytest.raises(FormatError, match="overlong"):
            Cursor(raw, "it").unsigned(2**36)

    def test_more_than_36_bits_are_refused(self):
        with pytest.raises(FormatError, match="36 bits"):
            Cursor(b"\xff" * 7, "it").unsigned(2**64)

    def test_values_above_the_most_are_refused(self):
        with pytest.raises(FormatError, match="at most 5"):
            Cursor(varint(6), "it").unsigned(5)


class TestRoundTrip:
    @pytest.mark.parametrize("info", [Info(), INFO, Info(xmp=b"only")])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("depth", [8, 16])
    def test_everything_comes_back(self, info, channels, order, depth):
        header = Header(width=70000, height=1, channels=channels, order=order, kernels=9, chunks=2, depth=depth)
        assert read(write_file(header, info, TABLES, CHUNKS)) == (header, info, TABLES, CHUNKS)

    def test_leading_chunks_need_nothing_of_the_rest(self):
        data = write_file(HEADER, Info(), TABLES, CHUNKS)
        cut = data[: -len(section(b"KERN", CHUNKS[1]))]
        assert read(cut, layers=1)[3] == CHUNKS[:1]
        with pytest.raises(FormatError):
            read(cut)

    def test_an_empty_file_has_little_overhead(self):
        assert len(write_file(HEADER, Info(), b"", [b""])) <= 48

    def test_unknown_sections_that_may_be_ignored_are_skipped_anywhere(self):
        parts = [(b"HEAD", head()), (b"QUAN", TABLES), (b"KERN", CHUNKS[0]), (b"KERN", CHUNKS[1])]
        for place in range(1, len(parts) + 1):
            data = build(*parts[:place], (b"neww", b"?"), *parts[place:])
            assert read(data)[3] == CHUNKS

    def test_may_ignore_flags_are_ignored(self):
        assert read(build((b"HEAD", head(p2=0xFF)), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")))[0].may_flags == 255


class TestDamage:
    @pytest.mark.parametrize("bad", [b"", b"\x89", b"\x89PNG\r\n\x1a\n", b"GIF89a.."])
    def test_other_files(self, bad):
        with pytest.raises(FormatError):
            read(bad)

    @pytest.mark.parametrize(
        "change", [lambda d: d.replace(b"\r\n", b"\n", 1), lambda d: bytes(b & 0x7F for b in d[:8]) + d[8:]]
    )
    def test_damaging_transfers_are_recognised(self, change):
        with pytest.raises(FormatError, match=r"transfer|no \.moe"):
            read(change(write_file(HEADER, Info(), TABLES, CHUNKS)))

    def test_every_truncation(self):
        data = write_file(HEADER, INFO, TABLES, CHUNKS)
        for length in range(len(data)):
            with pytest.raises(FormatError):
                read(data[:length])

    def test_every_flipped_bit(self):
        data = write_file(HEADER, INFO, TABLES, CHUNKS)
        for place in range(len(data)):
            for bit in range(8):
                bad = bytearray(data)
                bad[place] ^= 1 << bit
                with pytest.raises((FormatError, LimitError)):
                    read(bytes(bad))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"p0": 2}, "version 2"),
            ({"p1": 1}, "features"),
            ({"p3": 9}, "entropy coder"),
            ({"p4": 9}, "entropy coder"),
            ({"p5": 0x10}, "kind of picture"),
            ({"p6": 0}, "at least 1"),
            ({"p8": 0}, "kernels in"),
            ({"p9": 0}, "kernels in"),
            ({"p9": 7}, "kernels in"),
        ],
    )
    def test_headers_that_are_not_understood(self, change, message):
        with pytest.raises(FormatError, match=message):
            read(build((b"HEAD", head(**change)), (b"QUAN", b"")))

    @pytest.mark.parametrize(
        "sections",
        [
            [(b"QUAN", b"")],
            [(b"HEAD", head()), (b"KERN", b"")],
            [(b"HEAD", head()), (b"HEAD", head())],
            [(b"HEAD", head()), (b"QUAN", b""), (b"QUAN", b"")],
            [(b"HEAD", head()), (b"QUAN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b""), (b"iccp", b"")],
            [(b"HEAD", head()), (b"iccp", b"a"), (b"iccp", b"b"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"exif", b"a"), (b"iccp", b"b"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"MUST", b""), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"te t", b""), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"text", b"\x01a\x01b\x01a\x01c"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"text", b"\x01\xff\x00"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head()), (b"text", b"\x05ab"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
            [(b"HEAD", head() + b"\0"), (b"QUAN", b""), (b"KERN", b""), (b"KERN", b"")],
        ],
    )
    def test_wrong_order_duplicates_and_leftovers(self, sections):
        with pytest.raises(FormatError):
            read(build(*sections))

    @pytest.mark.parametrize("extra", [b"\0", b"x", section(b"KERN", b"")])
    def test_trailing_garbage(self, extra):
        with pytest.raises(FormatError):
            read(write_file(HEADER, Info(), TABLES, CHUNKS) + extra)


class TestLimits:
    @pytest.mark.parametrize(
        ("limits", "field"),
        [
            (Limits(side=6), "side"),
            (Limits(canvas_pixels=34), "canvas_pixels"),
            (Limits(kernels=5), "kernels"),
            (Limits(section_bytes=5), "section_bytes"),
            (Limits(metadata_bytes=8), "metadata_bytes"),
            (Limits(file_bytes=40), "file_bytes"),
        ],
    )
    def test_each_limit_is_named(self, limits, field):
        with pytest.raises(LimitError, match=field):
            read(write_file(HEADER, INFO, TABLES, CHUNKS), limits)

    def test_exactly_at_the_limits_is_accepted(self):
        limits = Limits(side=7, canvas_pixels=35, kernels=6, section_bytes=10, metadata_bytes=64)
        assert read(write_file(HEADER, INFO, TABLES, CHUNKS), limits)[3] == CHUNKS

    def test_a_lying_length_is_refused_before_it_is_read(self):
        class Watched(BytesIO):
            largest = 0

            def read(self, size=-1):
                Watched.largest = max(Watched.largest, size)
                return super().read(size)

        body = b"QUAN" + varint(2**26)
        data = build((b"HEAD", head())) + body + zlib.crc32(body).to_bytes(4, "little")
        reader = FileReader(Watched(data))
        with pytest.raises(FormatError, match="too early"):
            reader.tables()
        assert Watched.largest <= 2**20

    def test_output_size(self):
        Limits(output_pixels=12).check_output(3, 4)
        with pytest.raises(LimitError, match="output_pixels"):
            Limits(output_pixels=11).check_output(3, 4)


def test_a_header_that_cannot_be_stored_is_refused():
    with pytest.raises(ArgumentError, match="depth"):
        write_file(Header(width=1, height=1, channels=3, order=0, kernels=1, chunks=1, depth=12), Info(), b"", [b""])
