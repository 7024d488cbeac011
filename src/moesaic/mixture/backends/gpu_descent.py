"""One step of Adam on every kernel, on the device; see `descent`, whose arithmetic this repeats.

How far the fit is, is read from the device as well, so that one captured step can be replayed for all of them.
"""

from __future__ import annotations

import triton
import triton.language as tl

from moesaic.mixture.backends.gpu_gather import by_parameter

WIDTH = 64  # kernels in a program
PI = tl.constexpr(3.141592653589793)


@triton.jit
def cosine(share):
    """cos(pi share) for 0 <= share <= 1, to 1e-10; the compiler's own needs memory for arguments of any size."""
    z = PI * (0.5 - share)
    s = z * z
    p = 1.0 - s / 210.0
    p = 1.0 - s / 156.0 * p
    p = 1.0 - s / 110.0 * p
    p = 1.0 - s / 72.0 * p
    p = 1.0 - s / 42.0 * p
    p = 1.0 - s / 20.0 * p
    p = 1.0 - s / 6.0 * p
    return z * p


@triton.jit
def adam(gradient, k: tl.constexpr, first, second, rates, rate, mend1, mend2, decay1, decay2, at, mask):
    """The move of one parameter, its means brought up to date."""
    mean = tl.load(first + at + k, mask=mask, other=0.0).to(tl.float64)
    square = tl.load(second + at + k, mask=mask, other=0.0).to(tl.float64)
    mean += (1.0 - decay1) * (gradient - mean)
    square += (1.0 - decay2) * (gradient * gradient - square)
    tl.store(first + at + k, mean.to(tl.float32), mask=mask)
    tl.store(second + at + k, square.to(tl.float32), mask=mask)
    return -rate * tl.load(rates + k) * mean * mend1 / (tl.sqrt(square * mend2) + 1e-10)


@triton.jit
def descend(
    bounds,  # (P, 2) int32, width and height of each picture, px
    count,  # (1,) int32, steps taken, this one included
    settings,  # (5,) float64: share of the fit that one step is, two decays, the sharpest factor (1/px), and how far
    #            outside the canvas centres may go, as a share of its longer side
    rates,  # (K,) float32, step sizes at the start of the cosine
    moments,  # (N, K) float32, from `gpu_gather.gather`
    centres, geometry, experts,  # (N, 2) float64, (N, 4), (N, C) or (N, 3 C)
    first, second,  # (N, K), running means of the gradient and of its square
    each,  # kernels of a picture
    C: tl.constexpr, ORDER: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Move some kernels of one picture, in place."""
    picture = tl.program_id(0)
    within = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    mask = within < each
    j = picture * each + within
    K: tl.constexpr = 6 + C * (1 + 2 * ORDER)
    at = j * K
    right = tl.load(bounds + 2 * picture).to(tl.float64)
    bottom = tl.load(bounds + 2 * picture + 1).to(tl.float64)
    longer = tl.maximum(right, bottom)
    pace, decay1, decay2 = tl.load(settings), tl.load(settings + 1), tl.load(settings + 2)
    sharpest, widest = tl.load(settings + 3), 2.0 / longer
    out = tl.load(settings + 4) * longer
    steps = tl.load(count).to(tl.float64)
    rate = 0.51 + 0.49 * cosine(tl.minimum(steps * pace, 1.0))
    mend1 = 1.0 / (1.0 - tl.exp2(steps * tl.log2(decay1)))
    mend2 = 1.0 / (1.0 - tl.exp2(steps * tl.log2(decay2)))
    by_x, by_y, by_l0, by_l1, by_l2, by_p = by_parameter(moments, geometry, experts, j, mask, C, ORDER)
    f0 = tl.load(geometry + 4 * j, mask=mask, other=1.0).to(tl.float64)
    f1 = tl.load(geometry + 4 * j + 1, mask=mask, other=0.0).to(tl.float64)
    f2 = tl.load(geometry + 4 * j + 2, mask=mask, other=1.0).to(tl.float64)
    prior = tl.load(geometry + 4 * j + 3, mask=mask, other=0.0).to(tl.float64)
    across = by_x / f0
    shared = (first, second, rates, rate, mend1, mend2, decay1, decay2, at, mask)
    move0 = adam(across, 0, *shared)
    move1 = adam((by_y - f1 * across) / f2, 1, *shared)
    move2 = adam(by_l0 * f0 + by_l1 * f1, 2, *shared)
    move3 = adam(by_l1 * f2, 3, *shared)
    move4 = adam(by_l2 * f2, 4, *shared)
    move5 = adam(by_p, 5, *shared)
    down = move1 / f2
    x = tl.load(centres + 2 * j, mask=mask, other=0.0) + (move0 - f1 * down) / f0
    y = tl.load(centres + 2 * j + 1, mask=mask, other=0.0) + down
    tl.store(centres + 2 * j, tl.minimum(tl.maximum(x, -out), right + out), mask=mask)
    tl.store(centres + 2 * j + 1, tl.minimum(tl.maximum(y, -out), bottom + out), mask=mask)
    stretch = tl.exp(move2)
    new0 = tl.minimum(tl.maximum(f0 * stretch, widest), sharpest)
    new2 = tl.minimum(tl.maximum(f2 * tl.exp(move4), widest), sharpest)
    tl.store(geometry + 4 * j, new0.to(tl.float32), mask=mask)
    tl.store(geometry + 4 * j + 1, (f1 * stretch + move3 * f2).to(tl.float32), mask=mask)
    tl.store(geometry + 4 * j + 2, new2.to(tl.float32), mask=mask)
    tl.store(geometry + 4 * j + 3, (prior + move5).to(tl.float32), mask=mask)
    row = experts + j * (K - 6)
    for c in tl.static_range(C):
        pull = tl.load(moments + at + 6 + c, mask=mask, other=0.0).to(tl.float64)
        moved = tl.load(row + c, mask=mask, other=0.0) + adam(pull, 6 + c, *shared)
        tl.store(row + c, moved.to(tl.float32), mask=mask)
        if ORDER == 1:  # slopes are moved per whitened unit, L^T times those per px
            along = tl.load(moments + at + 6 + C + 2 * c, mask=mask, other=0.0).to(tl.float64)
            below = tl.load(moments + at + 7 + C + 2 * c, mask=mask, other=0.0).to(tl.float64)
            step0 = adam(f0 * along + f1 * below, 6 + C + 2 * c, *shared)
            step1 = adam(f2 * below, 7 + C + 2 * c, *shared)
            slope0 = tl.load(row + C + 2 * c, mask=mask, other=0.0) + f0 * step0
            slope1 = tl.load(row + C + 2 * c + 1, mask=mask, other=0.0) + f1 * step0 + f2 * step1
            tl.store(row + C + 2 * c, slope0.to(tl.float32), mask=mask)
            tl.store(row + C + 2 * c + 1, slope1.to(tl.float32), mask=mask)
