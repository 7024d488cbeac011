"""decode(): a `.moe` file to a picture of any size."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from moesaic import rows
from moesaic.codec.file import MoeFile, decode_bytes, open_file
from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.errors import ArgumentError
from moesaic.image import write_picture
from moesaic.mixture.render import output_size, render, render_bands
from moesaic.picture import Frame, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    frame, bands = draw_bands(held, scale=scale, size=size, region=region, limits=limits)
    first = next(bands)
    if len(first) == frame.height:
        return frame.filled(first)
    pixels = np.empty((frame.height, frame.width, frame.channels), np.float32)
    done = 0
    for band in itertools.chain([first], bands):
        pixels[done : done + len(band)] = band
        done += len(band)
    return frame.filled(pixels)


def draw_bands(
    held: MoeFile,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[Frame, Iterator[NDArray[np.float32]]]:  # each (rows, W, C), in [0, 1]
    """As `draw`, for a picture that is never in memory as a whole: its frame, and its pixels from top to bottom.

    Up to `moesaic.rows.LARGE` pixels it is one band.

    Raises:
        ArgumentError: a number is out of range.
        LimitError: the picture is larger than the limits allow.
    """
    options: dict[str, Any] = {"scale": scale, "size": size, "region": region, "pixel_limit": limits.output_pixels}
    width, height = output_size(held.mixture, **options)
    if width * height > rows.LARGE:
        bands = render_bands(held.mixture, **options)
    else:
        bands = iter([render(held.mixture, **options)])
    frame = Frame(
        width=width,
        height=height,
        channels=held.header.channels,
        depth=held.header.depth,
        icc=held.info.icc,
        exif=held.info.exif,
        xmp=held.info.xmp,
    )
    return frame, (Picture.from_premultiplied(band.numpy().transpose(1, 2, 0)).pixels for band in bands)


def draw_to(
    held: MoeFile,
    path: str | os.PathLike[str],
    *,
    depth: int | None = None,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    quality: int | None = None,
    force: bool = False,
    metadata: Literal["keep", "strip"] = "keep",
) -> Frame:
    """Draw a file that has been read into a picture file, band by band, and tell what was drawn.

    Args:
        held: the file.
        path: where the picture goes; the suffix chooses the format.
        depth: bits a channel, 8 or 16; those of the source unless given.
        scale: as for `decode`, and so are the next three.
        size: px.
        region: px of the canvas.
        limits: of sizes.
        quality: as `moesaic.write_picture` takes it, and so are the next two.
        force: replace a file that is there.
        metadata: keep or strip.

    Raises:
        ArgumentError: a number is out of range, or the path cannot be written.
        LimitError: the picture is larger than the limits allow.
        PictureError: the format cannot hold the picture.
        OutputExistsError: the file is there and `force` is False.
        MissingExtraError: a TIFF of 16-bit colour, and the extra `formats` is not installed.
    """
    frame, bands = draw_bands(held, scale=scale, size=size, region=region, limits=limits)
    if depth is not None:
        frame = replace(frame, depth=depth)
    if frame.width * frame.height <= rows.LARGE:
        write_picture(frame.filled(next(bands)), path, quality=quality, force=force, metadata=metadata)
        return frame
    with rows.write_rows(path, frame, quality=quality, force=force, metadata=metadata) as write:
        for band in bands:
            write(band)
    return frame


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
