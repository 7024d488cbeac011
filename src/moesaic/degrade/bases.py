"""Constant tables that the NumPy and the torch functions share, so that both compute with the same numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.degrade.ranges import DEPTH_MODES, PATH_POINTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# ITU-T T.81 annex K, tables K.1 and K.2
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


@lru_cache(maxsize=1)
def to_ycc() -> Array:
    """RGB to luma and two chromas, (3, 3), in the 16-bit fixed point of libjpeg, which is exact in float64."""
    whole = [[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]]
    return np.array(whole, dtype=np.float64) / 65536


@lru_cache(maxsize=1)
def to_rgb() -> Array:
    """The way back, (3, 3)."""
    whole = [[65536, 0, 91881], [65536, -22554, -46802], [65536, 116130, 0]]
    return np.array(whole, dtype=np.float64) / 65536


@lru_cache(maxsize=1)
def path_basis() -> Array:
    """Turns white noise (P,) into positions along one axis of a hand-held camera, (P, P): inertia, then integration."""
    steps = np.arange(PATH_POINTS)
    ago = steps[:, None] - steps
    inertia: Array = np.where(ago >= 0, 0.93 ** np.maximum(ago, 0), 0.0)
    positions: Array = np.tril(np.ones((PATH_POINTS, PATH_POINTS))) @ inertia
    return positions


@lru_cache(maxsize=1)
def depth_amplitudes() -> Array:
    """Amplitudes of a smooth field's cosine waves, (M, M), of a spectrum 1/f; squares sum to 1, no constant."""
    waves = np.arange(DEPTH_MODES, dtype=np.float64)
    power = waves[:, None] ** 2 + waves**2
    power[0, 0] = np.inf
    amplitudes: Array = 1.0 / power**0.75
    amplitudes /= math.sqrt(float((amplitudes**2).sum()))
    return amplitudes


@lru_cache(maxsize=1)
def dct_basis() -> Array:
    """The orthonormal two-dimensional DCT of 8 x 8 blocks as one matrix, (64 frequencies, 64 px)."""
    one = np.cos(np.pi / 16 * np.arange(8)[:, None] * (2 * np.arange(8) + 1)) / 2
    one[0] /= math.sqrt(2)
    both: Array = np.kron(one, one)
    return both


@lru_cache(maxsize=128)
def jpeg_tables(quality: int) -> Array:
    """Quantisation steps of luma and chroma, (2, 64), at a quality of 1 to 100, as libjpeg scales them."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps: Array = np.clip((np.array([_LUMA, _CHROMA]) * percent + 50) // 100, 1, 255).astype(np.float64)
    return steps


def _keys(x: Array) -> Array:
    """The cubic of Keys 1981, a = -1/2."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights: Array = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights


def _tent(x: Array) -> Array:
    weights: Array = np.maximum(1 - np.abs(x), 0.0)
    return weights


def _box(x: Array) -> Array:
    return np.where((x >= -0.5) & (x < 0.5), 1.0, 0.0)


_FILTERS: dict[str, tuple[Any, float]] = {"bicubic": (_keys, 2.0), "bilinear": (_tent, 1.0), "area": (_box, 0.5)}


@lru_cache(maxsize=256)
def resize_taps(before: int, after: int, method: str = "bicubic") -> tuple[NDArray[np.int64], Array]:
    """Where each sample of a resized side comes from: places (after, taps) and weights (after, taps) that sum to 1.

    The filter grows with the step when the side shrinks, and stops at the ends, as in Pillow.
    """
    shape, reach = _FILTERS[method]
    step = before / after
    stretch = max(step, 1.0)
    centres = (np.arange(after) + 0.5) * step  # px of the side before, its first sample at 0.5
    first = np.floor(centres - reach * stretch).astype(np.int64)
    taps = math.ceil(2 * reach * stretch) + 2
    places = first[:, None] + np.arange(taps)
    weights = shape((places + 0.5 - centres[:, None]) / stretch)
    weights = np.where((places >= 0) & (places < before), weights, 0.0)
    empty = weights.sum(1) == 0  # a narrow box between two samples
    nearest = np.clip(np.floor(centres).astype(np.int64), 0, before - 1)
    weights[empty] = np.where(np.clip(places, 0, before - 1)[empty] == nearest[empty, None], 1.0, 0.0)
    weights /= weights.sum(1, keepdims=True)
    return np.clip(places, 0, before - 1), weights


def resize_matrix(before: int, after: int, method: str = "bicubic") -> Array:
    """`resize_taps` as one matrix, (after, before)."""
    places, weights = resize_taps(before, after, method)
    matrix = np.zeros((after, before))
    np.add.at(matrix, (np.arange(after)[:, None], places), weights)
    return matrix


def smaller(side: int, scale: float) -> int:
    """The side after shrinking by `scale`, px, at least 1."""
    return max(1, math.floor(side / scale + 0.5))


@lru_cache(maxsize=64)
def down_and_up(side: int, scale: float) -> Array:
    """A side shrunk and enlarged again by bicubic filters, (side, side)."""
    small = smaller(side, scale)
    both: Array = resize_matrix(small, side) @ resize_matrix(side, small)
    return both


@lru_cache(maxsize=64)
def box_matrix(side: int, reach: int) -> Array:
    """Means over `reach` px to both sides, fewer at the ends, (side, side)."""
    places = np.arange(side)
    inside: Array = (np.abs(places[:, None] - places) <= reach).astype(np.float64)
    inside /= inside.sum(1, keepdims=True)
    return inside
