"""The options that verbs share, and how their values are read."""

# Annotations are real here, not postponed: typer evaluates them.
import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from moesaic.errors import ArgumentError

PIXELS = 2**28  # the library's PIXEL_LIMIT, repeated as importing it would load NumPy; a test holds the two equal


class Carry(Enum):
    """What becomes of ICC profile, EXIF and XMP."""

    KEEP = "keep"
    STRIP = "strip"


def read_size(text: str | None) -> tuple[int, int] | None:
    """Width and height, px, from `1920x1080`.

    Raises:
        ArgumentError: the text is of another form.
    """
    if text is None:
        return None
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.isdecimal() and len(side) < 10 and int(side) > 0 for side in sides):
        raise ArgumentError(f"--size {text!r} is no size; write WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(sides[0]), int(sides[1])


def read_region(text: str | None) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom, px of the canvas, from `0,0,320,240`.

    Raises:
        ArgumentError: the text is of another form, or the region is empty.
    """
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        left = top = right = bottom = math.nan
    if not (left < right and top < bottom and all(map(math.isfinite, (left, top, right, bottom)))):
        raise ArgumentError(f"--region {text!r} is no region; write LEFT,TOP,RIGHT,BOTTOM, such as 0,0,320,240")
    return left, top, right, bottom


def read_positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise typer.BadParameter(f"{text!r} is no number above 0")
    return value


def read_share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text!r} is no number from 0 to 1")
    return value


def read_format(text: str) -> str:
    """The suffix of a picture file without its dot, from `jpg` or `.jpg`; whether it is known shows later.

    Raises:
        ArgumentError: the text is no suffix.
    """
    suffix = text.removeprefix(".")
    if not suffix.isalnum():
        raise ArgumentError(
            f"--format {text!r} is no suffix of a picture file; write png, jpg, webp, avif, tiff or bmp"
        )
    return suffix


def positive(meaning: str, metavar: str = "NUMBER") -> typer.models.OptionInfo:
    """An option that takes a number above 0."""
    option: typer.models.OptionInfo = typer.Option(
        parser=read_positive, metavar=metavar, help=meaning, show_default=False
    )
    return option


Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT", help="Files, or folders of them.")]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUTPUT",
        help="One input: the file to write. Several, or a folder: a folder. The name of a new folder ends in a slash. "
        "Without it: beside each input.",
        show_default=False,
    ),
]
Format = Annotated[
    str, typer.Option(metavar="SUFFIX", help="Where -o names no file: png, jpg, webp, avif, tif or bmp.")
]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="For jpg, webp and avif.", show_default=False)]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders of folders; mirror the tree.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace outputs that are there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each input, and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and no news of success.")]
Metadata = Annotated[Carry, typer.Option(help="Carry ICC profile, EXIF and XMP, or leave them out.")]
PixelLimit = Annotated[int, typer.Option(min=1, metavar="PIXELS", help="Refuse pictures with more pixels.")]
