"""A contact sheet: one picture in all of its degradations, each with its name and severity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moesaic.degrade.filters import resize
from moesaic.degrade.ranges import KINDS
from moesaic.degrade.use import Degraded, degrade

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = 5
SIDE = 240  # px of a cell's longer side: small enough for a page, large enough for streaks to be seen
_GAP = 6  # px between cells
_CAPTION = 16  # px below each


def contact_sheet(pixels: NDArray[Any], *, seed: int = 0, severity: float | None = None) -> NDArray[np.uint8]:
    """A sheet (H', W', 3) of the picture as it is and in every kind of `KINDS`.

    The picture is made smaller first, if it is larger than a cell, since degradations are of a size in pixels.

    Args:
        pixels: (H, W, 3) as in `moesaic.degrade.use.degrade`.
        seed: of the degradations.
        severity: of all of them; drawn for each unless given.

    Raises:
        ShapeError: the pixels have another shape.
        ArgumentError: as from `degrade`.
    """
    clean = degrade(pixels, "noise", params={"sigma": 0, "clip": True, "seed": 0}).pixels.astype(np.float64)
    scale = SIDE / max(clean.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in clean.shape[:2])
        clean = np.clip(resize(clean, height, width), 0, 1)
    cells = {"clean": np.floor(clean * 255 + 0.5).astype(np.uint8)}
    for kind in KINDS:
        degraded = degrade(clean, kind, seed=seed, severity=severity)
        cells[caption(degraded)] = degraded.levels()
    return _drawn(cells)


def caption(degraded: Degraded) -> str:
    """Its kind and how severe it is, as "low light 0.42"; of a composite each part, where they are not alike."""
    parts = degraded.params.get("parts", [{"params": degraded.params}])
    severities = dict.fromkeys(f"{part['params']['severity']:.2f}" for part in parts)
    return f"{degraded.kind.replace('_', ' ')} {', '.join(severities)}"


def _drawn(cells: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = next(iter(cells.values())).shape[:2]
    font = ImageFont.load_default(11)
    widest = max(math.ceil(font.getlength(name)) for name in cells)
    across, down = max(width, widest) + _GAP, height + _CAPTION + _GAP
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * across + _GAP, rows * down + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (name, cell) in enumerate(cells.items()):
        left, top = _GAP + place % COLUMNS * across, _GAP + place // COLUMNS * down
        sheet.paste(Image.fromarray(cell), (left, top))
        pen.text((left, top + height + 1), name, fill="black", font=font)
    return np.asarray(sheet)
