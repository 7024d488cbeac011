"""A sheet of panels: rows of pictures, each with a title, what it shows, and a key or scale below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from moesaic.explain.colours import ramp
from moesaic.sheet import (
    GAP,
    HEAD,
    INK,
    MARGIN,
    MUTED,
    SHEET,
    SMALL,
    TEXT,
    WIDTH,
    Colour,
    draw_key,
    length,
    write,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINE = SMALL + 5  # px, of small letters
_BAR = 14  # px, the height of a scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the colours of amounts mean."""

    anchors: NDArray[np.int64]  # (A, 3)
    ticks: tuple[tuple[float, str], ...]  # places on the scale, from 0 to 1, and what stands there
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture of a sheet."""

    image: Image.Image
    title: str = ""
    told: str = ""  # what it shows; broken into lines where it is long
    key: tuple[tuple[Colour, str], ...] = ()
    scale: Scale | None = None


def room(columns: int, highest: int) -> tuple[int, int]:
    """Width and height, px, that the picture of one of so many panels side by side may have."""
    return (WIDTH - 2 * MARGIN - (columns - 1) * _gap(columns)) // columns, highest


def fitting(width: float, height: float, box: tuple[int, int]) -> tuple[int, int]:
    """The largest size of these proportions within a box, px; no side is below 1."""
    scale = min(box[0] / width, box[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def placed(
    pixels: NDArray[np.uint8],  # (H, W, 3)
    size: tuple[int, int],  # (width, height), px
) -> Image.Image:
    """Pixels at another size: their means where that is smaller, sharp squares where it is larger."""
    smaller = size[0] < pixels.shape[1] or size[1] < pixels.shape[0]
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)


def sheet(
    title: str, told: Sequence[str], rows: Sequence[Sequence[Panel]], *, columns: int | None = None
) -> Image.Image:
    """The sheet, 1200 px wide: a title, lines below it, and rows of panels.

    Args:
        title: in large letters; shortened where it is too long.
        told: lines below it, broken where they are too long.
        rows: of panels.
        columns: of all rows; as many as each has panels when None.
    """
    across = WIDTH - 2 * MARGIN
    title = _shortened(" ".join(title.split()), HEAD, across)
    lines = [line for text in told for line in _broken(text, TEXT, across)]
    laid = [_Row(row, columns or len(row)) for row in rows if row]
    head = MARGIN + HEAD + 10 + len(lines) * (TEXT + 6)
    image = Image.new("RGB", (WIDTH, head + sum(row.height + GAP for row in laid) + MARGIN), SHEET)
    draw = ImageDraw.Draw(image)
    write(draw, (MARGIN, MARGIN), title, HEAD)
    for place, line in enumerate(lines):
        write(draw, (MARGIN, MARGIN + HEAD + 10 + place * (TEXT + 6)), line, TEXT, MUTED)
    top = head + GAP
    for row in laid:
        row.draw(image, draw, top)
        top += row.height + GAP
    return image


def headed(below: Image.Image, title: str, told: Sequence[str]) -> Image.Image:
    """A sheet that was drawn elsewhere, with a head as all have."""
    head = sheet(title, told, [])
    joined = Image.new("RGB", (WIDTH, head.height - MARGIN + below.height), SHEET)
    joined.paste(head, (0, 0))
    joined.paste(below, (0, head.height - MARGIN))
    return joined


class _Row:
    """Panels side by side; their pictures begin at one height."""

    def __init__(self, panels: Sequence[Panel], columns: int) -> None:
        self._panels, self._gap = panels, _gap(columns)
        self._wide = room(columns, 1)[0]
        self._told = [_broken(panel.told, SMALL, self._wide) for panel in panels]
        self._titled = TEXT + 8 if any(panel.title for panel in panels) else 0
        self._head = self._titled + max(len(lines) for lines in self._told) * _LINE + 4
        keys = any(panel.key for panel in panels)
        below = 10 + _BAR + 6 + _LINE if any(panel.scale for panel in panels) else 10 + _LINE if keys else 0
        self._pictures = max(panel.image.height for panel in panels)
        self.height = self._head + self._pictures + below

    def draw(self, image: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
        """At a height of the sheet, px."""
        for place, (panel, lines) in enumerate(zip(self._panels, self._told, strict=True)):
            left = MARGIN + place * (self._wide + self._gap)
            if panel.title:
                write(draw, (left, top), panel.title, TEXT, INK)
            for number, line in enumerate(lines):
                write(draw, (left, top + self._titled + number * _LINE), line, SMALL, MUTED)
            image.paste(panel.image, (left, top + self._head))
            below = top + self._head + panel.image.height + 10
            if panel.scale is not None:
                _draw_scale(image, draw, (left, below), min(max(self._wide, 300), 420), panel.scale)
            elif panel.key:
                draw_key(draw, (left, below), panel.key)


def _draw_scale(image: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int], wide: int, scale: Scale) -> None:
    """A bar of the colours, with its ticks and unit below it."""
    left, top = place
    bar = np.broadcast_to(ramp(np.linspace(0, 1, wide), scale.anchors), (_BAR, wide, 3))
    image.paste(Image.fromarray(np.ascontiguousarray(bar)), place)
    for at, text in scale.ticks:
        x = left + round(at * (wide - 1))
        draw.line((x, top + _BAR, x, top + _BAR + 3), fill=MUTED)
        half = length(text, SMALL) // 2
        x = max(left + half, min(x, left + wide - half)) if at in (0, 1) else x
        write(draw, (x, top + _BAR + 5), text, SMALL, MUTED, "ma")
    write(draw, (left + wide + 12, top + _BAR - SMALL + 1), scale.unit, SMALL, MUTED)


def _gap(columns: int) -> int:
    return GAP if columns < 4 else GAP // 2


def _broken(text: str, size: int, wide: int) -> list[str]:
    """A text in lines that fit a width, px; a word that does not fit is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and length(longer, size) <= wide:
            lines[-1] = longer
        else:
            lines.append(_shortened(word, size, wide))
    return lines


def _shortened(text: str, size: int, wide: int) -> str:
    """A text that fits a width, px, with dots in the middle of a longer one."""
    if length(text, size) <= wide:
        return text
    kept = len(text)
    while kept > 2 and length(f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}", size) > wide:
        kept -= max(1, kept // 20)
    return f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"
