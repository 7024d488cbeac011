"""Whole `.moe` files: a mixture to bytes and back, to disk and back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from moesaic.codec.chunks import Memory, Tables, read_chunk, write_chunk
from moesaic.codec.container import VERSION, FileReader, Header, Info, write_file
from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.codec.plan import Plan, plan
from moesaic.codec.positions import Square
from moesaic.codec.quantise import Kernels, Steps, dequantise
from moesaic.errors import ArgumentError, FormatError
from moesaic.files import atomic_write
from moesaic.mixture.model import Mixture


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeFile:
    """What a file holds."""

    mixture: Mixture
    header: Header
    info: Info
    steps: Steps
    layers: int  # chunks that were read; fewer than header.chunks when a coarser picture was asked for


def write_plan(planned: Plan, *, info: Info | None = None, depth: int = 8) -> bytes:
    """The bytes of a quantised mixture's file.

    Raises:
        LimitError: no reader would take the file without raised limits.
    """
    kernels = planned.kernels
    header = Header(
        width=planned.width,
        height=planned.height,
        channels=kernels.colours.shape[1],
        order=1 if kernels.slopes.shape[1] else 0,
        kernels=len(kernels),
        chunks=len(planned.chunks),
        depth=depth,
    )
    planned.tables.check(len(kernels), DEFAULT_LIMITS)
    memory = Memory(planned.tables, Square.around(planned.width, planned.height), len(kernels))
    payloads, first = [], 0
    for chunk in planned.chunks:
        payloads.append(write_chunk(chunk, memory, kernels[first : first + chunk.kernels]))
        first += chunk.kernels
    return write_file(header, info or Info(), planned.tables.pack(), payloads)


def encode_mixture(
    mixture: Mixture,
    *,
    steps: Steps | None = None,
    chunks: int | None = None,
    info: Info | None = None,
    depth: int = 8,
) -> bytes:
    """A mixture as the bytes of a `.moe` file, quantised with given steps; nothing is fitted again.

    Args:
        mixture: at least one kernel.
        steps: the quantiser's steps; fine ones (some 0.2 dB of loss at 30 dB) when None.
        chunks: how many chunks to aim at; by the number of kernels when None.
        info: metadata to store.
        depth: bits per channel of the picture that was fitted: 8 or 16.

    Raises:
        ArgumentError: the mixture is empty, holds values that are not finite, or the steps are out of range.
    """
    return write_plan(plan(mixture, steps or Steps(), chunks=chunks), info=info, depth=depth)


def decode_bytes(data: bytes | BinaryIO, *, limits: Limits = DEFAULT_LIMITS, layers: int | None = None) -> MoeFile:
    """What the bytes of a `.moe` file hold.

    Args:
        data: the file, or a binary stream of it.
        limits: sizes above which the file is refused before anything is allocated.
        layers: read only so many leading chunks, a coarser picture, and do not look at the rest; all when None.

    Raises:
        FormatError: the file is damaged, truncated, or needs a newer moesaic.
        LimitError: it asks for more than the limits allow.
        ArgumentError: `layers` is below 1.
    """
    if layers is not None and not isinstance(layers, int):
        raise ArgumentError(f"layers ({layers!r}) must be a whole number")
    if layers is not None and layers < 1:
        raise ArgumentError(f"layers={layers}: at least one chunk has to be read")
    reader = FileReader(BytesIO(data) if isinstance(data, bytes) else data, limits=limits)
    header, info = reader.header, reader.info()
    tables = Tables.unpack(reader.tables(), channels=header.channels, order=header.order)
    tables.check(header.kernels, limits)
    memory = Memory(tables, Square.around(header.width, header.height), header.kernels)
    chunks: list[Kernels] = []
    left = header.kernels
    for payload in reader.chunks(layers):
        chunks.append(read_chunk(payload, memory, most=left - (header.chunks - len(chunks) - 1)))
        left -= len(chunks[-1])
    if len(chunks) == header.chunks and left:
        raise FormatError(f"the chunks hold {left} kernels fewer than the header says")
    mixture = dequantise(Kernels.join(chunks), tables.steps, width=header.width, height=header.height)
    return MoeFile(mixture=mixture, header=header, info=info, steps=tables.steps, layers=len(chunks))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """What a file holds, without its kernels."""

    version: int
    width: int  # px
    height: int  # px
    channels: int
    order: int
    depth: int  # bits per channel
    kernels: int
    layers: int  # chunks
    bytes: int
    bpp: float  # bits per pixel of the canvas
    icc: int  # bytes of the ICC profile, 0 when there is none
    exif: int
    xmp: int
    text: dict[str, str]
    sections: dict[str, int]  # bytes by type, frames included


def read_info(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> FileInfo:
    """What a file holds: its sections are read and their checksums verified, its kernels are not decoded.

    Raises:
        ArgumentError: the file cannot be opened.
        FormatError: it is damaged, truncated, or needs a newer moesaic.
        LimitError: it asks for more than the limits allow.
    """
    with open_file(path) as stream:
        reader = FileReader(stream, limits=limits)
        header, info = reader.header, reader.info()
        reader.tables()
        for _ in reader.chunks():
            pass
        size = stream.tell()
    sections: dict[str, int] = {}
    for kind, length in reader.sections:
        sections[kind] = sections.get(kind, 0) + length
    return FileInfo(
        version=VERSION,
        width=header.width,
        height=header.height,
        channels=header.channels,
        order=header.order,
        depth=header.depth,
        kernels=header.kernels,
        layers=header.chunks,
        bytes=size,
        bpp=8 * size / (header.width * header.height),
        icc=len(info.icc or b""),
        exif=len(info.exif or b""),
        xmp=len(info.xmp or b""),
        text=info.text,
        sections=sections,
    )


def read_header(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> tuple[Header, Info]:
    """The header and metadata of a file; its kernels are not read.

    Raises:
        ArgumentError: the file cannot be opened.
        FormatError: it is damaged before its kernels.
        LimitError: it asks for more than the limits allow.
    """
    with open_file(path) as stream:
        reader = FileReader(stream, limits=limits)
        return reader.header, reader.info()


def save(
    mixture: Mixture,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    steps: Steps | None = None,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    text: dict[str, str] | None = None,
    depth: int = 8,
) -> int:
    """Write a mixture to a `.moe` file: all of it, or nothing. Returns the number of bytes.

    Args:
        mixture: what to store; see `encode_mixture`.
        path: where the file goes.
        force: replace a file that is there.
        steps: the quantiser's steps; fine ones when None.
        icc: an ICC profile to keep.
        exif: EXIF to keep.
        xmp: XMP to keep.
        text: notes to keep.
        depth: bits per channel of the picture that was fitted: 8 or 16.

    Raises:
        ArgumentError: the mixture cannot be stored, or nothing can be written there.
        OutputExistsError: the file is there and `force` is False.
    """
    info = Info(icc=icc, exif=exif, xmp=xmp, text=text or {})
    data = encode_mixture(mixture, steps=steps, info=info, depth=depth)
    atomic_write(path, data, force=force)
    return len(data)


def load(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS, layers: int | None = None) -> Mixture:
    """The mixture in a `.moe` file, or a coarser one from its first `layers` chunks.

    Raises:
        ArgumentError: the file cannot be opened, or `layers` is below 1.
        FormatError: it is damaged, truncated, or needs a newer moesaic.
        LimitError: it asks for more than the limits allow.
    """
    return load_file(path, limits=limits, layers=layers).mixture


def load_file(path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS, layers: int | None = None) -> MoeFile:
    """As `load`, with header, metadata and steps."""
    with open_file(path) as stream:
        return decode_bytes(stream, limits=limits, layers=layers)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A file for reading.

    Raises:
        ArgumentError: it cannot be opened.
    """
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as cause:  # ValueError: a name that holds a null character
        reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        raise ArgumentError(f"cannot read {path}: {reason}") from cause
