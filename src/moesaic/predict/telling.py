"""The loops behind `moesaic.predict.views`: everything that a network is told of a kernel, one kernel after another."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from moesaic.mixture.backends.curved import BENDS, block, solved
from moesaic.predict.kernels import CHANGE, CHANNELS, SIX

TAPS = 5  # along a side of the window that is seen around a kernel
APART = 1.2  # standard deviations between them
WINDOW = 2 * CHANNELS * TAPS * TAPS  # numbers: of the picture less the kernel's colour, and of what is missing
OWN = 2 * SIX + CHANGE + 2 * SIX + CHANNELS + SIX
SEEN = OWN + WINDOW
"""Numbers that a network is told of a kernel: the steps that two dampings of Newton's method would take, the last
change, slope and curvature over the kernel's mass, the best step of its colour, its mass, size, aspect, shear and
prior; then the window."""

BOLD, SHY = (0.1, 1e-4), (1.0, 1e-3)
"""Dampings: parts of the curvature's diagonal, and the least squared difference to what is around a kernel."""

_FAINT = 0.05  # px; ties down kernels that hardly any pixel sees
_LOUD = 4.0  # what is missing is shown so much larger: it is small where a picture is nearly right


@njit(nogil=True, cache=True, error_model="numpy")
def weave(first, last, picture, left, both):
    """Fill rows of both (H, W, 6) with the picture and what is drawn less the picture, both (3, H, W)."""
    for y in range(first, last):
        for x in range(both.shape[1]):
            for c in range(CHANNELS):
                both[y, x, c] = picture[c, y, x]
                both[y, x, CHANNELS + c] = left[c, y, x]


@njit(nogil=True, cache=True, error_model="numpy")
def tell(first, last, centres, geometry, experts, change, slope, slopes, bends, both, seen, bold, shy, colour):
    """Fill seen (N, SEEN), bold and shy (N, 6) and colour (N, 3) of some kernels.

    What a fit knows of them: centres (N, 2), geometry (N, 4), experts (N, 3), their last change (N, 9), the slope of
    the squared error (N, 9) and half of it by the six numbers (N, 6), its bends (N, 16); both (H, W, 6) holds the
    picture, and what is drawn less the picture.
    """
    h, factor, x = np.empty((SIX, SIX)), np.empty((SIX, SIX)), np.empty(SIX)
    for j in range(first, last):
        f0, f1, f2 = np.float64(geometry[j, 0]), np.float64(geometry[j, 1]), np.float64(geometry[j, 2])
        mass = max(np.float64(bends[j, BENDS - 1]), 0.0)
        held = mass + _FAINT
        block(bends[j], h)
        at = 0
        solved(h, slopes[j], BOLD[0], BOLD[1] * mass, factor, x)
        for i in range(SIX):
            bold[j, i] = x[i]
            seen[j, at + i] = _small(x[i])
        at += SIX
        solved(h, slopes[j], SHY[0], SHY[1] * mass, factor, x)
        for i in range(SIX):
            shy[j, i] = x[i]
            seen[j, at + i] = _small(x[i])
        at += SIX
        for i in range(CHANGE):
            seen[j, at + i] = change[j, i] * (2.0 if i < SIX else 10.0)
        at += CHANGE
        for i in range(SIX):
            seen[j, at + i] = _small(300.0 * slopes[j, i] / held)
            seen[j, at + SIX + i] = 0.2 * math.log(max(h[i, i], 0.0) / held + 1e-6)
        at += 2 * SIX
        for c in range(CHANNELS):
            step = -0.5 * slope[j, SIX + c] / held
            colour[j, c] = step
            seen[j, at + c] = min(max(10.0 * step, -3.0), 3.0)
        at += CHANNELS
        seen[j, at] = math.log(held * f0 * f2)
        seen[j, at + 1] = -0.5 * math.log(f0 * f2)
        seen[j, at + 2] = math.log(f0 / f2)
        seen[j, at + 3] = f1 / f2
        seen[j, at + 4] = geometry[j, 3] / 3.0
        seen[j, at + 5] = 0.3 * math.log(held)
        _window(j, centres, f0, f1, f2, experts, both, seen)


@njit(nogil=True, cache=True, error_model="numpy")
def _small(x):
    """The inverse hyperbolic sine, three times as fast as the library's, to 1e-15."""
    size = math.log(abs(x) + math.sqrt(x * x + 1.0))
    return size if x >= 0.0 else -size


@njit(nogil=True, cache=True, error_model="numpy")
def _window(j, centres, f0, f1, f2, experts, both, seen):
    """The picture less the kernel's colour, and what is missing, at places that its standard deviations lie apart."""
    height, width = both.shape[:2]
    k = OWN
    for row in range(TAPS):
        dy = (row - TAPS // 2) * APART / f2
        for column in range(TAPS):
            dx = ((column - TAPS // 2) * APART - f1 * dy) / f0
            x = min(max(centres[j, 0] + dx - 0.5, 0.0), width - 1.0)
            y = min(max(centres[j, 1] + dy - 0.5, 0.0), height - 1.0)
            left, up = int(x), int(y)
            right, down = min(left + 1, width - 1), min(up + 1, height - 1)
            across, below = np.float32(x - left), np.float32(y - up)
            one, two = (np.float32(1) - across) * (np.float32(1) - below), across * (np.float32(1) - below)
            three, four = (np.float32(1) - across) * below, across * below
            for c in range(2 * CHANNELS):
                value = one * both[up, left, c] + two * both[up, right, c]
                value += three * both[down, left, c] + four * both[down, right, c]
                seen[j, k + c] = value - experts[j, c] if c < CHANNELS else -np.float32(_LOUD) * value
            k += 2 * CHANNELS
