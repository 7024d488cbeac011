"""What a mixture leaves of a noisy picture is noise and the texture it was too small for: telling the two apart.

Both steps work in opponent colours, an orthonormal basis in which white noise stays white and most texture falls into
one channel.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

WINDOW = 11  # px, side of the squares in which the leftover's energy is told
STRICT = 1.12  # times the noise's variance that counts as noise
PATCH = 12  # px, side of the patches whose cosines are weighed
STEP = 3  # px between patches
SHARE = 0.4  # of the picture that comes from the weighed cosines
ROWS = 64  # rows of patches at a time

Floats = NDArray[np.float32]


def give_back(
    picture: Floats,  # (C, H, W), without noise
    noisy: Floats,  # (C, H, W)
    sigma: float,  # in units of the pixels
) -> Floats:  # (C, H, W)
    """Add what of the leftover exceeds the noise, window by window: 1 - STRICT sigma^2 / energy of it, if positive.

    Source: the James-Stein estimator in its positive-part form (James and Stein, 1961), averaged over all windows that
    hold a pixel.
    """
    leftover = _to_opponent(noisy - picture)
    for channel in leftover:
        energy = _box(channel * channel)
        share = np.maximum(1.0 - STRICT * sigma * sigma / np.maximum(energy, 1e-12), 0.0)
        channel *= _box(share)
    return np.asarray(picture + _from_opponent(leftover), np.float32)


def weigh_cosines(
    picture: Floats,  # (C, H, W), without noise
    noisy: Floats,  # (C, H, W)
    sigma: float,  # in units of the pixels
) -> Floats:  # (C, H, W)
    """Mix in the noisy picture's own cosines, each weighed by what the clean one says of its share of noise.

    Cosines of overlapping patches get Wiener's weight s^2 / (s^2 + sigma^2), s being the coefficient of the picture
    without noise. Half-way between that and the picture is better than either: their errors differ.

    Source: the empirical Wiener filter, as in the second stage of Dabov et al. (BM3D, 2007), without grouping.
    """
    side = min(PATCH, *picture.shape[1:])
    filtered = np.stack(
        [
            _filtered(clean, rough, side, np.float32(sigma * sigma))
            for clean, rough in zip(_to_opponent(picture), _to_opponent(noisy), strict=True)
        ]
    )
    return np.asarray((1.0 - SHARE) * picture + SHARE * _from_opponent(filtered), np.float32)


def _filtered(clean: Floats, rough: Floats, side: int, variance: np.float32) -> Floats:  # (H, W)
    """One channel, its patches averaged with more weight where less noise is left."""
    height, width = clean.shape
    step = min(STEP, side)
    pad = side - 1
    padded = [np.pad(channel, pad, mode="symmetric") for channel in (clean, rough)]
    waves = _cosines(side)
    total, weights = np.zeros_like(padded[0]), np.zeros_like(padded[0])
    windows = [sliding_window_view(channel, (side, side))[::step, ::step] for channel in padded]
    for top in range(0, windows[0].shape[0], ROWS):
        known, seen = (waves @ part[top : top + ROWS] @ waves.T for part in windows)
        power = known * known
        gains = power / (power + variance)
        trust = 1.0 / np.maximum(np.sum(gains * gains, axis=(2, 3)), 1e-3)
        patches = (waves.T @ (gains * seen) @ waves) * trust[..., None, None]
        rows, columns = patches.shape[:2]
        for i in range(side):
            for j in range(side):
                place = np.s_[top * step + i : top * step + i + rows * step : step, j : j + columns * step : step]
                total[place] += patches[..., i, j]
                weights[place] += trust
    inside = np.s_[pad : pad + height, pad : pad + width]
    return np.asarray(total[inside] / weights[inside], np.float32)


def _cosines(side: int) -> Floats:  # (side, side), rows are orthonormal waves
    k = np.arange(side)
    waves = np.sqrt(2.0 / side) * np.cos(np.pi * (2 * k + 1) * k[:, None] / (2 * side))
    waves[0] /= np.sqrt(2.0)
    return np.asarray(waves, np.float32)


def _box(values: Floats) -> Floats:  # (H, W)
    """Means over windows of WINDOW px, the picture mirrored at its edges."""
    half = WINDOW // 2
    for axis in (0, 1):
        margins = [(half + 1, half) if k == axis else (0, 0) for k in (0, 1)]
        sums = np.cumsum(np.pad(values.astype(np.float64), margins, mode="symmetric"), axis=axis)
        size = values.shape[axis]
        upper = np.take(sums, np.arange(WINDOW, WINDOW + size), axis=axis)
        values = ((upper - np.take(sums, np.arange(size), axis=axis)) / WINDOW).astype(np.float32)
    return values


_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32) / np.sqrt(np.array([[3], [2], [6]], np.float32))


def _to_opponent(picture: Floats) -> Floats:  # (C, H, W), a new array
    if len(picture) != 3:
        return picture.copy()
    return np.asarray(np.tensordot(_OPPONENT, picture, axes=1), np.float32)


def _from_opponent(picture: Floats) -> Floats:  # (C, H, W)
    if len(picture) != 3:
        return picture
    return np.asarray(np.tensordot(_OPPONENT.T, picture, axes=1), np.float32)
