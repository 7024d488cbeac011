"""What each kernel is worth, and what a second kernel beside it would be worth: guides for moving kernels in a fit.

Both are changes of the sum of squared errors, with all other kernels as they are. For kernel j with gate w, colour m,
picture y and target t:

- Taking j away leaves y + w / (1 - w) (y - m), since the other gates grow by 1 / (1 - w): exact while w stays
  below 0.9999.
- Splitting j lets its colour differ along an axis. To first order that adds w u as a basis function with a free
  coefficient, u being the whitened offset L^T (x - centre) along the axis: the gain is a least-squares projection.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from moesaic.mixture.backends.layout import DEEP, HALF, LOG2E, STEEP, TILE, places, scratch
from moesaic.mixture.backends.loops import FAST, F, depth, exp2, peaks

RIDGE = 0.5  # px; keeps kernels that are smaller than a pixel from promising much


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def survey(tiles, work, picture, sums, target, out):
    """Partial sums (Q, 4 + 2 C) of some tiles; pixels far from every kernel (sums of 0) count nothing."""
    C, PEAK = len(work.channels), places(work)[3]
    width = sums.shape[1]
    columns = -(-width // TILE)
    s = scratch(work)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide = min(TILE, width - left)
        bar = work.bars[t] * LOG2E
        steep = STEEP < depth(t, work) <= DEEP
        peaks(t, steep, left + 0.5, up + 0.5, work, bar, s)
        for q in range(work.tile_start[t], work.tile_start[t + 1]):
            p = work.tile_pairs[q]
            j = work.tile_kernel[q]
            f0, f1, f2 = work.geometry[j, 0], work.geometry[j, 1], work.geometry[j, 2]
            dx = left + 0.5 - work.centres[j, 0]
            prior = work.geometry[j, 3] * LOG2E - bar
            cost, xx, xy, yy = F(0), F(0), F(0), F(0)
            along = np.zeros(2 * C, np.float32)
            for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
                dy = up + r + 0.5 - work.centres[j, 1]
                v = F(f2 * dy)
                a = F(f0 * dx + f1 * dy)
                top = F(prior - HALF * HALF * v * v)
                for x in range(wide):
                    u = a + f0 * F(x)
                    logit = top - F(HALF * HALF) * u * u - s[PEAK + r * TILE + x]
                    w = exp2(min(max(logit, F(-126)), F(126))) * sums[up + r, left + x]
                    q1 = w / max(F(1) - w, F(1e-4))
                    xx += w * w * u * u
                    xy += w * w * u * v
                    yy += w * w * v * v
                    for c in range(C):
                        y = picture[c, up + r, left + x]
                        miss = y - target[c, up + r, left + x]
                        push = q1 * (y - work.experts[j, c])
                        cost += push * (push + F(2) * miss)
                        along[c] -= w * u * miss
                        along[C + c] -= w * v * miss
            out[p, 0] = cost
            out[p, 1] = xx
            out[p, 2] = xy
            out[p, 3] = yy
            for k in range(2 * C):
                out[p, 4 + k] = along[k]


@njit(nogil=True, cache=True, error_model="numpy")
def weigh(kernel_start, partial, cost, gain, axis, difference):
    """Removal cost, best gain of a split, its axis (2) in whitened units and the colour's slope along it (C)."""
    C = difference.shape[1]
    for j in range(len(cost)):
        m = np.zeros(partial.shape[1], np.float64)
        for p in range(kernel_start[j], kernel_start[j + 1]):
            for k in range(partial.shape[1]):
                m[k] += partial[p, k]
        cost[j] = m[0]
        a00, a01, a11 = m[1] + RIDGE, m[2], m[3] + RIDGE
        b00, b01, b11 = 0.0, 0.0, 0.0
        for c in range(C):
            b00 += m[4 + c] * m[4 + c]
            b01 += m[4 + c] * m[4 + C + c]
            b11 += m[4 + C + c] * m[4 + C + c]
        # the largest ratio of d^T B d to d^T A d: whiten by A's Cholesky factor, then a symmetric 2x2 eigenvector
        l00 = np.sqrt(a00)
        l10 = a01 / l00
        l11 = np.sqrt(max(a11 - l10 * l10, 1e-9))
        c00 = b00 / (l00 * l00)
        c01 = (b01 / l00 - l10 * c00) / l11
        c11 = (b11 - 2.0 * l10 * (c01 * l11 + l10 * c00) + l10 * l10 * c00) / (l11 * l11)
        angle = 0.5 * np.arctan2(2.0 * c01, c00 - c11)
        e0, e1 = np.cos(angle), np.sin(angle)
        gain[j] = e0 * e0 * c00 + 2.0 * e0 * e1 * c01 + e1 * e1 * c11
        d1 = e1 / l11
        d0 = (e0 - l10 * d1) / l00
        length = np.sqrt(d0 * d0 + d1 * d1)
        axis[j, 0], axis[j, 1] = d0 / length, d1 / length
        for c in range(C):
            # along a unit axis the best coefficient is <w u, r> / <w u, w u>
            difference[j, c] = (d0 * m[4 + c] + d1 * m[4 + C + c]) * length
