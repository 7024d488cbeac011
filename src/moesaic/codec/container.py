"""The `.moe` container: magic, header, sections with checksums. No arithmetic of kernels happens here.

    file     = magic, HEAD, (sections that may be ignored), QUAN, KERN x chunks
    section  = 4-byte type, payload length (varint), payload, CRC-32 of all before it in the section (little-endian)

A type that begins with a capital must be understood; an unknown one that begins with a small letter is skipped,
wherever it stands after HEAD. The order of known sections is fixed and each but KERN stands at most once, so that a
picture has one form.

Source: the container idea is PNG's (ISO/IEC 15948, sections 5.2 and 5.3).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.errors import ArgumentError, FormatError

MAGIC = b"\x89MOE\r\n\x1a\n"  # a high bit, both line ends and an end-of-text mark: a damaging transfer changes one
VERSION = 1
CODER = (1, 1)  # entropy coder (1: ANS of 24-bit frequencies, 32-bit words) and the version of its bits

KNOWN_MUST_FLAGS = 0  # features that change what the kernels mean; none so far
METADATA_TYPES = {b"iccp": "icc", b"exif": "exif", b"xmpm": "xmp", b"text": "text"}  # in the order of the file
EXIF_PREFIX = b"Exif\0\0"
_PIECE = 2**20  # bytes read at once, so that a lying length never allocates more than it delivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says before its kernels: the canvas, the kind of picture, and how many kernels and chunks follow."""

    width: int  # px
    height: int  # px
    channels: int  # 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; colours are premultiplied where there is alpha
    order: int  # 0 constant experts, 1 linear ones
    kernels: int  # of all chunks
    chunks: int
    depth: int = 8  # bits per channel of the picture that was encoded: 8 or 16
    may_flags: int = 0  # hints that a reader may ignore

    def check(self, limits: Limits) -> None:
        """Raise unless a mixture with this header may exist under `limits`.

        Raises:
            LimitError: the canvas or the number of kernels is above its limit.
            FormatError: a field holds a value that version 1 does not know.
        """
        if self.width < 1 or self.height < 1:
            raise FormatError(f"the canvas is {self.width}x{self.height} px; both sides must be at least 1")
        if not 1 <= self.chunks <= self.kernels:
            raise FormatError(f"{self.kernels} kernels in {self.chunks} chunks: each chunk holds at least one kernel")
        limits.check("side", max(self.width, self.height), "the longer side of the canvas has pixels:")
        limits.check("canvas_pixels", self.width * self.height, "the canvas has pixels:")
        limits.check("kernels", self.kernels, "the file declares kernels:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Metadata that travels with a mixture; every part may be absent."""

    icc: bytes | None = None  # an ICC profile
    exif: bytes | None = None  # starts with b"Exif\0\0", which the file leaves out; orientation 1
    xmp: bytes | None = None  # an XMP packet
    text: dict[str, str] = field(default_factory=dict)  # free notes


# --- writing ----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """An unsigned integer in groups of 7 bits, least significant first (LEB128)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """A signed integer, folded so that small magnitudes of both signs stay short (zigzag)."""
    return varint(2 * value if value >= 0 else -2 * value - 1)


def section(kind: bytes, payload: bytes) -> bytes:
    """One section: type, length, payload, CRC-32."""
    body = kind + varint(len(payload)) + payload
    return body + zlib.crc32(body).to_bytes(4, "little")


def write_file(header: Header, info: Info, tables: bytes, chunks: list[bytes]) -> bytes:
    """The bytes of a whole file.

    Raises:
        LimitError: canvas, kernels or metadata exceed what a reader accepts by default.
    """
    header.check(DEFAULT_LIMITS)
    metadata = sum(len(held or b"") for held in (info.icc, info.exif, info.xmp))
    metadata += sum(len(key.encode()) + len(value.encode()) for key, value in info.text.items())
    DEFAULT_LIMITS.check("metadata_bytes", metadata, "the metadata to be stored has bytes:")
    parts = [MAGIC, section(b"HEAD", _pack_header(header))]
    if info.icc:
        parts.append(section(b"iccp", info.icc))
    if info.exif:
        parts.append(section(b"exif", info.exif.removeprefix(EXIF_PREFIX)))
    if info.xmp:
        parts.append(section(b"xmpm", info.xmp))
    if info.text:
        parts.append(section(b"text", _pack_text(info.text)))
    parts.append(section(b"QUAN", tables))
    parts.extend(section(b"KERN", chunk) for chunk in chunks)
    return b"".join(parts)


def _pack_header(header: Header) -> bytes:
    if header.channels not in (1, 2, 3, 4) or header.order not in (0, 1) or header.depth not in (8, 16):
        raise ArgumentError(f"a file holds 1 to 4 channels, order 0 or 1, depth 8 or 16, not {header!r}")
    kind = (header.channels - 1) | header.order << 2 | (header.depth == 16) << 3
    fixed = bytes([VERSION, 0, header.may_flags, *CODER, kind])
    return fixed + b"".join(varint(n) for n in (header.width, header.height, header.kernels, header.chunks))


def _pack_text(text: dict[str, str]) -> bytes:
    out = bytearray()
    for pair in text.items():
        for part in pair:
            raw = part.encode("utf-8")
            out += varint(len(raw)) + raw
    return bytes(out)


# --- reading ----------------------------------------------------------------------------------------------------------


class Cursor:
    """Reads the small fields of a payload in order; every shortage or excess is a FormatError."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self._data) - self._at:
            raise FormatError(f"{self._what} ends {count - len(self._data) + self._at} bytes too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def unsigned(self, most: int) -> int:
        """The next varint, at most `most`; the shortest form is the only one."""
        value, shift = 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 35:
                raise FormatError(f"{self._what} holds an integer of more than 36 bits")
        if shift and byte == 0:
            raise FormatError(f"{self._what} holds an integer in overlong form")
        if value > most:
            raise FormatError(f"{self._what} holds the value {value}, at most {most} can stand there")
        return value

    def signed(self, most: int) -> int:
        """The next signed varint, of magnitude at most `most`."""
        folded = self.unsigned(2 * most)
        return -((folded + 1) // 2) if folded & 1 else folded // 2

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data) - self._at)

    def done(self) -> None:
        """Raise when bytes are left over."""
        if self._at != len(self._data):
            raise FormatError(f"{self._what} holds {len(self._data) - self._at} bytes too many")


def _parse_header(payload: bytes) -> Header:
    cursor = Cursor(payload, "the header")
    version = cursor.byte()
    if version != VERSION:
        raise FormatError(f"the file is of version {version}; this moesaic reads version {VERSION}: update moesaic")
    must, may = cursor.byte(), cursor.byte()
    if must & ~KNOWN_MUST_FLAGS:
        raise FormatError(f"the file needs features that this moesaic lacks (flags {must:#04x}): update moesaic")
    coder = (cursor.byte(), cursor.byte())
    if coder != CODER:
        raise FormatError(f"the file uses entropy coder {coder}; this moesaic knows {CODER}: update moesaic")
    kind = cursor.byte()
    if kind >> 4:
        raise FormatError(f"the header describes an unknown kind of picture ({kind:#04x})")
    width, height, kernels, chunks = (cursor.unsigned(2**32) for _ in range(4))
    cursor.done()
    return Header(
        width=width,
        height=height,
        channels=(kind & 3) + 1,
        order=kind >> 2 & 1,
        kernels=kernels,
        chunks=chunks,
        depth=16 if kind & 8 else 8,
        may_flags=may,
    )


def _parse_text(payload: bytes) -> dict[str, str]:
    cursor, text = Cursor(payload, "the text section"), {}
    left = len(payload)
    while left:
        key, value = (cursor.take(cursor.unsigned(len(payload))) for _ in range(2))
        left -= len(varint(len(key))) + len(varint(len(value))) + len(key) + len(value)
        try:
            name = key.decode("utf-8")
            if name in text:
                raise FormatError(f"the text section holds {name!r} twice")
            text[name] = value.decode("utf-8")
        except UnicodeDecodeError as cause:
            raise FormatError("the text section is not UTF-8") from cause
    return text


class FileReader:
    """Reads a file from a binary stream, section by section, within limits.

    The header is read at once; `info()` reads the metadata; `tables()` and `chunks()` follow in this order.

    Raises:
        FormatError: the stream is no `.moe` file, is damaged, or needs a newer moesaic.
        LimitError: the header asks for more than the limits allow.
    """

    def __init__(self, stream: BinaryIO, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._stream, self._limits, self._read = stream, limits, 0
        self.sections: list[tuple[str, int]] = []  # type and bytes of each section read so far, its frame included
        self._pending: tuple[bytes, bytes] | None = None
        magic = self._take(len(MAGIC), "the magic")
        if magic != MAGIC:
            damaged = magic[1:4] == MAGIC[1:4]
            hint = ": it was damaged by a transfer that changes line ends or strips bits" if damaged else ""
            raise FormatError(f"this is no .moe file{hint}")
        kind, payload = self._section()
        if kind != b"HEAD":
            raise FormatError(f"the file begins with section {_show(kind)}, not with HEAD")
        self.header = _parse_header(payload)
        self.header.check(limits)

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the stream so far."""
        return self._read

    def info(self) -> Info:
        """The metadata sections."""
        found: dict[str, bytes] = {}
        order, room = list(METADATA_TYPES), self._limits.metadata_bytes
        while self._peek() in METADATA_TYPES:
            kind, payload = self._next()
            if kind not in order:
                raise FormatError(f"section {_show(kind)} stands twice or out of order")
            order = order[order.index(kind) + 1 :]
            room -= len(payload)
            self._limits.check("metadata_bytes", self._limits.metadata_bytes - room, "the file's metadata has bytes:")
            found[METADATA_TYPES[kind]] = EXIF_PREFIX + payload if kind == b"exif" else payload
        text = _parse_text(found.pop("text")) if "text" in found else {}
        return Info(**found, text=text)

    def tables(self) -> bytes:
        """The payload of the quantiser's section."""
        kind, payload = self._next()
        if kind != b"QUAN":
            raise FormatError(f"section {_show(kind)} stands where the quantiser's tables (QUAN) must")
        return payload

    def chunks(self, layers: int | None = None) -> Iterator[bytes]:
        """The payloads of the first `layers` chunks; when None of all, after which the file must end."""
        for i in range(self.header.chunks if layers is None else min(layers, self.header.chunks)):
            kind, payload = self._next()
            if kind != b"KERN":
                raise FormatError(f"section {_show(kind)} stands where chunk {i + 1} of {self.header.chunks} must")
            yield payload
        if layers is None and self._peek() is not None:
            raise FormatError(f"section {_show(self._next()[0])} follows the last chunk, where the file must end")

    def _next(self) -> tuple[bytes, bytes]:
        if self._peek() is None:
            raise FormatError("the file ends before its last chunk")
        assert self._pending is not None  # noqa: S101 - a promise of _peek, for the type checker
        found, self._pending = self._pending, None
        return found

    def _peek(self) -> bytes | None:
        """The type of the next section that is to be understood, or None at the end of the file."""
        while self._pending is None:
            first = self._stream.read(1)
            if not first:
                return None
            self._read += 1
            kind, payload = self._section(first)
            if kind in METADATA_TYPES or kind in (b"HEAD", b"QUAN", b"KERN"):
                self._pending = kind, payload
            elif kind[:1].isupper():
                raise FormatError(f"section {_show(kind)} must be understood and is unknown: update moesaic")
        return self._pending[0]

    def _section(self, first: bytes = b"") -> tuple[bytes, bytes]:
        kind = first + self._take(4 - len(first), "a section's type")
        if not kind.isalnum() or not kind[:1].isalpha():
            raise FormatError(f"{_show(kind)} is no section type")
        raw = self._take(1, "a section's length")
        while raw[-1] >= 0x80 and len(raw) < 6:
            raw += self._take(1, "a section's length")
        length = Cursor(raw, f"the length of section {_show(kind)}").unsigned(2**36)
        most = "metadata_bytes" if kind in METADATA_TYPES else "section_bytes"
        self._limits.check(most, length, f"section {_show(kind)} declares bytes:")
        payload = self._take(length, f"section {_show(kind)}")
        crc = int.from_bytes(self._take(4, f"the checksum of section {_show(kind)}"), "little")
        if zlib.crc32(kind + raw + payload) != crc:
            raise FormatError(f"section {_show(kind)} is damaged: its CRC-32 does not agree")
        self.sections.append((kind.decode(), len(kind) + len(raw) + length + 4))
        return kind, payload

    def _take(self, count: int, what: str) -> bytes:
        self._limits.check("file_bytes", self._read + count, "the file has bytes:")
        pieces, left = [], count
        while left:
            piece = self._stream.read(min(left, _PIECE))
            if not piece:
                raise FormatError(f"the file ends within {what}, {left} bytes too early")
            pieces.append(piece)
            left -= len(piece)
        self._read += count
        return b"".join(pieces)


def _show(kind: bytes) -> str:
    return repr(kind)[1:]
