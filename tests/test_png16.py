from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moesaic.errors import LimitError, PictureError
from moesaic.png16 import decode_png16, encode_png16

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def random_pixels(height, width, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (height, width, channels), dtype=np.uint16)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def paeth(a, b, c):
    p = a + b - c
    return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]


def filtered(lines, step, first_kind):
    """Rows of bytes under the filters 0 to 4 in turn, written as the specification defines them."""
    out, above = bytearray(), bytes(len(lines[0]))
    for row, line in enumerate(lines):
        kind = (row + first_kind) % 5
        out.append(kind)
        for i, value in enumerate(line):
            a, b = line[i - step] if i >= step else 0, above[i]
            c = above[i - step] if i >= step else 0
            out.append((value - (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) % 256)
        above = line
    return bytes(out)


def plain_png(pixels, *, interlaced=False, key=None, first_kind=0):
    """A PNG writer that shares nothing with the one under test, slow and by the book."""
    height, width, channels = pixels.shape
    raw = b""
    for x, y, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = pixels[y::dy, x::dx]
        if part.size:
            raw += filtered([row.astype(">u2").tobytes() for row in part], 2 * channels, first_kind)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, interlaced)
    chunks = [chunk(b"IHDR", header)]
    if key is not None:
        chunks.append(chunk(b"tRNS", np.array(key, ">u2").tobytes()))
    packed = zlib.compress(raw)
    chunks += [chunk(b"IDAT", packed[:10]), chunk(b"IDAT", packed[10:]), chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (9, 13), (3, 2), (2, 5), (16, 16)])
def test_reads_every_filter_and_pass(channels, interlaced, size):
    pixels = random_pixels(*size, channels)
    for first_kind in range(5):
        data = plain_png(pixels, interlaced=interlaced, first_kind=first_kind)
        np.testing.assert_array_equal(decode_png16(data), pixels)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 99))
def test_what_is_written_is_read_back(height, width, channels, seed):
    pixels = random_pixels(height, width, channels, seed)
    np.testing.assert_array_equal(decode_png16(encode_png16(pixels)), pixels)


@pytest.mark.parametrize("channels", [3, 4])
def test_another_reader_sees_the_same_bytes(channels):
    pixels = random_pixels(21, 17, channels)
    high = np.asarray(Image.open(io.BytesIO(encode_png16(pixels))))  # Pillow keeps the high byte of each sample
    low = np.asarray(Image.open(io.BytesIO(encode_png16(pixels.byteswap()))))
    np.testing.assert_array_equal(high.astype(np.uint16) << 8 | low, pixels)


def test_grey_agrees_with_pillow_both_ways():
    pixels = random_pixels(12, 7, 1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encode_png16(pixels)))), pixels[..., 0])
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, "PNG")
    np.testing.assert_array_equal(decode_png16(file.getvalue()), pixels)


def test_several_blocks_of_rows(monkeypatch):
    monkeypatch.setattr("moesaic.png16._BLOCK_BYTES", 100)
    smooth = np.cumsum(random_pixels(31, 9, 3) // 500, axis=0, dtype=np.uint16)
    data = encode_png16(smooth)
    np.testing.assert_array_equal(decode_png16(data), smooth)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), smooth >> 8)


def test_smooth_pictures_are_packed_by_the_filters():
    ramp = np.add.outer(np.arange(64, dtype=np.uint16) * 300, np.arange(64, dtype=np.uint16) * 77)[..., None]
    assert len(encode_png16(ramp)) < ramp.nbytes / 10


def test_a_key_colour_becomes_alpha():
    pixels = np.array([[[1, 2, 3], [1, 2, 4]], [[1, 2, 3], [65535, 0, 0]]], np.uint16)
    found = decode_png16(plain_png(pixels, key=(1, 2, 3)))
    assert found[..., 3].tolist() == [[0, 65535], [0, 65535]]
    np.testing.assert_array_equal(found[..., :3], pixels)
    grey = decode_png16(plain_png(pixels[..., 2:], key=(3,)))
    assert grey[..., 1].tolist() == [[0, 65535], [0, 65535]]


def test_metadata_is_where_pillow_finds_it():
    exif = Image.Exif()
    exif[271] = "maker"
    data = encode_png16(random_pixels(4, 4, 3), icc=b"profile" * 9, exif=exif.tobytes(), xmp=b"<x:xmpmeta/>")
    image = Image.open(io.BytesIO(data))
    assert image.info["icc_profile"] == b"profile" * 9
    assert image.getexif()[271] == "maker"
    assert image.info.get("xmp", b"") == b"<x:xmpmeta/>" or image.info["XML:com.adobe.xmp"] == "<x:xmpmeta/>"


class TestDamage:
    data = encode_png16(random_pixels(8, 8, 3))

    def test_every_truncation_is_refused(self):
        for length in range(len(self.data)):
            with pytest.raises(PictureError):
                decode_png16(self.data[:length])

    def test_every_changed_byte_is_noticed(self):
        pixels = decode_png16(self.data)
        for place in range(len(self.data)):
            broken = bytearray(self.data)
            broken[place] ^= 0x55
            try:
                found = decode_png16(bytes(broken))
            except PictureError:
                continue
            np.testing.assert_array_equal(found, pixels)  # a byte that means nothing to the pixels

    def test_rows_that_are_missing_and_unknown_filters(self):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0))
        for raw, problem in ((bytes(5), "rows are missing"), (b"\7" + bytes(9), "filter")):
            data = SIGNATURE + header + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
            with pytest.raises(PictureError, match=problem):
                decode_png16(data)

    def test_a_stream_that_swells_is_cut_at_the_size_of_the_picture(self):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0))
        bomb = zlib.compress(bytes(10) + bytes(10**7))
        found = decode_png16(SIGNATURE + header + chunk(b"IDAT", bomb) + chunk(b"IEND", b""))
        assert found.tolist() == [[[0], [0]], [[0], [0]]]

    @pytest.mark.parametrize("fields", [(2, 2, 8, 0, 0, 0, 0), (2, 2, 16, 3, 0, 0, 0), (0, 2, 16, 0, 0, 0, 0)])
    def test_other_kinds_of_png_are_refused(self, fields):
        data = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *fields)) + chunk(b"IEND", b"")
        with pytest.raises(PictureError, match="not a 16-bit PNG"):
            decode_png16(data)

    def test_the_pixel_limit_comes_before_the_pixels(self):
        assert decode_png16(self.data, pixel_limit=64).shape == (8, 8, 3)
        with pytest.raises(LimitError, match="8x8"):
            decode_png16(self.data, pixel_limit=63)
        vast = chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 2, 0, 0, 0))
        with pytest.raises(LimitError):
            decode_png16(SIGNATURE + vast + chunk(b"IEND", b""))
