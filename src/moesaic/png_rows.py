"""PNG files a band of rows at a time, in a few rows' memory: read from top to bottom, and written so.

Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)": chunks (section 5), filters (9).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from moesaic.errors import PictureError, ShapeError
from moesaic.png16 import CHANNELS, SIGNATURE, chunk, filtered, head_chunks, unfilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEHIND = 32
"""Rows above the last ones asked for that can still be had without reading the file anew."""

_STEP = 256  # rows that are decoded at a time
_READ = 1 << 18  # bytes that are read at a time
_HEADER = 33  # bytes of signature and header chunk
_ANIMATED = b"acTL"


@dataclass(frozen=True, slots=True, kw_only=True)
class PngHead:
    """What a plain PNG file says before its pixels: 8 or 16 bits of grey or RGB, with alpha or not, not interlaced."""

    width: int  # px
    height: int  # px
    channels: int  # as stored; 1 to 4
    bits: int  # a channel
    key: tuple[int, ...] | None  # the colour that is transparent
    data: int  # byte at which the first chunk of pixels begins
    skeleton: bytes  # a file of one pixel with all the other chunks, wherever they stand


def read_head(file: BinaryIO) -> PngHead | None:
    """The head of a plain PNG file; None for all others, truncated ones as well.

    All chunks are walked over, so that a file that ends early is told before its pixels are asked for.
    """
    start = file.read(_HEADER)
    if len(start) < _HEADER or not start.startswith(SIGNATURE) or start[12:16] != b"IHDR":
        return None
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", start[16:29])
    if start != head_chunks(width, height, CHANNELS.get(colour, 1), bits) or bits not in (8, 16) or interlace:
        return None  # the header's checksum is among what differs
    others, data, key = [], 0, None
    end = file.seek(0, os.SEEK_END)
    place = _HEADER
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return None
        length, kind = struct.unpack(">I4s", head)
        following = place + 12 + length
        if following > end or kind == _ANIMATED:
            return None
        if kind == b"IEND":
            break
        if kind == b"IDAT":
            data = data or place
        else:
            others.append(head + file.read(length + 4))
            if kind == b"tRNS":
                if data or length != 2 * CHANNELS[colour] or colour not in (0, 2):
                    return None
                key = struct.unpack(f">{CHANNELS[colour]}H", others[-1][8:-4])
        place = following
    if not (data and width and height):
        return None
    channels = CHANNELS[colour]
    one = chunk(b"IDAT", zlib.compress(bytes(1 + channels * bits // 8)))
    skeleton = head_chunks(1, 1, channels, bits) + b"".join([*others, one, chunk(b"IEND", b"")])
    return PngHead(width=width, height=height, channels=channels, bits=bits, key=key, data=data, skeleton=skeleton)


class PngRows:
    """The rows of a plain PNG file, decoded as they are asked for; close it when it is no longer needed.

    Args:
        path: of the file.
        head: as `read_head` found it.
    """

    def __init__(self, path: str | os.PathLike[str], head: PngHead) -> None:
        self._head, self._step = head, head.channels * head.bits // 8
        self._file = Path(path).open("rb")  # noqa: SIM115 - close() closes it
        self._first = self._next = 0  # of the rows that are held; of those that come
        self._held = np.empty((0, head.width * self._step), np.uint8)
        self._begin()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self, top: int, bottom: int) -> NDArray[Any]:  # (bottom - top, W, C), uint8 or uint16
        """Some rows. Asked for from top to bottom they are read once; for rows far above, the file is read anew.

        Raises:
            PictureError: the file is truncated or damaged.
        """
        if top < self._first:
            self._begin()
        while self._next < bottom:
            self._held = self._held[max(0, top - BEHIND - self._first) :]
            more = self._decoded(min(_STEP, self._head.height - self._next))
            self._held = np.concatenate([self._held, more]) if len(self._held) else more
            self._next += len(more)
            self._first = self._next - len(self._held)
        lines: NDArray[Any] = self._held[top - self._first : bottom - self._first]
        if self._head.bits == 16:
            lines = np.ascontiguousarray(lines).view(">u2").astype(np.uint16)
        return lines.reshape(len(lines), self._head.width, self._head.channels)

    def _begin(self) -> None:
        self._bytes = self._stored()
        self._inflate = zlib.decompressobj()
        self._first = self._next = 0
        self._held = self._held[:0]
        self._above = np.zeros(self._held.shape[1], np.uint8)

    def _decoded(self, count: int) -> NDArray[np.uint8]:  # (count, bytes)
        length = 1 + len(self._above)
        lines = np.empty((1 + count, length), np.uint8)
        lines[0, 0], lines[0, 1:] = 0, self._above
        lines[1:] = np.frombuffer(self._inflated(count * length), np.uint8).reshape(count, length)
        if lines[:, 0].max() > 4:
            raise PictureError("damaged PNG file: unknown row filter")
        unfilter(lines, self._step)
        self._above = lines[-1, 1:].copy()
        if self._next + count == self._head.height:
            for _ in self._bytes:  # to the checksum of the last chunk
                pass
        return lines[1:, 1:]

    def _inflated(self, length: int) -> bytearray:
        found = bytearray()
        try:
            while len(found) < length:
                packed = self._inflate.unconsumed_tail or next(self._bytes, b"")
                more = self._inflate.decompress(packed, length - len(found))
                if (self._inflate.eof and len(found) + len(more) < length) or not (packed or more):
                    raise PictureError("truncated PNG file: rows are missing")
                found += more
        except zlib.error as cause:
            raise PictureError(f"damaged PNG file: {cause}") from cause
        return found

    def _stored(self) -> Iterator[bytes]:
        """The compressed pixels, chunk by chunk, each with its checksum looked at."""
        file = self._file
        file.seek(self._head.data)
        while True:
            length, kind = struct.unpack(">I4s", _exactly(file, 8))
            if kind != b"IDAT":
                return
            checksum = zlib.crc32(kind)
            while length:
                part = _exactly(file, min(length, _READ))
                checksum, length = zlib.crc32(part, checksum), length - len(part)
                yield part
            if _exactly(file, 4) != struct.pack(">I", checksum):
                raise PictureError("damaged PNG file: checksum of chunk IDAT")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise PictureError("truncated PNG file")
    return data


class PngRowWriter:
    """Writes a PNG file a band of rows at a time.

    Args:
        write: appends bytes to the file.
        width: px.
        height: px; `close` wants as many rows.
        channels: 1 to 4.
        bits: a channel, 8 or 16.
        icc: a profile to carry.
        exif: EXIF to carry.
        xmp: XMP to carry.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        width: int,
        height: int,
        channels: int,
        bits: int,
        *,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> None:
        self._write, self._left, self._step = write, height, channels * bits // 8
        self._shape, self._kind = (width, channels), np.dtype("u1" if bits == 8 else ">u2")
        self._packer = zlib.compressobj(6)
        self._above: NDArray[np.uint8] | None = None
        write(head_chunks(width, height, channels, bits, icc=icc, exif=exif, xmp=xmp))

    def rows(
        self,
        pixels: NDArray[Any],  # (rows, W, C), uint8 or uint16
    ) -> None:
        """Append rows.

        Raises:
            ShapeError: they are of another size, or more than there are to be.
        """
        if pixels.shape[1:] != self._shape or len(pixels) > self._left:
            raise ShapeError(f"rows {pixels.shape} do not fit {self._left} more of {self._shape}")
        if not len(pixels):
            return
        lines = np.ascontiguousarray(pixels, self._kind).view(np.uint8).reshape(len(pixels), -1)
        for block in filtered(lines, self._step, self._above):
            if packed := self._packer.compress(block):
                self._write(chunk(b"IDAT", packed))
        self._above = lines[-1].copy()
        self._left -= len(pixels)

    def close(self) -> None:
        """End the file.

        Raises:
            ShapeError: rows are missing.
        """
        if self._left:
            raise ShapeError(f"{self._left} rows of the picture are missing")
        self._write(chunk(b"IDAT", self._packer.flush()) + chunk(b"IEND", b""))
