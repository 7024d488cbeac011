"""What was sent: its kind and size, and the name that its owner gave it."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from moesaic.app.limits import MEGAPIXEL, Limits
from moesaic.errors import LimitError, MoesaicError, PictureError

MAGIC = b"\x89MOE"


def as_chosen(name: str) -> str:
    """A file's name as it was before a browser put it into a form, which escapes three letters (WHATWG, HTML 4.10)."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def clean_name(name: str, limits: Limits) -> str:
    """A picture's name without folders, suffix, control letters, and what reads backwards; never empty.

    It is text for people and for the names of downloads, and no path is ever made of it.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    letters = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    stem, dot, suffix = letters.rpartition(".")
    stem = (stem if dot and stem and len(suffix) <= 5 else letters).strip(" .")
    return stem[: limits.name_letters].strip() or "picture"


def look_at(path: Path, limits: Limits) -> dict[str, Any]:
    """Bytes, width, height and kind of a file, from its first part alone: nothing is decoded.

    Raises:
        PictureError: it is neither a picture nor a mixture that can be read, or has too many pixels.
    """
    size = path.stat().st_size
    if size == 0:
        raise PictureError("This file is empty. Choose another one.")
    with path.open("rb") as file:
        head = file.read(len(MAGIC))
    moe = head == MAGIC
    width, height = _size_of_mixture(path) if moe else _size_of_picture(path, limits)
    return {"bytes": size, "width": width, "height": height, "kind": "moe" if moe else "picture"}


def _size_of_mixture(path: Path) -> tuple[int, int]:
    from moesaic.codec.file import read_header

    try:
        header, _ = read_header(path)
    except MoesaicError as error:
        raise PictureError("This .moe file is damaged or not complete. Choose another one, or make it anew.") from error
    return header.width, header.height


def _size_of_picture(path: Path, limits: Limits) -> tuple[int, int]:
    from moesaic.picture_files import kind_of, read_size

    with path.open("rb") as file:
        if kind_of(file.read(32)) is None:
            raise PictureError(
                "This file is no picture that can be read here. Choose a JPEG, PNG, WebP, AVIF, TIFF, BMP or .moe file."
            )
    try:
        return read_size(path, pixel_limit=limits.pixels)
    except LimitError as error:
        raise PictureError(
            f"This picture has more than {limits.pixels / MEGAPIXEL:,.0f} megapixels, which are the most here. Make it"
            " smaller first."
        ) from error
    except PictureError as error:
        raise PictureError(
            "This picture is damaged or not complete. Open it elsewhere, save it anew, and try again."
        ) from error
