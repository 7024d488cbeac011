"""One step of Adam on every kernel, in coordinates that do not depend on a kernel's size.

Steps are taken in the kernel's own whitened frame: the centre moves by L^-T delta, and the factor becomes
L^T <- (exp(e0), e1; 0, exp(e2)) L^T. A step of a given length then means the same for a kernel of one pixel and for
one of a hundred, and a factor stays a Cholesky factor.

Source for the update rule: Kingma and Ba, "Adam" (arXiv 1412.6980), algorithm 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def step(
    begin,
    end,  # the kernels to move
    centres,  # (N, 2) float64
    geometry,  # (N, 4)
    experts,  # (N, K)
    slope,  # (N, 6 + K), gradient by centre, factors, log prior, expert
    first,  # (N, 6 + K), running mean of the gradient
    second,  # (N, 6 + K), running mean of its square
    rates,  # (6 + K,), step sizes
    decay1,
    decay2,
    count,  # steps taken with these means, this one included
    sharpest,  # 1/px, bounds of the factors' diagonal
    widest,
    right,  # px, how far centres may go; they stay above `left` and `top` too
    bottom,
    left,
    top,
    channels,  # C; experts beyond the first C numbers are pairs of slopes
):
    """Move kernels begin to end, in place."""
    width = 6 + experts.shape[1]
    gradient = np.empty(width, np.float64)
    move = np.empty(width, np.float64)
    mend1 = 1.0 / (1.0 - decay1**count)
    mend2 = 1.0 / (1.0 - decay2**count)
    for j in range(begin, end):
        f0, f1, f2 = np.float64(geometry[j, 0]), np.float64(geometry[j, 1]), np.float64(geometry[j, 2])
        gradient[0] = slope[j, 0] / f0
        gradient[1] = (slope[j, 1] - f1 * gradient[0]) / f2
        gradient[2] = slope[j, 2] * f0 + slope[j, 3] * f1
        gradient[3] = slope[j, 3] * f2
        gradient[4] = slope[j, 4] * f2
        for k in range(5, width):
            gradient[k] = slope[j, k]
        for k in range(6 + channels, width, 2):  # slopes per whitened unit, L^T times those per px
            gradient[k] = f0 * slope[j, k] + f1 * slope[j, k + 1]
            gradient[k + 1] = f2 * slope[j, k + 1]
        for k in range(width):
            g = gradient[k]
            first[j, k] += (1.0 - decay1) * (g - first[j, k])
            second[j, k] += (1.0 - decay2) * (g * g - second[j, k])
            move[k] = -rates[k] * first[j, k] * mend1 / (math.sqrt(second[j, k] * mend2) + 1e-10)
        down = move[1] / f2
        centres[j, 0] = min(max(centres[j, 0] + (move[0] - f1 * down) / f0, left), right)
        centres[j, 1] = min(max(centres[j, 1] + down, top), bottom)
        stretch = math.exp(move[2])
        geometry[j, 0] = min(max(f0 * stretch, widest), sharpest)
        geometry[j, 1] = f1 * stretch + move[3] * f2
        geometry[j, 2] = min(max(f2 * math.exp(move[4]), widest), sharpest)
        geometry[j, 3] += move[5]
        for k in range(channels):
            experts[j, k] += move[6 + k]
        for k in range(channels, width - 6, 2):
            experts[j, k] += f0 * move[6 + k]
            experts[j, k + 1] += f1 * move[6 + k] + f2 * move[7 + k]
