"""decode(): a `.moe` file to a picture of any size."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from moesaic.codec.file import MoeFile, decode_bytes, open_file
from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.errors import ArgumentError
from moesaic.mixture.render import render
from moesaic.picture import Picture

if TYPE_CHECKING:
    MoeSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


def decode(
    source: MoeSource,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    layers: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Picture:
    """Draw a `.moe` file.

    Args:
        source: a path, the file's bytes, or a binary stream.
        scale: output pixels per canvas pixel; 1 when neither scale nor size is given.
        size: (width, height) of the output in pixels, instead of a scale.
        region: (left, top, right, bottom) on the canvas, px; the whole canvas when None.
        layers: draw only so many leading chunks, a coarser picture.
        limits: sizes above which the file, or the output, is refused.

    Returns:
        The picture, with the profile, EXIF, XMP and depth that the file carries; colours not premultiplied.

    Raises:
        ArgumentError: the file cannot be opened, or a number is out of range.
        FormatError: it is damaged, truncated, or needs a newer moesaic.
        LimitError: it asks for more than the limits allow.
    """
    return draw(_read(source, limits, layers), scale=scale, size=size, region=region, limits=limits)


def draw(
    held: MoeFile,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Picture:
    """The picture of a file that has been read; arguments as for `decode`."""
    pixels = render(held.mixture, scale=scale, size=size, region=region, pixel_limit=limits.output_pixels)
    return Picture.from_premultiplied(
        pixels.numpy().transpose(1, 2, 0),
        depth=held.header.depth,
        icc=held.info.icc,
        exif=held.info.exif,
        xmp=held.info.xmp,
    )


def _read(source: MoeSource, limits: Limits, layers: int | None) -> MoeFile:
    with _stream(source) as stream:
        return decode_bytes(stream, limits=limits, layers=layers)


def _stream(source: MoeSource) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        return BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return open_file(source)
    if not hasattr(source, "read"):
        raise ArgumentError(f"cannot decode an object of type {type(source).__name__}: give a path, bytes or a stream")
    return nullcontext(source)  # the caller's, who closes it
