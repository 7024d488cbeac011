"""One tile of a mixture in float32: its weights and weighted sums, and the way back to each kernel's partial gradient.

A Gaussian along a column of pixels is a geometric progression of the second order: from row to row its weight changes
by a factor that itself changes by a constant factor. So two products a row take the place of an exponential, in runs
of a few rows from a first row that is exact. Where a run would begin below the smallest float and rise from there,
each of its rows takes exponentials.

The weights of a tile are kept between the way forward and the way back.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from moesaic.mixture.backends.lanes import (
    exp2,
    fill,
    greatest,
    load,
    places_in_row,
    some_below,
    store,
    totals,
    zero_below,
)
from moesaic.mixture.backends.layout import AREA, HALF, LOG2E, MOMENTS, TILE, places

F = np.float32
SUM = 0  # the plane of sums in scratch
RUN = 8  # rows from one exponential to the next
LEAST, MOST = F(-126), F(120)  # powers of two that a float32 holds, and that a factor from row to row may reach
LOST = 45  # powers of two below the bar; a weight below that counts nothing
DOWN = 2.0**-40  # gradients are lifted by its inverse on the way back, so that none is too small for a float32


@njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def forms(geometry):
    """What rows need of each kernel (N, 7), in powers of two.

    The three factors; the log prior; the bend of the logit along a column; the factor by which the change of a weight
    from row to row itself changes, 0 where it is too small; how fast the largest logit of a column falls across.
    """
    out = np.empty((len(geometry), 7), np.float32)
    for j in range(len(geometry)):
        f0, f1, f2 = geometry[j, 0] * F(HALF), geometry[j, 1] * F(HALF), geometry[j, 2] * F(HALF)
        bend = f1 * f1 + f2 * f2
        out[j, 0], out[j, 1], out[j, 2] = f0, f1, f2
        out[j, 3] = geometry[j, 3] * F(LOG2E)
        out[j, 4] = bend
        out[j, 5] = np.exp2(F(-2) * bend) if F(2) * bend < MOST else F(0)
        out[j, 6] = f0 * f2 / np.sqrt(bend)
    return out


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
def forward_tile(t, x0, y0, work, bar, steep, lost, s, kept):
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
        r, last = int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        step, slant_u, slant_v = work.forms[j, 0], work.forms[j, 1], work.forms[j, 2]
        base, bend, bent = F(work.forms[j, 3] - bar), work.forms[j, 4], work.forms[j, 5]
        gentle = not steep and bent > F(0)
        n0 = expert(work, j, 0, dx, dy0, lane)
        n1 = expert(work, j, 1, dx, dy0, lane) if C > 1 else n0
        n2 = expert(work, j, 2, dx, dy0, lane) if C > 2 else n0
        n3 = expert(work, j, 3, dx, dy0, lane) if C > 3 else n0
        while r < last:
            begin, stop = r, min(r + RUN, last)
            dy = dy0 + r
            u, v = F(step * dx + slant_u * dy), F(slant_v * dy)
            across = lane * step + fill(u)
            weight, ratio = across, across
            smooth = gentle
            if gentle:
                twice = slant_u + slant_u
                fall = -(slant_v * (v + v) + bend)
                smooth = fall - min(twice * u, twice * (u + F(TILE - 1) * step)) < MOST
                logit = fill(base - v * v) - across * across
                if smooth and some_below(logit, LEAST):
                    away = (lane + F(dx)) * work.forms[j, 6]
                    highest = fill(base) - away * away
                    smooth = not some_below(greatest(logit - LEAST, fill(lost) - highest), F(0))
                weight = zero_below(exp2(logit), logit, LEAST)
                ratio = exp2(fill(fall) - across * twice)
            for r in range(begin, stop):
                row = r * TILE
                w = weight
                if smooth:
                    weight = weight * ratio
                    ratio = ratio * bent
                else:
                    k = F(r - begin)
                    down, along = v + slant_v * k, across + slant_u * k
                    w = exp2(fill(base - down * down) - along * along - load(s, PEAK + row))
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
            r = stop
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
