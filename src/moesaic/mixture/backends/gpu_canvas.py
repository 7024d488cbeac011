"""Where the pixels of one picture, or of many drawn at once, lie: tables of cells from large to tiles, on the device.

Pictures that are drawn together stand one after another in flat arrays; each tile knows its picture's size and first
pixel, so that nothing else in the GPU backend has to know how many pictures there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from moesaic.mixture.backends.layout import TILE

ROOT = 4 * TILE  # px; the largest cells of a small picture
MOST = 2**28  # tests of kernel against cell that a picture's largest cells may cost; beyond it they are made larger
COLUMNS = 6  # of a table of cells: left, top, canvas width, canvas height, all px; parent; first pixel of the picture


@dataclass(frozen=True, slots=True)
class Level:
    """Square cells of one size that cover all pictures."""

    side: int  # px
    cells: Tensor  # (M, 6) int32; the parent is a cell of the level above, and at the top the picture


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pictures that are drawn at once, and their cells from large ones down to tiles."""

    sizes: tuple[tuple[int, int], ...]  # (width, height) of each picture, px
    kernels: tuple[int, ...]  # kernels of each picture
    levels: tuple[Level, ...]  # the last one holds the tiles
    kernel_start: Tensor  # (P + 1,) int32, where a picture's kernels begin
    bounds: Tensor  # (P, 2) int32, width and height
    room: dict[float, tuple[int, ...]] = field(
        default_factory=dict
    )  # by margin: the room that lists were found to need

    @property
    def tiles(self) -> Tensor:  # (T, 6) int32
        """The table of tiles."""
        return self.levels[-1].cells

    @property
    def pixels(self) -> int:
        """Of all pictures together."""
        return sum(width * height for width, height in self.sizes)

    @property
    def total(self) -> int:
        """Kernels of all pictures together."""
        return sum(self.kernels)


@lru_cache(maxsize=32)
def canvas(sizes: tuple[tuple[int, int], ...], kernels: tuple[int, ...], device: torch.device) -> Canvas:
    """The tables for pictures of these sizes, with so many kernels each."""
    side = ROOT
    while side < 2**15 and max(n * _cells(size, side) for size, n in zip(sizes, kernels, strict=True)) > MOST:
        side *= 2
    levels: list[Level] = []
    while side >= TILE:
        levels.append(Level(side, torch.from_numpy(_table(sizes, side, top=not levels)).to(device)))
        side //= 2
    starts = torch.from_numpy(np.concatenate([[0], np.cumsum(kernels)]).astype(np.int32)).to(device)
    bounds = torch.tensor(sizes, dtype=torch.int32).to(device)
    return Canvas(sizes, kernels, tuple(levels), starts, bounds)


def _cells(size: tuple[int, int], side: int) -> int:
    return -(-size[0] // side) * -(-size[1] // side)


def _table(sizes: tuple[tuple[int, int], ...], side: int, *, top: bool) -> np.ndarray:  # (M, 6)
    parts = []
    above, pixel = 0, 0
    for picture, (width, height) in enumerate(sizes):
        across, down = -(-width // side), -(-height // side)
        y, x = np.divmod(np.arange(across * down), across)
        wide = -(-width // (2 * side))  # cells in a row of the level above
        parent = np.full_like(x, picture) if top else above + y // 2 * wide + x // 2
        same = np.ones_like(x)
        parts.append(np.stack([x * side, y * side, same * width, same * height, parent, same * pixel], axis=1))
        above += wide * -(-height // (2 * side))
        pixel += width * height
    return np.concatenate(parts).astype(np.int32)
