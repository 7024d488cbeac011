"""How a camera or a resize turns a fine picture into pixels: separable weighted sums, with their transposes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture.backends import resample

Floats = NDArray[np.float32]
KERNELS = ("area", "bilinear", "bicubic", "lanczos")


@dataclass(frozen=True, slots=True)
class Axis:
    """Weighted sums along one axis, from `length` samples to one for each row of the table."""

    length: int  # samples before
    first: NDArray[np.int64]  # (n,), the first sample that each sum reads
    weights: Floats  # (n, taps)

    def transposed(self) -> Axis:
        """The same weights read the other way, from n samples to `length`."""
        n, taps = self.weights.shape
        rows = np.repeat(np.arange(n), taps)
        places = (self.first[:, None] + np.arange(taps)).ravel()
        values = self.weights.ravel()
        held = values != 0.0
        rows, places, values = rows[held], places[held], values[held]
        begin = np.full(self.length, n, np.int64)
        end = np.zeros(self.length, np.int64)
        np.minimum.at(begin, places, rows)
        np.maximum.at(end, places, rows + 1)
        longest = min(max(int((end - begin).max()), 1), n)
        begin = np.clip(begin, 0, n - longest)
        table = np.zeros((self.length, longest), np.float32)
        np.add.at(table, (places, rows - begin[places]), values)
        return Axis(n, begin, table)


@dataclass(frozen=True, slots=True)
class Sampling:
    """From pictures (C, H, W) of one size to those of another by the same weights along rows and columns."""

    vertical: Axis
    horizontal: Axis

    def __call__(self, picture: Floats) -> Floats:  # (C, H, W) -> (C, h, w)
        """The other picture."""
        c, _, width = picture.shape
        v, h = self.vertical, self.horizontal
        picture = np.ascontiguousarray(picture, np.float32)
        if len(v.first) * width <= len(h.first) * v.length:  # the shorter picture between
            between = np.empty((c, len(v.first), width), np.float32)
            resample.columns(v.first, v.weights, picture, between)
            out = np.empty((c, len(v.first), len(h.first)), np.float32)
            resample.rows(h.first, h.weights, between, out)
            return out
        between = np.empty((c, v.length, len(h.first)), np.float32)
        resample.rows(h.first, h.weights, picture, between)
        out = np.empty((c, len(v.first), len(h.first)), np.float32)
        resample.columns(v.first, v.weights, between, out)
        return out

    def transposed(self) -> Sampling:
        """Its adjoint: what carries gradients back."""
        return Sampling(self.vertical.transposed(), self.horizontal.transposed())


def resize(kernel: str, before: tuple[int, int], after: tuple[int, int]) -> Sampling:
    """Resizing from (width, height) `before` to `after`, widened to avoid aliases where it makes smaller."""
    return Sampling(_axis(kernel, before[1], after[1]), _axis(kernel, before[0], after[0]))


def _axis(kernel: str, before: int, after: int) -> Axis:
    step = before / after
    wide = max(step, 1.0)
    support = {"area": 0.5, "bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}[kernel] * wide
    taps = min(int(np.ceil(2.0 * support)) + 1, before)
    centres = (np.arange(after) + 0.5) * step
    first = np.clip(np.floor(centres - support + (0.0 if kernel == "area" else 0.5)).astype(np.int64), 0, before - taps)
    samples = first[:, None] + np.arange(taps)
    if kernel == "area":  # the exact overlap of each sample with the span
        low, high = centres[:, None] - support, centres[:, None] + support
        weights = np.maximum(np.minimum(samples + 1.0, high) - np.maximum(samples, low), 0.0)
    else:
        weights = _value(kernel, (samples + 0.5 - centres[:, None]) / wide)
    weights /= weights.sum(axis=1, keepdims=True)
    return Axis(before, first, weights.astype(np.float32))


def _value(kernel: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    if kernel == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    if kernel == "bicubic":  # Keys, a = -1/2
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return np.where(x < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)
