"""Sheets that explain a decision: pictures side by side, bars, keys and texts, in one look for all tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic.picture import Picture

WIDTH = 1200  # px
MARGIN, GAP = 32, 24
HIGHEST = 640  # px, of each of two pictures
_LARGEST = 8  # times that small pictures are enlarged
HEAD, TEXT, SMALL = 25, 20, 16  # px, of letters

Colour = tuple[int, int, int]

SHEET, INK, MUTED, TRACK = (255, 255, 255), (33, 37, 43), (110, 116, 126), (230, 233, 238)
BLUE, ORANGE, PALE, GREY = (0, 114, 178), (222, 128, 16), (231, 242, 250), (158, 164, 174)


def fitted(picture: Picture) -> Image.Image:
    """The picture as it fits its place on the sheet."""
    wide, high = (WIDTH - 2 * MARGIN - GAP) // 2, HIGHEST
    scale = min(wide / picture.width, high / picture.height)
    size = tuple(max(1, int(side * min(scale, 1))) for side in (picture.width, picture.height))
    step = max(1, int(0.5 / scale))  # of a large picture no more is converted than can be seen
    pixels = Picture(pixels=picture.pixels[::step, ::step]).over(1.0).pixels
    bytes_ = np.rint(pixels * np.float32(255)).astype(np.uint8)
    image = Image.fromarray(bytes_[..., 0] if bytes_.shape[2] == 1 else bytes_).convert("RGB")
    if scale < 1:
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    times = min(_LARGEST, int(scale))
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)


def draw_bar(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    share: float,
    colour: Colour,
    *,
    track: Colour | None = TRACK,
) -> None:
    """A bar that is filled by a share of its length."""
    left, top, right, bottom = box
    if track is not None:
        draw.rounded_rectangle(box, 3, fill=track)
    length = round((right - left) * min(max(share, 0.0), 1.0))
    if length:
        draw.rounded_rectangle((left, top, left + length, bottom), min(3, length // 2), fill=colour)


def draw_key(draw: ImageDraw.ImageDraw, place: tuple[int, int], entries: Sequence[tuple[Colour, str]]) -> None:
    """What the colours of the bars mean."""
    x, y = place
    for colour, text in entries:
        draw.rounded_rectangle((x, y + 3, x + 12, y + 15), 3, fill=colour)
        write(draw, (x + 20, y), text, SMALL, MUTED)
        x += 20 + length(text, SMALL) + GAP


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: Colour = INK,
    anchor: str = "la",
) -> None:
    """A line of text; `size` and place in px."""
    draw.text(place, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def length(text: str, size: int) -> int:
    """How wide a line of text is, px."""
    return int(np.ceil(ImageFont.load_default(size).getlength(text)))


def percent(share: float) -> str:
    """A share for people."""
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
