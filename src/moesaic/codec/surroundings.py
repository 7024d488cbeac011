"""What the kernels decoded so far say about the colours at a place: integer means over growing neighbourhoods."""

from __future__ import annotations

import numpy as np

from moesaic.codec.entropy import Ints
from moesaic.codec.positions import Square

_FINEST_MOST = 8  # the finest grid has 2^8 cells a side
_ENOUGH = 4  # kernels that make a mean worth having
VALUE_BITS = 10  # values are multiples of 2^-10
_VALUE_MOST = 1 << (VALUE_BITS + 5)


class Surroundings:
    """Sums of values over the cells of square grids, each grid twice as coarse as the one before."""

    def __init__(self, square: Square, usual: list[int], kernels: int) -> None:
        """For `kernels` kernels in all, whose number sets the finest grid; `usual` values where nothing is known."""
        channels = len(usual)
        finest = min(max(kernels.bit_length() // 2 - 1, 1), _FINEST_MOST, square.bits)  # some 3 to 10 kernels a cell
        self._square, self._finest = square, finest
        self._sums = np.zeros((1 + channels * 2, 1 << finest, 1 << finest), np.int64)  # count, values, squares
        self._channels = channels
        self._usual = np.array(usual, np.int64)[:, None]
        self._boxes: list[Ints] | None = None  # made from the sums when asked for

    def add(self, x: Ints, y: Ints, values: Ints) -> None:
        """Take note of kernels at (x, y) with values (N, channels) in 2^-10."""
        shift, side = self._square.bits - self._finest, 1 << self._finest
        cells = (y >> shift) * side + (x >> shift)
        clipped = np.clip(values, -_VALUE_MOST, _VALUE_MOST)
        planes = [np.ones_like(cells)]
        planes += [clipped[:, c] for c in range(self._channels)]
        planes += [clipped[:, c] ** 2 for c in range(self._channels)]
        for total, plane in zip(self._sums, planes, strict=True):
            total += _sum_by_cell(cells, plane, side)
        self._boxes = None

    def at(self, x: Ints, y: Ints) -> tuple[Ints, Ints]:
        """The mean (N, channels) and variance (N, channels) of the values around places (x, y).

        Around is the 3x3 cells of the finest grid that holds enough kernels there.
        """
        if self._boxes is None:
            self._boxes = self._pyramid()
        found = np.zeros((len(self._sums), len(x)), np.int64)
        left = np.arange(len(x))
        for boxes in self._boxes:
            shift = self._square.bits - boxes.shape[1].bit_length() + 1
            here = boxes[:, y[left] >> shift, x[left] >> shift]
            enough = (here[0] >= _ENOUGH) if shift < self._square.bits else np.ones(len(left), bool)
            found[:, left[enough]] = here[:, enough]
            left = left[~enough]
        count = np.maximum(found[0], 1)
        mean = np.where(found[0] > 0, found[1 : 1 + self._channels] // count, self._usual)
        variance = np.maximum(found[1 + self._channels :] // count - mean * mean, 0)
        return mean.T, variance.T

    def _pyramid(self) -> list[Ints]:
        """Sums over 3x3 cells, the finest grid first, down to one cell."""
        boxes, sums = [], self._sums
        for _ in range(self._finest):
            boxes.append(_three_by_three(sums))
            sums = sums[:, ::2, ::2] + sums[:, 1::2, ::2] + sums[:, ::2, 1::2] + sums[:, 1::2, 1::2]
        return [*boxes, sums]


def _sum_by_cell(cells: Ints, values: Ints, side: int) -> Ints:
    sums = np.bincount(cells, weights=values, minlength=side * side)  # floats, exact: integers below 2^53
    return sums.astype(np.int64).reshape(side, side)


def _three_by_three(sums: Ints) -> Ints:
    padded = np.pad(sums, ((0, 0), (1, 1), (1, 1)))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    boxes: Ints = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return boxes
