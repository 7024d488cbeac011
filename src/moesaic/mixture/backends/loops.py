"""Tiles of a mixture on the CPU: Numba loops that release the GIL, to be driven by a pool of threads.

Each tile is one independent piece of work, and each pair of kernel and tile writes its own partial gradient, which a
second pass sums in a fixed order: no atomics, so the same bytes come out whatever the number of threads.

Inner loops run over the 16 pixels of a tile's row, in one scratch array at constant offsets: the form that LLVM turns
into vector instructions without run-time checks for overlap.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from moesaic.mixture.backends.blend import backward_tile, forward_tile
from moesaic.mixture.backends.deep import deep_backward, deep_forward
from moesaic.mixture.backends.lanes import fetch, fill, load, places_in_row, put, store, zero_below
from moesaic.mixture.backends.layout import (
    AREA,
    DEEP,
    HALF,
    LOG2E,
    MOMENTS,
    STEEP,
    TILE,
    places,
    scratch,
)
from moesaic.mixture.backends.lending import borrowed, lent, planes

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


@njit(nogil=True, cache=True, error_model="numpy")
def draw(t, span, left, up, work, s, kept):
    """Draw one tile that is not deep into scratch, and keep the weights of its pairs where there is room for them."""
    bar = work.bars[t] * LOG2E
    peaks(t, span > STEEP, left + 0.5, up + 0.5, work, bar, s)
    forward_tile(t, left + 0.5, up + 0.5, work, bar, span > STEEP, s, kept)


@njit(nogil=True, cache=True, error_model="numpy")
def go_back(t, span, left, up, wide, tall, work, s, kept, out):
    """Partial gradients of one tile, from scratch that holds its picture, inverse sums and dL/dpicture."""
    C = len(work.channels)
    VALUE, SLOPE, BASE, _, _, _ = places(work)
    inside = F(wide) - places_in_row()
    for r in range(TILE):
        base = fill(F(0))
        for c in range(C):
            i = c * AREA + r * TILE
            g = zero_below(load(s, SLOPE + i), inside, F(1) if r < tall else F(2 * TILE))
            store(s, SLOPE + i, g)
            base = base + zero_below(load(s, VALUE + i), inside, F(1)) * g
        store(s, BASE + r * TILE, base)
    if span > DEEP:
        deep_backward(t, left + 0.5, up + 0.5, tall, wide, work, s, out)
    else:
        backward_tile(t, left + 0.5, up + 0.5, work, s, kept, out)


@njit(nogil=True, cache=True, error_model="numpy")
def forward(tiles, work, picture, sums):
    """Draw some tiles into picture (C, H, W); sums (H, W) keeps the inverse sum of weights of each pixel.

    Weights are relative to the tile's bar, or to the pixel's peak where the tile is steep.
    """
    C = len(work.channels)
    VALUE, _, _, _, LANES, _ = places(work)
    height, width = sums.shape
    columns = -(-width // TILE)
    work, pixels, inverses = lent(work), borrowed(picture.reshape(-1)), borrowed(sums.reshape(-1))
    own = scratch(work, tiles[:0])
    s, none = planes(own, work)
    room = borrowed(s[LANES:])
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = depth(t, work)
        if span > DEEP:
            deep_forward(t, left + 0.5, up + 0.5, tall, wide, work, s)
        else:
            draw(t, span, left, up, work, s, none)
        for r in range(tall):
            at = (up + r) * width + left
            put(inverses, at, load(s, SUM + r * TILE), wide, room)
            for c in range(C):
                put(pixels, c * height * width + at, load(s, VALUE + c * AREA + r * TILE), wide, room)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def backward(tiles, work, picture, sums, slope, out):
    """Partial gradients (Q, PARTIAL) of some tiles from dL/dpicture (C, H, W)."""
    C = len(work.channels)
    VALUE, SLOPE, _, _, LANES, _ = places(work)
    height, width = sums.shape
    columns = -(-width // TILE)
    work, out = lent(work), borrowed(out)
    pixels, inverses, slopes = (
        borrowed(picture.reshape(-1)),
        borrowed(sums.reshape(-1)),
        borrowed(slope.reshape(-1)),
    )
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    room = borrowed(s[LANES:])
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = depth(t, work)
        if span <= DEEP:
            draw(t, span, left, up, work, s, kept)
        for r in range(tall):
            i, at = r * TILE, (up + r) * width + left
            store(s, SUM + i, fetch(inverses, at, wide, room))
            for c in range(C):
                plane = c * height * width + at
                store(s, VALUE + c * AREA + i, fetch(pixels, plane, wide, room))
                store(s, SLOPE + c * AREA + i, fetch(slopes, plane, wide, room))
        go_back(t, span, left, up, wide, tall, work, s, kept, out)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def squared(tiles, work, target, out, errors):
    """Draw some tiles, compare with target (C, H, W), and go back at once; errors (H, W) gets squared errors.

    The loss is the sum of squared errors over pixels and channels.
    """
    C = len(work.channels)
    VALUE, SLOPE, _, _, LANES, _ = places(work)
    height, width = errors.shape
    columns = -(-width // TILE)
    work, out = lent(work), borrowed(out)
    aims, squares = borrowed(target.reshape(-1)), borrowed(errors.reshape(-1))
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    room = borrowed(s[LANES:])
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span = depth(t, work)
        if span > DEEP:
            deep_forward(t, left + 0.5, up + 0.5, tall, wide, work, s)
        else:
            draw(t, span, left, up, work, s, kept)
        for r in range(tall):
            i, at = r * TILE, (up + r) * width + left
            total = fill(F(0))
            for c in range(C):
                difference = load(s, VALUE + c * AREA + i) - fetch(aims, c * height * width + at, wide, room)
                store(s, SLOPE + c * AREA + i, difference + difference)
                total = total + difference * difference
            put(squares, at, total, wide, room)
        go_back(t, span, left, up, wide, tall, work, s, kept, out)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def gather(first, last, work, kernel_start, partial, slope):
    """Sum each kernel's partial gradients: slope (N, 6 + WIDTH) = centre, factors, log prior, expert."""
    C, SLOPES, WIDTH = len(work.channels), len(work.linear) > 0, partial.shape[1]
    own = np.empty(WIDTH, np.float64)
    m, work = borrowed(own), lent(work)
    kernel_start, partial, slope = borrowed(kernel_start), borrowed(partial), borrowed(slope)
    for j in range(first, last):
        for k in range(WIDTH):
            m[k] = 0.0
        for p in range(kernel_start[j], kernel_start[j + 1]):
            for k in range(WIDTH):
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
    own[0] = 0.0  # what is lent lives until here
