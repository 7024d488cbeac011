"""Tiles of a mixture on the CPU: Numba loops that release the GIL, to be driven by a pool of threads.

Each tile is one independent piece of work, and each pair of kernel and tile writes its own partial gradient, which a
second pass sums in a fixed order: no atomics, so the same bytes come out whatever the number of threads.

Inner loops run over the 16 pixels of a tile's row, in one scratch array at constant offsets: the form that LLVM turns
into vector instructions without run-time checks for overlap.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from moesaic.mixture.backends.deep import deep_backward, deep_forward
from moesaic.mixture.backends.layout import AREA, DEEP, HALF, LOG2E, MOMENTS, STEEP, TILE, places, scratch

F = np.float32
SUM = 0  # the plane of sums in scratch
FAST = {"contract", "nsz", "arcp", "nnan", "ninf", "reassoc"}


@njit(nogil=True, inline="always", fastmath=FAST, error_model="numpy")
def exp2(x):
    """2^x for -126 <= x <= 127: exponent bits and a polynomial of degree 5, relative error below 1e-7."""
    whole = np.rint(x)
    part = x - whole
    p = np.float32(1.327647196e-03)
    p = p * part + np.float32(9.675541503e-03)
    p = p * part + np.float32(5.550713275e-02)
    p = p * part + np.float32(2.402211972e-01)
    p = p * part + np.float32(6.931469671e-01)
    p = p * part + np.float32(1.0)
    return np.int32(np.float32(p).view(np.int32) + np.int32(np.int32(whole) << np.int32(23))).view(np.float32)


@njit(nogil=True, cache=True, error_model="numpy")
def depth(t, work):
    """How far the bar of a tile lies below the largest prior of its kernels."""
    top = F(-3.0e38)
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        top = max(top, work.geometry[work.tile_kernel[q], 3])
    return top - work.bars[t]


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def peaks(t, steep, x0, y0, work, bar, s):
    """Each pixel's largest logit relative to the bar where a tile is steep, else 0."""
    PEAK = places(work)[3]
    for i in range(AREA):
        s[PEAK + i] = F(0)
    if not steep:
        return
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        j = work.tile_kernel[q]
        f0, f1, f2 = work.geometry[j, 0] * HALF, work.geometry[j, 1] * HALF, work.geometry[j, 2] * HALF
        dx = x0 - work.centres[j, 0]
        for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
            dy = y0 - work.centres[j, 1] + r
            top = F(work.geometry[j, 3] * LOG2E - bar - f2 * dy * f2 * dy)
            a = F(f0 * dx + f1 * dy)
            for x in range(TILE):
                u = a + F(f0) * F(x)
                s[PEAK + r * TILE + x] = max(s[PEAK + r * TILE + x], top - u * u)


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def forward_tile(t, x0, y0, work, bar, s):
    """Weights and weighted sums of one tile into scratch; weights are relative to 2^bar."""
    C, SLOPES = len(work.channels), len(work.linear) > 0
    VALUE, _, _, PEAK, _, _ = places(work)
    for i in range(AREA * (1 + C)):
        s[i] = F(0)
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        j = work.tile_kernel[q]
        first, last = int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])
        f0, f1, f2 = work.geometry[j, 0] * HALF, work.geometry[j, 1] * HALF, work.geometry[j, 2] * HALF
        dx = x0 - work.centres[j, 0]
        dy0 = y0 - work.centres[j, 1]
        prior = work.geometry[j, 3] * LOG2E - bar
        # rows are told apart in float32, from a first row that is exact
        step, slant_u, slant_v = F(f0), F(f1), F(f2)
        u0, v0, base = F(f0 * dx + f1 * dy0), F(f2 * dy0), F(prior)
        m0 = work.experts[j, 0]
        m1 = work.experts[j, 1] if C > 1 else F(0)
        m2 = work.experts[j, 2] if C > 2 else F(0)
        m3 = work.experts[j, 3] if C > 3 else F(0)
        h0 = work.experts[j, C] if SLOPES else F(0)
        h1 = work.experts[j, C + 2] if SLOPES and C > 1 else F(0)
        h2 = work.experts[j, C + 4] if SLOPES and C > 2 else F(0)
        h3 = work.experts[j, C + 6] if SLOPES and C > 3 else F(0)
        for r in range(first, last):
            k = F(r)
            v = v0 + slant_v * k
            top = base - v * v
            a = u0 + slant_u * k
            n0, n1, n2, n3 = m0, m1, m2, m3
            if SLOPES:
                n0 = F(m0 + h0 * dx + work.experts[j, C + 1] * (dy0 + r))
                if C > 1:
                    n1 = F(m1 + h1 * dx + work.experts[j, C + 3] * (dy0 + r))
                if C > 2:
                    n2 = F(m2 + h2 * dx + work.experts[j, C + 5] * (dy0 + r))
                if C > 3:
                    n3 = F(m3 + h3 * dx + work.experts[j, C + 7] * (dy0 + r))
            row = r * TILE
            for x in range(TILE):
                lane = F(x)
                u = a + step * lane
                w = exp2(max(top - u * u - s[PEAK + row + x], F(-126)))
                s[SUM + row + x] += w
                if SLOPES:
                    s[VALUE + row + x] += w * (n0 + h0 * lane)
                    if C > 1:
                        s[VALUE + AREA + row + x] += w * (n1 + h1 * lane)
                    if C > 2:
                        s[VALUE + 2 * AREA + row + x] += w * (n2 + h2 * lane)
                    if C > 3:
                        s[VALUE + 3 * AREA + row + x] += w * (n3 + h3 * lane)
                else:
                    s[VALUE + row + x] += w * n0
                    if C > 1:
                        s[VALUE + AREA + row + x] += w * n1
                    if C > 2:
                        s[VALUE + 2 * AREA + row + x] += w * n2
                    if C > 3:
                        s[VALUE + 3 * AREA + row + x] += w * n3
    for i in range(AREA):
        inverse = F(1) / max(s[SUM + i], F(1e-37))  # zero only beyond the canvas's edge
        s[SUM + i] = inverse
        for c in range(C):
            s[VALUE + c * AREA + i] *= inverse


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")
def backward_tile(t, x0, y0, work, bar, s, out):
    """Partial gradients of one tile's pairs, from scratch that holds inverse sums, dL/dpicture and its base."""
    C, SLOPES = len(work.channels), len(work.linear) > 0
    _, SLOPE, BASE, PEAK, LANES, _ = places(work)
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        p = work.tile_pairs[q]
        j = work.tile_kernel[q]
        first, last = int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])
        f0, f1, f2 = work.geometry[j, 0] * HALF, work.geometry[j, 1] * HALF, work.geometry[j, 2] * HALF
        dx = x0 - work.centres[j, 0]
        dy0 = y0 - work.centres[j, 1]
        prior = work.geometry[j, 3] * LOG2E - bar
        # rows are told apart in float32, from a first row that is exact
        step, slant_u, slant_v = F(f0), F(f1), F(f2)
        u0, v0, base = F(f0 * dx + f1 * dy0), F(f2 * dy0), F(prior)
        m0 = work.experts[j, 0]
        m1 = work.experts[j, 1] if C > 1 else F(0)
        m2 = work.experts[j, 2] if C > 2 else F(0)
        m3 = work.experts[j, 3] if C > 3 else F(0)
        h0 = work.experts[j, C] if SLOPES else F(0)
        h1 = work.experts[j, C + 2] if SLOPES and C > 1 else F(0)
        h2 = work.experts[j, C + 4] if SLOPES and C > 2 else F(0)
        h3 = work.experts[j, C + 6] if SLOPES and C > 3 else F(0)
        for i in range((3 + 2 * C) * TILE):
            s[LANES + i] = F(0)
        for r in range(first, last):
            k = F(r)
            v = v0 + slant_v * k
            top = base - v * v
            a = u0 + slant_u * k
            down = F(dy0) + k
            n0, n1, n2, n3 = m0, m1, m2, m3
            if SLOPES:
                n0 = F(m0 + h0 * dx + work.experts[j, C + 1] * (dy0 + r))
                if C > 1:
                    n1 = F(m1 + h1 * dx + work.experts[j, C + 3] * (dy0 + r))
                if C > 2:
                    n2 = F(m2 + h2 * dx + work.experts[j, C + 5] * (dy0 + r))
                if C > 3:
                    n3 = F(m3 + h3 * dx + work.experts[j, C + 7] * (dy0 + r))
            row = r * TILE
            for x in range(TILE):
                lane = F(x)
                u = a + step * lane
                w = exp2(max(top - u * u - s[PEAK + row + x], F(-126))) * s[SUM + row + x]
                g0 = s[SLOPE + row + x]
                worth = g0 * (n0 + h0 * lane if SLOPES else n0) - s[BASE + row + x]
                s[LANES + 3 * TILE + x] += w * g0
                if SLOPES:
                    s[LANES + (3 + C) * TILE + x] += w * g0 * down
                if C > 1:
                    g1 = s[SLOPE + AREA + row + x]
                    worth += g1 * (n1 + h1 * lane if SLOPES else n1)
                    s[LANES + 4 * TILE + x] += w * g1
                    if SLOPES:
                        s[LANES + (4 + C) * TILE + x] += w * g1 * down
                if C > 2:
                    g2 = s[SLOPE + 2 * AREA + row + x]
                    worth += g2 * (n2 + h2 * lane if SLOPES else n2)
                    s[LANES + 5 * TILE + x] += w * g2
                    if SLOPES:
                        s[LANES + (5 + C) * TILE + x] += w * g2 * down
                if C > 3:
                    g3 = s[SLOPE + 3 * AREA + row + x]
                    worth += g3 * (n3 + h3 * lane if SLOPES else n3)
                    s[LANES + 6 * TILE + x] += w * g3
                    if SLOPES:
                        s[LANES + (6 + C) * TILE + x] += w * g3 * down
                d = w * worth
                s[LANES + x] += d
                s[LANES + TILE + x] += d * down
                s[LANES + 2 * TILE + x] += d * down * down
        d0, d1, d2, dy1, dxy, dyy = F(0), F(0), F(0), F(0), F(0), F(0)
        for x in range(TILE):
            lane = F(x)
            d = s[LANES + x]
            d0 += d
            d1 += d * lane
            d2 += d * lane * lane
            dy1 += s[LANES + TILE + x]
            dxy += s[LANES + TILE + x] * lane
            dyy += s[LANES + 2 * TILE + x]
        out[p, 0] = d0
        out[p, 1] = F(dx * d0 + d1)
        out[p, 2] = dy1
        out[p, 3] = F(dx * dx * d0 + 2.0 * dx * d1 + d2)
        out[p, 4] = F(dx * dy1 + dxy)
        out[p, 5] = dyy
        for c in range(C):
            e0, e1, e2 = F(0), F(0), F(0)
            for x in range(TILE):
                e0 += s[LANES + (3 + c) * TILE + x]
                e1 += s[LANES + (3 + c) * TILE + x] * F(x)
                if SLOPES:
                    e2 += s[LANES + (3 + C + c) * TILE + x]
            out[p, MOMENTS + c] = e0
            if SLOPES:
                out[p, MOMENTS + C + 2 * c] = F(dx * e0 + e1)
                out[p, MOMENTS + C + 2 * c + 1] = e2


@njit(nogil=True, cache=True, error_model="numpy")
def draw(t, left, up, wide, tall, work, s):
    """Draw one tile into scratch by the path that its range of logits needs; returns that range."""
    span = depth(t, work)
    if span > DEEP:
        deep_forward(t, left + 0.5, up + 0.5, tall, wide, work, s)
    else:
        bar = work.bars[t] * LOG2E
        peaks(t, span > STEEP, left + 0.5, up + 0.5, work, bar, s)
        forward_tile(t, left + 0.5, up + 0.5, work, bar, s)
    return span


@njit(nogil=True, cache=True, error_model="numpy")
def go_back(t, span, left, up, wide, tall, work, s, out):
    """Partial gradients of one tile, from scratch that holds its picture, inverse sums and dL/dpicture."""
    C = len(work.channels)
    VALUE, SLOPE, BASE, _, _, _ = places(work)
    for i in range(AREA):
        inside = i % TILE < wide and i // TILE < tall
        base = F(0)
        for c in range(C):
            if not inside:
                s[SLOPE + c * AREA + i] = F(0)
                s[VALUE + c * AREA + i] = F(0)
            base += s[SLOPE + c * AREA + i] * s[VALUE + c * AREA + i]
        s[BASE + i] = base
        if not inside:
            s[SUM + i] = F(0)
    if span > DEEP:
        deep_backward(t, left + 0.5, up + 0.5, tall, wide, work, s, out)
    else:
        backward_tile(t, left + 0.5, up + 0.5, work, work.bars[t] * LOG2E, s, out)


@njit(nogil=True, cache=True, error_model="numpy")
def forward(tiles, work, picture, sums):
    """Draw some tiles into picture (C, H, W); sums (H, W) keeps the inverse sum of weights of each pixel."""
    C, VALUE = len(work.channels), places(work)[0]
    height, width = sums.shape
    columns = -(-width // TILE)
    s = scratch(work)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        draw(t, left, up, wide, tall, work, s)
        for r in range(tall):
            for x in range(wide):
                sums[up + r, left + x] = s[SUM + r * TILE + x]
            for c in range(C):
                for x in range(wide):
                    picture[c, up + r, left + x] = s[VALUE + c * AREA + r * TILE + x]


@njit(nogil=True, cache=True, error_model="numpy")
def backward(tiles, work, picture, sums, slope, out):
    """Partial gradients (Q, PARTIAL) of some tiles from dL/dpicture (C, H, W)."""
    C = len(work.channels)
    VALUE, SLOPE, _, _, _, _ = places(work)
    height, width = sums.shape
    columns = -(-width // TILE)
    s = scratch(work)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = depth(t, work)
        peaks(t, STEEP < span <= DEEP, left + 0.5, up + 0.5, work, work.bars[t] * LOG2E, s)
        for r in range(tall):
            for x in range(wide):
                i = r * TILE + x
                s[SUM + i] = sums[up + r, left + x]
                for c in range(C):
                    s[VALUE + c * AREA + i] = picture[c, up + r, left + x]
                    s[SLOPE + c * AREA + i] = slope[c, up + r, left + x]
        go_back(t, span, left, up, wide, tall, work, s, out)


@njit(nogil=True, cache=True, error_model="numpy")
def squared(tiles, work, target, out, errors):
    """Draw some tiles, compare with target (C, H, W), and go back at once; errors (H, W) gets squared errors.

    The loss is the sum of squared errors over pixels and channels.
    """
    C = len(work.channels)
    VALUE, SLOPE, _, _, _, _ = places(work)
    height, width = errors.shape
    columns = -(-width // TILE)
    s = scratch(work)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = draw(t, left, up, wide, tall, work, s)
        for r in range(tall):
            for x in range(wide):
                i = r * TILE + x
                total = F(0)
                for c in range(C):
                    difference = s[VALUE + c * AREA + i] - target[c, up + r, left + x]
                    s[SLOPE + c * AREA + i] = F(2) * difference
                    total += difference * difference
                errors[up + r, left + x] = total
        go_back(t, span, left, up, wide, tall, work, s, out)


@njit(nogil=True, cache=True, error_model="numpy")
def gather(first, last, work, kernel_start, partial, slope):
    """Sum each kernel's partial gradients: slope (N, 6 + WIDTH) = centre, factors, log prior, expert."""
    C, SLOPES = len(work.channels), len(work.linear) > 0
    for j in range(first, last):
        m = np.zeros(partial.shape[1], np.float64)
        for p in range(kernel_start[j], kernel_start[j + 1]):
            for k in range(partial.shape[1]):
                m[k] += partial[p, k]
        f0, f1, f2 = (
            np.float64(work.geometry[j, 0]),
            np.float64(work.geometry[j, 1]),
            np.float64(work.geometry[j, 2]),
        )
        along = f0 * m[1] + f1 * m[2]
        slope[j, 0] = f0 * along
        slope[j, 1] = f1 * along + f2 * f2 * m[2]
        slope[j, 2] = -(f0 * m[3] + f1 * m[4])
        slope[j, 3] = -(f0 * m[4] + f1 * m[5])
        slope[j, 4] = -f2 * m[5]
        slope[j, 5] = m[0]
        for k in range(work.experts.shape[1]):
            slope[j, 6 + k] = m[MOMENTS + k]
        if SLOPES:  # the expert is linear in x - centre, so the centre moves its value too
            for c in range(C):
                slope[j, 0] -= work.experts[j, C + 2 * c] * m[MOMENTS + c]
                slope[j, 1] -= work.experts[j, C + 2 * c + 1] * m[MOMENTS + c]
