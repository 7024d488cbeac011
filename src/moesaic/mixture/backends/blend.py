"""One tile of a mixture in float32: its weights and weighted sums, and the way back to each kernel's partial gradient.

The weights of a tile are kept between the way forward and the way back, so that each takes one exponential.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from moesaic.mixture.backends.lanes import exp2, fill, greatest, load, places_in_row, store, totals
from moesaic.mixture.backends.layout import AREA, HALF, LOG2E, MOMENTS, TILE, places

F = np.float32
SUM = 0  # the plane of sums in scratch
DOWN = 2.0**-40  # gradients are lifted by its inverse on the way back, so that none is too small for a float32


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def expert(work, j, c, dx, dy, lane):
    """Channel c of kernel j's expert along a row that begins at an offset from its centre."""
    C = len(work.channels)
    colour = work.experts[j, c]
    if len(work.linear) > 0:
        across = work.experts[j, C + 2 * c]
        return lane * across + F(colour + across * dx + work.experts[j, C + 2 * c + 1] * dy)
    return fill(colour)


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def _add(s, place, lanes):
    store(s, place, load(s, place) + lanes)


@njit(nogil=True, cache=True, error_model="numpy")
def forward_tile(t, x0, y0, work, bar, steep, s, kept):
    """Weights and weighted sums of one tile into scratch; weights are relative to 2^bar.

    A steep tile's weights are relative to each pixel's peak. Where `kept` has room, it gets the weights of all pairs.
    """
    C, SLOPES, KEEP = len(work.channels), len(work.linear) > 0, len(kept) > 0
    VALUE, _, _, PEAK, _, _ = places(work)
    lane = places_in_row()
    for i in range(0, AREA * (1 + C), TILE):
        store(s, i, fill(F(0)))
    at = 0
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        j = work.tile_kernel[q]
        f0, f1, f2 = work.geometry[j, 0] * HALF, work.geometry[j, 1] * HALF, work.geometry[j, 2] * HALF
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        # rows are told apart in float32, from a first row that is exact
        slant_u, slant_v, base = F(f1), F(f2), F(work.geometry[j, 3] * LOG2E - bar)
        v0, across = F(f2 * dy0), lane * F(f0) + F(f0 * dx + f1 * dy0)
        n0 = expert(work, j, 0, dx, dy0, lane)
        n1 = expert(work, j, 1, dx, dy0, lane) if C > 1 else n0
        n2 = expert(work, j, 2, dx, dy0, lane) if C > 2 else n0
        n3 = expert(work, j, 3, dx, dy0, lane) if C > 3 else n0
        for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
            row = r * TILE
            v, u = v0 + slant_v * F(r), across + slant_u * F(r)
            logit = (base - v * v) - u * u
            if steep:
                logit = logit - load(s, PEAK + row)
            w = exp2(logit)
            if SLOPES:
                n0 = expert(work, j, 0, dx, dy0 + r, lane)
                if C > 1:
                    n1 = expert(work, j, 1, dx, dy0 + r, lane)
                if C > 2:
                    n2 = expert(work, j, 2, dx, dy0 + r, lane)
                if C > 3:
                    n3 = expert(work, j, 3, dx, dy0 + r, lane)
            if KEEP:
                store(kept, at, w)
                at += TILE
            _add(s, SUM + row, w)
            _add(s, VALUE + row, w * n0)
            if C > 1:
                _add(s, VALUE + AREA + row, w * n1)
            if C > 2:
                _add(s, VALUE + 2 * AREA + row, w * n2)
            if C > 3:
                _add(s, VALUE + 3 * AREA + row, w * n3)
    for i in range(0, AREA, TILE):
        inverse = F(1) / greatest(load(s, SUM + i), fill(F(1e-20)))  # zero only beyond the canvas's edge
        store(s, SUM + i, inverse)
        for c in range(C):
            k = VALUE + c * AREA + i
            store(s, k, load(s, k) * inverse)


@njit(nogil=True, cache=True, error_model="numpy")
def backward_tile(t, x0, y0, work, s, kept, out):
    """Partial gradients of one tile's pairs, from their weights and scratch: inverse sums, dL/dpicture and its base."""
    C, SLOPES = len(work.channels), len(work.linear) > 0
    _, SLOPE, BASE, _, LANES, _ = places(work)
    lane = places_in_row()
    for i in range(0, AREA, TILE):
        inverse = load(s, SUM + i) * F(1.0 / DOWN)
        for k in range(C + 1):  # the base lies behind the slopes
            store(s, SLOPE + k * AREA + i, load(s, SLOPE + k * AREA + i) * inverse)
    at = 0
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        p, j = work.tile_pairs[q], work.tile_kernel[q]
        first, last = int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        n0 = expert(work, j, 0, dx, dy0, lane)
        n1 = expert(work, j, 1, dx, dy0, lane) if C > 1 else n0
        n2 = expert(work, j, 2, dx, dy0, lane) if C > 2 else n0
        n3 = expert(work, j, 3, dx, dy0, lane) if C > 3 else n0
        # running sums of running sums: what comes k rows before `last` counts k times, then k (k + 1) / 2 times
        d, db, dc = fill(F(0)), fill(F(0)), fill(F(0))
        e0, e1, e2, e3 = d, d, d, d
        h0, h1, h2, h3 = d, d, d, d
        for r in range(first, last):
            row = r * TILE
            w = load(kept, at)
            at += TILE
            if SLOPES:
                n0 = expert(work, j, 0, dx, dy0 + r, lane)
                if C > 1:
                    n1 = expert(work, j, 1, dx, dy0 + r, lane)
                if C > 2:
                    n2 = expert(work, j, 2, dx, dy0 + r, lane)
                if C > 3:
                    n3 = expert(work, j, 3, dx, dy0 + r, lane)
            g = load(s, SLOPE + row)
            worth = g * n0 - load(s, BASE + row)
            e0 = e0 + w * g
            if C > 1:
                g = load(s, SLOPE + AREA + row)
                worth = worth + g * n1
                e1 = e1 + w * g
            if C > 2:
                g = load(s, SLOPE + 2 * AREA + row)
                worth = worth + g * n2
                e2 = e2 + w * g
            if C > 3:
                g = load(s, SLOPE + 3 * AREA + row)
                worth = worth + g * n3
                e3 = e3 + w * g
            if SLOPES:
                h0, h1, h2, h3 = h0 + e0, h1 + e1, h2 + e2, h3 + e3
            d = d + w * worth
            db = db + d
            dc = dc + db
        dy = dy0 + last
        dx_d = d * lane
        store(s, LANES, totals((d, dx_d, dx_d * lane, db, db * lane, dc, e0, e1, e2, e3)))
        m, m1, m2 = DOWN * s[LANES], DOWN * s[LANES + 1], DOWN * s[LANES + 2]
        b, b1, c0 = DOWN * s[LANES + 3], DOWN * s[LANES + 4], DOWN * s[LANES + 5]
        out[p, 0] = F(m)
        out[p, 1] = F(dx * m + m1)
        out[p, 2] = F(dy * m - b)
        out[p, 3] = F(dx * (dx * m + 2.0 * m1) + m2)
        out[p, 4] = F(dx * (dy * m - b) + dy * m1 - b1)
        out[p, 5] = F(dy * (dy * m - 2.0 * b) + 2.0 * c0 - b)
        for c in range(C):
            out[p, MOMENTS + c] = F(DOWN * s[LANES + 6 + c])
        if SLOPES:
            store(s, LANES + TILE, totals((e0 * lane, e1 * lane, e2 * lane, e3 * lane, h0, h1, h2, h3)))
            for c in range(C):
                mass = DOWN * s[LANES + 6 + c]
                out[p, MOMENTS + C + 2 * c] = F(dx * mass + DOWN * s[LANES + TILE + c])
                out[p, MOMENTS + C + 2 * c + 1] = F(dy * mass - DOWN * s[LANES + TILE + 4 + c])
