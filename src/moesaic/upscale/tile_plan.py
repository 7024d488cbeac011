"""Where the tiles of a picture lie that meet on their way through a network, and how they are put together again."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch

from moesaic.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


class Area(NamedTuple):
    """A rectangle of cells, counted from the picture's corner."""

    top: int
    bottom: int
    left: int
    right: int

    def within(self, other: Area) -> Area:
        """What two have in common; empty where a bottom or right is not beyond its top or left."""
        return Area(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )

    def __bool__(self) -> bool:
        return self.top < self.bottom and self.left < self.right


class TilePlan:
    """Tiles of one size that cover a picture; everything is in cells.

    The cores of the tiles cover each cell once. Around the border of two cores the tiles are blended by a raised cosine
    over a quarter of what they share, so the outer three eighths of that have no say.

    Args:
        cells: rows and columns of the picture, multiples of `multiple_of`.
        side: of a tile; less where the picture is smaller.
        shared: what neighbours share at least.
        multiple_of: tiles and cores begin at multiples of this.
        inward: input pixels per cell.
        outward: output pixels per cell.
    """

    def __init__(
        self, cells: tuple[int, int], side: int, shared: int, multiple_of: int, inward: int, outward: int
    ) -> None:
        side = max(side, shared + multiple_of)  # rounding must not eat up the step
        self._rows, self._columns = (_Axis(length, side, shared, multiple_of, outward) for length in cells)
        self._inward, self._outward = inward, outward
        self.size = (self._rows.tile, self._columns.tile)
        self.output = (cells[0] * outward, cells[1] * outward)
        self.places = [(i, j) for i in range(len(self._rows.starts)) for j in range(len(self._columns.starts))]

    def cut(self, x: Tensor, place: tuple[int, int]) -> Tensor:  # (1, C, h * inward, w * inward)
        """One tile of the input."""
        top, left = self._rows.starts[place[0]] * self._inward, self._columns.starts[place[1]] * self._inward
        return x[..., top : top + self.size[0] * self._inward, left : left + self.size[1] * self._inward]

    def tile(self, place: tuple[int, int]) -> Area:
        """Where that tile lies."""
        top, left = self._rows.starts[place[0]], self._columns.starts[place[1]]
        return Area(top, top + self.size[0], left, left + self.size[1])

    def core(self, place: tuple[int, int]) -> Area:
        """The part for which that tile speaks, and no other."""
        return Area(*self._rows.core(place[0]), *self._columns.core(place[1]))

    def spread(self, count: int) -> list[tuple[int, int]]:
        """At most `count` places, evenly spread over rows and columns."""
        high, wide = len(self._rows.starts), len(self._columns.starts)
        rows = min(high, count, max(1, round(math.sqrt(count * high / wide))))
        columns = min(wide, count // rows)
        rows = min(high, count // columns)
        return [
            (int(high * (i + 0.5) / rows), int(wide * (j + 0.5) / columns)) for i in range(rows) for j in range(columns)
        ]

    def add(self, canvas: Tensor, made: Tensor, place: tuple[int, int]) -> None:
        """Blend one finished tile into the output, in place.

        Raises:
            ModelError: it is not of the size that a tile's output has.
        """
        if made.shape[-2:] != (self.size[0] * self._outward, self.size[1] * self._outward):
            raise ModelError(
                f"the network makes {tuple(made.shape)} of a tile of {self.size} cells; it cannot go by tiles"
            )
        rows, columns = self._rows.shares[place[0]].to(canvas), self._columns.shares[place[1]].to(canvas)
        top, left = self._rows.starts[place[0]] * self._outward, self._columns.starts[place[1]] * self._outward
        spot = canvas[..., top : top + made.shape[-2], left : left + made.shape[-1]]
        spot += made.to(canvas) * (rows[:, None] * columns)


class _Axis:
    """Rows or columns: where tiles begin, where cores end, and the share of each tile in the outputs that it covers."""

    def __init__(self, length: int, side: int, shared: int, multiple_of: int, outward: int) -> None:
        self.tile = min(side, length)
        count = 1 if self.tile == length else 1 + math.ceil((length - self.tile) / (self.tile - shared))
        self.starts = [min(i * (self.tile - shared), length - self.tile) for i in range(count)]
        self._borders = [0]  # of the cores, in cells of the picture
        for before, start in pairwise(self.starts):
            self._borders.append(start + (before + self.tile - start) // 2 // multiple_of * multiple_of)
        self._borders.append(length)
        total = torch.zeros(length * outward, dtype=torch.float64)
        self.shares: list[Tensor] = []  # (tile * outward,), float64
        half = max(shared / 8, 1e-9)
        for i, start in enumerate(self.starts):
            place = start + (torch.arange(self.tile * outward, dtype=torch.float64) + 0.5) / outward
            share = torch.ones_like(place)
            if i:
                share = share * _rise((place - self._borders[i]) / half)
            if i + 1 < count:
                share = share * _rise((self._borders[i + 1] - place) / half)
            self.shares.append(share)
            total[start * outward : (start + self.tile) * outward] += share
        # Where tiles hardly step forward more than two meet in one place.
        for share, start in zip(self.shares, self.starts, strict=True):
            share /= total[start * outward : (start + self.tile) * outward]

    def core(self, i: int) -> tuple[int, int]:
        return self._borders[i], self._borders[i + 1]


def _rise(place: Tensor) -> Tensor:
    """From 0 at -1 to 1 at 1."""
    return 0.5 + 0.5 * torch.sin(math.pi / 2 * place.clamp(-1, 1))
