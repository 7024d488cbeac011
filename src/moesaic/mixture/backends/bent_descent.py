"""One step of every kernel along Gauss and Newton's direction, with momentum that stops where it leads uphill.

The blocks are those of `moesaic.mixture.backends.curved`. They are kept while slopes are fresh: a block takes three
times as long to find as a slope, and changes little from step to step. A kernel answers to its own block alone, so a
whole step would overshoot where kernels overlap; each has a pace of its own, which falls where momentum points uphill
and grows elsewhere.

Sources: heavy-ball momentum of Polyak 1964; restarts by the slope of O'Donoghue and Candes, "Adaptive restart for
accelerated gradient schemes" (arXiv 1204.3982), here for each kernel on its own.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from moesaic.mixture.backends.curved import BENDS, SIX, block, downhill_of, factored, solved_by

SLOWEST = 0.02  # of a kernel's pace; 1 is the fastest
SLANT = 30.0  # of a factor's shear, as far as one goes
FAINT = 0.5  # px; ties down kernels that hardly any pixel saw when their block was found
BRIGHTEST = 0.1  # of a colour's change in one step


@njit(nogil=True, cache=True, error_model="numpy")
def factor(
    begin,
    end,  # the kernels
    bends,  # (N, 16), of `curved.bent`
    damping,  # share of each block's diagonal that is added to it
    floor,  # squared difference to what is around a kernel that is added, at the least
    factors,  # (N, 6, 6), filled: Cholesky factors, lower
):
    """Factor the blocks of kernels begin to end."""
    h, found = np.empty((SIX, SIX)), np.empty((SIX, SIX))
    for j in range(begin, end):
        block(bends[j], h)
        factored(h, damping, floor * (max(np.float64(bends[j, BENDS - 1]), 0.0) + FAINT), found)
        for i in range(SIX):
            for k in range(i + 1):
                factors[j, i, k] = found[i, k]


@njit(nogil=True, cache=True, error_model="numpy")
def step(
    begin,
    end,  # the kernels to move
    centres,  # (N, 2) float64
    geometry,  # (N, 4)
    experts,  # (N, C)
    slope,  # (N, 6 + C), of the squared error
    bends,  # (N, 16)
    factors,  # (N, 6, 6), of `factor`
    velocity,  # (N, 6 + C), the last step
    pace,  # (N,)
    rate,  # of Newton's step, at full pace
    rate_colour,  # of the step that were best for a colour if every other kernel stayed
    decay,  # of the velocity
    up,  # growth of the pace
    down,  # and its fall
    longest,  # any of the six numbers changes less than this in one step
    sharpest,  # 1/px, bounds of the factors' diagonal
    widest,
    right,  # px, how far centres may go; they stay above `left` and `top` too
    bottom,
    left,
    top,
):
    """Move kernels begin to end, in place."""
    channels = experts.shape[1]
    slopes, x, held = np.empty(SIX), np.empty(SIX), np.empty((SIX, SIX))
    for j in range(begin, end):
        downhill_of(geometry[j], slope[j], slopes)
        for i in range(SIX):
            for k in range(i + 1):
                held[i, k] = factors[j, i, k]
        solved_by(held, slopes, x)
        along = 0.0
        for i in range(SIX):
            along -= slopes[i] * velocity[j, i]
        for c in range(channels):
            along -= 0.5 * slope[j, 6 + c] * velocity[j, SIX + c]
        keep = decay
        if along < 0.0:
            keep = 0.0
            pace[j] = max(pace[j] * down, SLOWEST)
        else:
            pace[j] = min(pace[j] * up, 1.0)
        for i in range(SIX):
            x[i] = longest * math.tanh((keep * velocity[j, i] + rate * pace[j] * x[i]) / longest)
            velocity[j, i] = x[i]
        mass = max(np.float64(bends[j, BENDS - 1]), 0.0) + FAINT
        for c in range(channels):
            best = -0.5 * slope[j, 6 + c] / mass
            change = keep * velocity[j, SIX + c] + rate_colour * pace[j] * best
            velocity[j, SIX + c] = min(max(change, -BRIGHTEST), BRIGHTEST)
            experts[j, c] += velocity[j, SIX + c]
        f0, f1, f2 = np.float64(geometry[j, 0]), np.float64(geometry[j, 1]), np.float64(geometry[j, 2])
        slant = min(max(f1 / f2 * math.exp(x[2]) + x[3], -SLANT), SLANT)
        f0 = min(max(f0 * math.exp(x[1] + x[2] / 2), widest), sharpest)
        f2 = min(max(f2 * math.exp(x[1] - x[2] / 2), widest), sharpest)
        f1 = slant * f2
        below = x[4] / f2
        centres[j, 0] = min(max(centres[j, 0] + (x[5] - f1 * below) / f0, left), right)
        centres[j, 1] = min(max(centres[j, 1] + below, top), bottom)
        geometry[j, 0], geometry[j, 1], geometry[j, 2] = f0, f1, f2
        geometry[j, 3] += x[0]
