"""Pictures in and out: bit depth, alpha, orientation, ICC, EXIF and XMP; nothing is ever guessed from pixel values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, Union, cast

import numpy as np
from PIL import Image

from moesaic import picture_files
from moesaic.errors import ArgumentError
from moesaic.files import atomic_write, refuse_existing
from moesaic.picture import Picture, check_pixel_limit, from_array, from_tensor, to_pillow
from moesaic.values import is_a, is_number

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import Tensor

    FileSource = str | os.PathLike[str] | bytes | BinaryIO

__all__ = ["PIXEL_LIMIT", "Picture", "PictureSource", "read_picture", "refuse_unfit", "to_pillow", "write_picture"]

PictureSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, "NDArray[Any]", "Tensor", Picture
]
"""Everything that `read_picture` takes."""

PIXEL_LIMIT = 2**28
"""Largest picture that `read_picture` takes unless told otherwise, in pixels: 16384 x 16384."""


def read_picture(source: PictureSource, *, pixel_limit: int = PIXEL_LIMIT) -> Picture:
    """A picture from a file, from an object of Pillow, NumPy or torch, or from the bytes of a file.

    Files are PNG, JPEG, WebP, AVIF, TIFF or BMP. Palettes and key colours are expanded, the EXIF orientation is
    applied, and 16 bits stay 16 bits. Of an animation or a file of several pages the first is taken, and a warning
    logged. CMYK is converted to sRGB and its profile left out, also with a line in the log.

    Args:
        source: a path, the bytes of a file, a binary stream, a Pillow image, a NumPy array of shape (H, W) or (H, W, C)
            in uint8, uint16 or floats in [0, 1], a torch tensor of shape (H, W) or (C, H, W) in uint8 or floats in
            [0, 1], or a `Picture`, which is returned as it is.
        pixel_limit: largest W * H to accept; checked before anything is decoded.

    Raises:
        PictureError: the file is missing, no picture, damaged, truncated, or of a kind that moesaic does not read.
        LimitError: the picture has more than `pixel_limit` pixels.
        MissingExtraError: 16-bit colour in TIFF or AVIF, and the extra `formats` is not installed.
        ShapeError: an array or tensor is no picture by its shape.
        ArgumentError: an array or tensor holds values outside [0, 1], NaN, or of another type; no known source; or
            `pixel_limit` is no number.
    """
    if not (is_number(pixel_limit) or is_a(pixel_limit, np.integer)):
        raise ArgumentError(f"pixel_limit is a number of pixels, not {type(pixel_limit).__name__}")
    if isinstance(source, Picture):
        check_pixel_limit(source.width, source.height, pixel_limit, "the picture")
        return source
    if isinstance(source, Image.Image):
        return picture_files.from_pillow(source, pixel_limit=pixel_limit)
    if isinstance(source, np.ndarray):
        return from_array(source, pixel_limit=pixel_limit)
    torch = sys.modules.get("torch")  # never imported for its own sake: that takes a second
    if torch is not None and isinstance(source, torch.Tensor):
        return from_tensor(source, pixel_limit=pixel_limit)
    return picture_files.read_file(cast("FileSource", source), pixel_limit=pixel_limit)


def write_picture(
    picture: Picture,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int | None = None,
    force: bool = False,
    metadata: Literal["keep", "strip"] = "keep",
) -> None:
    """Write a picture file, whole or not at all.

    Nothing is lost unasked: alpha and 16 bits are refused by formats that cannot hold them.

    Args:
        picture: what to write.
        path: where; the suffix chooses the format.
        format: PNG, JPEG, WebP, AVIF, TIFF or BMP, to overrule the suffix.
        quality: 1 to 100 for JPEG (95 unless given), WebP (95) and AVIF (90).
        force: replace a file that is there.
        metadata: carry ICC profile, EXIF and XMP as far as the format can, or "strip" to leave them out.

    Raises:
        PictureError: the suffix or format is unknown, or the format cannot hold this picture.
        OutputExistsError: the file is there and `force` is False.
        MissingExtraError: a TIFF of 16-bit colour, and the extra `formats` is not installed.
        ArgumentError: the quality or `metadata` is none of those above, the path cannot be written, or `picture` is no
            `Picture`.
    """
    if not is_a(picture, Picture):
        raise ArgumentError(f"write_picture takes a Picture, not {_instead_of(picture)}")
    if metadata not in ("keep", "strip"):
        raise ArgumentError(f"metadata is 'keep' or 'strip', not {metadata!r}")
    kind = picture_files.format_of(Path(path), format)
    refuse_existing(path, force=force)
    data = picture_files.encode(picture if metadata == "keep" else picture.without_metadata(), kind, quality=quality)
    atomic_write(path, data, force=force)


def _instead_of(value: object) -> str:
    """What was passed for a picture, and what to pass."""
    if is_a(getattr(value, "picture", None), Picture):
        return f"a {type(value).__name__}; pass its .picture"
    return f"an object of type {type(value).__name__}; moesaic.read_picture makes pictures of files, arrays and tensors"


def refuse_unfit(picture: Picture, path: str | os.PathLike[str], *, quality: int | None = None) -> None:
    """Refuse a file's format that cannot hold pictures of this kind, before the work that would make one.

    Raises:
        PictureError: the suffix is unknown, or the format cannot hold the picture's depth or alpha.
        MissingExtraError: it needs the extra `formats`, which is not installed.
        ArgumentError: the format takes no such `quality`.
    """
    corner = Picture(pixels=picture.pixels[:1, :1], depth=picture.depth)
    picture_files.encode(corner, picture_files.format_of(Path(path), None), quality=quality)
