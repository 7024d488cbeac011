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

from moesaic.mixture.backends.blend import SUM, F
from moesaic.mixture.backends.lanes import fetch, fill, greatest, load, places_in_row, store, totals
from moesaic.mixture.backends.layout import AREA, DEEP, TILE, places, scratch
from moesaic.mixture.backends.lending import borrowed, lent, planes
from moesaic.mixture.backends.loops import depth, draw

RIDGE = 0.5  # px; keeps kernels that are smaller than a pixel from promising much


@njit(nogil=True, cache=True, error_model="numpy")
def survey(tiles, work, picture, sums, target, out):
    """Partial sums (Q, 4 + 2 C) of some tiles; pixels far from every kernel (sums of 0) count nothing."""
    C = len(work.channels)
    VALUE, SLOPE, _, _, LANES, _ = places(work)
    height, width = sums.shape
    columns = -(-width // TILE)
    work, out = lent(work), borrowed(out)
    pixels, inverses, aims = borrowed(picture.reshape(-1)), borrowed(sums.reshape(-1)), borrowed(target.reshape(-1))
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    room = borrowed(s[LANES:])
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = depth(t, work)
        if span > DEEP:
            for q in range(work.tile_start[t], work.tile_start[t + 1]):
                out[work.tile_pairs[q]] = F(0)
            continue
        draw(t, span, left, up, work, s, kept)
        for r in range(tall):
            i, at = r * TILE, (up + r) * width + left
            store(s, SUM + i, fetch(inverses, at, wide, room))
            for c in range(C):
                plane = c * height * width + at
                y = fetch(pixels, plane, wide, room)
                store(s, VALUE + c * AREA + i, y)
                store(s, SLOPE + c * AREA + i, y - fetch(aims, plane, wide, room))
        survey_tile(t, left + 0.5, up + 0.5, work, s, kept, out)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def survey_tile(t, x0, y0, work, s, kept, out):
    """Partial sums of one tile's pairs, from their weights and scratch: inverse sums, picture, what it misses."""
    C = len(work.channels)
    VALUE, MISS, _, _, LANES, _ = places(work)
    lane = places_in_row()
    at = 0
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        p, j = work.tile_pairs[q], work.tile_kernel[q]
        f0, f1, f2 = work.geometry[j, 0], work.geometry[j, 1], work.geometry[j, 2]
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        cost, xx, xy, yy = fill(F(0)), fill(F(0)), fill(F(0)), fill(F(0))
        u0, u1, u2, u3 = cost, cost, cost, cost
        v0, v1, v2, v3 = cost, cost, cost, cost
        for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
            dy = dy0 + r
            w = load(kept, at) * load(s, SUM + r * TILE)
            at += TILE
            wu, wv = w * (lane * f0 + F(f0 * dx + f1 * dy)), w * F(f2 * dy)
            xx, xy, yy = xx + wu * wu, xy + wu * wv, yy + wv * wv
            taken = w / greatest(F(1) - w, fill(F(1e-4)))
            for c in range(C):
                i = c * AREA + r * TILE
                miss = load(s, MISS + i)
                push = taken * (load(s, VALUE + i) - work.experts[j, c])
                cost = cost + push * (push + miss + miss)
                if c == 0:
                    u0, v0 = u0 - wu * miss, v0 - wv * miss
                elif c == 1:
                    u1, v1 = u1 - wu * miss, v1 - wv * miss
                elif c == 2:
                    u2, v2 = u2 - wu * miss, v2 - wv * miss
                else:
                    u3, v3 = u3 - wu * miss, v3 - wv * miss
        store(s, LANES, totals((cost, xx, xy, yy, u0, u1, u2, u3, v0, v1, v2, v3)))
        for k in range(4):
            out[p, k] = s[LANES + k]
        for c in range(C):
            out[p, 4 + c] = s[LANES + 4 + c]
            out[p, 4 + C + c] = s[LANES + 8 + c]


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
