"""PNG files of 16 bits a channel, which Pillow would cut to 8 when they hold colour or alpha.

Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)": chunks (section 5), interlacing (8),
filters (9).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from moesaic.errors import LimitError, PictureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_COLOUR_TYPES = {channels: kind for kind, channels in CHANNELS.items()}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK_BYTES = 1 << 22  # of filtered rows at a time while writing


def decode_png16(
    data: bytes,
    *,
    pixel_limit: int = 2**28,
) -> NDArray[np.uint16]:  # (H, W, C), C = 1 grey, 2 with alpha, 3 RGB, 4 with alpha
    """The pixels of a 16-bit PNG file, interlaced or not; a key colour becomes an alpha channel.

    Raises:
        PictureError: the file is truncated or damaged, or holds another bit depth.
        LimitError: it states more than `pixel_limit` pixels.
    """
    header, key, pieces = b"", b"", []
    for kind, body in _chunks(data):
        if kind == b"IHDR":
            header = body
        elif kind == b"tRNS":
            key = body
        elif kind == b"IDAT":
            pieces.append(body)
    if len(header) != 13:
        raise PictureError("damaged PNG file: no valid header")
    width, height, bits, kind_of_colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if bits != 16 or kind_of_colour not in CHANNELS or not width or not height or interlace > 1:
        raise PictureError(f"not a 16-bit PNG file: {bits} bits, colour type {kind_of_colour}")
    if width * height > pixel_limit:
        raise LimitError(f"{width}x{height} exceeds the limit of {pixel_limit} pixels")
    channels = CHANNELS[kind_of_colour]
    step = 2 * channels  # bytes a pixel

    passes = [(0, 0, 1, 1)] if interlace == 0 else list(_ADAM7)
    sizes = [(max(0, -(-(height - y) // dy)), max(0, -(-(width - x) // dx))) for x, y, dx, dy in passes]
    lengths = [rows * (1 + columns * step) if columns else 0 for rows, columns in sizes]
    raw = _inflate(b"".join(pieces), sum(lengths))

    pixels = np.empty((height, width, channels), np.uint16)
    start = 0
    for (x, y, dx, dy), (rows, columns), length in zip(passes, sizes, lengths, strict=True):
        if length:
            lines = np.frombuffer(raw, np.uint8, length, start).reshape(rows, 1 + columns * step).copy()
            if lines[:, 0].max() > 4:
                raise PictureError("damaged PNG file: unknown row filter")
            unfilter(lines, step)
            block = np.ascontiguousarray(lines[:, 1:]).view(">u2")
            pixels[y::dy, x::dx] = block.reshape(rows, columns, channels)
            start += length
    if len(key) == step and channels in (1, 3):
        opaque = (pixels != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
        pixels = np.concatenate([pixels, np.where(opaque, np.uint16(65535), np.uint16(0))], axis=2)
    return pixels


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise PictureError("not a PNG file")
    place = len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + 8 + length]
        end = place + 12 + length
        if end > len(data):
            break
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise PictureError(f"damaged PNG file: checksum of chunk {kind.decode('latin-1')}")
        yield kind, body
        if kind == b"IEND":
            return
        place = end
    raise PictureError("truncated PNG file")


def _inflate(data: bytes, length: int) -> bytes:
    """Exactly `length` bytes, however much more the stream would swell to."""
    try:
        raw = zlib.decompressobj().decompress(data, length)
    except zlib.error as cause:
        raise PictureError(f"damaged PNG file: {cause}") from cause
    if len(raw) < length:
        raise PictureError("truncated PNG file: rows are missing")
    return raw


@njit(nogil=True, cache=True)
def unfilter(
    lines,  # (rows, 1 + bytes), uint8, changed in place: the filter type, then the filtered bytes
    step,  # bytes a pixel
):
    """Take the filters of section 9 off rows."""
    rows, length = lines.shape
    for row in range(rows):
        kind = lines[row, 0]
        for i in range(1, length):
            left = np.int32(lines[row, i - step]) if i > step else np.int32(0)
            up = np.int32(lines[row - 1, i]) if row > 0 else np.int32(0)
            corner = np.int32(lines[row - 1, i - step]) if i > step and row > 0 else np.int32(0)
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = up
            elif kind == 3:
                guess = (left + up) >> 1
            elif kind == 4:
                at_left, at_up, at_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
                if at_left <= at_up and at_left <= at_corner:
                    guess = left
                elif at_up <= at_corner:
                    guess = up
                else:
                    guess = corner
            else:
                guess = np.int32(0)
            lines[row, i] = (np.int32(lines[row, i]) + guess) & 255


def encode_png16(
    pixels: NDArray[np.uint16],  # (H, W, C)
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """A PNG file of 16 bits a channel with its metadata; nothing is lost."""
    height, width, channels = pixels.shape
    head = head_chunks(width, height, channels, 16, icc=icc, exif=exif, xmp=xmp)
    packer = zlib.compressobj(6)
    blocks = filtered(np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, -1), 2 * channels)
    chunks = [chunk(b"IDAT", body) for lines in blocks if (body := packer.compress(lines))]
    return b"".join([head, *chunks, chunk(b"IDAT", packer.flush()), chunk(b"IEND", b"")])


def head_chunks(
    width: int,
    height: int,
    channels: int,
    bits: int,
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """What stands before the pixels of a file that is not interlaced: signature, header and metadata."""
    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [SIGNATURE, chunk(b"IHDR", header)]
    if icc:
        chunks.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp:
        chunks.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return b"".join(chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of that kind with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def filtered(
    lines: NDArray[np.uint8],  # (rows, bytes)
    step: int,
    above: NDArray[np.uint8] | None = None,  # (bytes,), the row before the first
) -> Iterator[bytes]:
    """Blocks of rows, each row under the filter that leaves the smallest sum of absolute differences."""
    rows = max(1, _BLOCK_BYTES // lines.shape[1])
    for start in range(0, len(lines), rows):
        now = lines[start : start + rows]
        up = np.zeros_like(now)
        up[1:] = now[:-1]
        if start:
            up[0] = lines[start - 1]
        elif above is not None:
            up[0] = above
        left, corner = np.zeros_like(now), np.zeros_like(now)
        left[:, step:], corner[:, step:] = now[:, :-step], up[:, :-step]
        a, b, c = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
        near_a, near_b, near_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        paeth = np.where((near_a <= near_b) & (near_a <= near_c), left, np.where(near_b <= near_c, up, corner))
        guesses = (0, left, up, ((a + b) >> 1).astype(np.uint8), paeth)
        candidates = np.stack([now - guess for guess in guesses])  # (5, rows, bytes), modulo 256
        costs = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
        best = costs.argmin(axis=0)
        chosen = candidates[best, np.arange(len(now))]
        yield np.concatenate([best.astype(np.uint8)[:, None], chosen], axis=1).tobytes()
