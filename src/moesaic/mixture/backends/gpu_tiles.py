"""Tiles of a mixture on the GPU: one small program draws a tile, or finds the gradients of a share of its pairs.

A program is one or two warps that walk down the tile's list kernel by kernel, with the tile's pixels spread over the
threads: what belongs to the kernel is the same number in all of them, drawing needs no exchange between threads, and a
gradient needs one sum over a warp for each moment. Each pair writes its own moments, which `gpu_gather` sums in a fixed
order: no atomics.

`place` first puts each pair into the tile's coordinates, subtracting in float64, so that float32 carries all the rest.
Weights are relative to the tile's bar in powers of two; where the tile is steep, to each pixel's largest logit, found
in a walk before; tiles that are deep are left to `gpu_deep`. Drawing keeps the logarithm of each pixel's sum (its
level), and the way back takes it off the logits: that gives gates at once, with nothing that could overflow.
"""

from __future__ import annotations

import triton
import triton.language as tl

from moesaic.mixture.backends import layout
from moesaic.mixture.backends.gpu_canvas import COLUMNS as TABLE

COLUMNS = tl.constexpr(TABLE)
TILE = tl.constexpr(layout.TILE)
AREA = tl.constexpr(layout.AREA)
LOG2E = tl.constexpr(layout.LOG2E)
HALF = tl.constexpr(layout.HALF)
STEEP = tl.constexpr(layout.STEEP)
DEEP = tl.constexpr(layout.DEEP)
MOMENTS = tl.constexpr(layout.MOMENTS)
GEOMETRY = tl.constexpr(8)  # numbers of a record before the expert's: u, v, their steps, base, offset
NEVER = tl.constexpr(-1e30)  # a logit of weight 0
WALK = 64  # pairs placed at once


@triton.jit
def tile_pairs(start, tile, room):
    """Where a tile's pairs begin and end, within the room that their list has."""
    begin = tl.minimum(tl.load(start + tile), room)
    return begin, tl.minimum(tl.load(start + tile + 1), room)


@triton.jit
def pixels(cells, tile):
    """Of the tile: offsets from its middle (px), offsets into one plane of its picture, and which are on the canvas."""
    left = tl.load(cells + tile * COLUMNS)
    top = tl.load(cells + tile * COLUMNS + 1)
    width = tl.load(cells + tile * COLUMNS + 2)
    height = tl.load(cells + tile * COLUMNS + 3)
    pixel = tl.arange(0, AREA)
    column, row = pixel % TILE, pixel // TILE
    inside = (left + column < width) & (top + row < height)
    x = column.to(tl.float32) - 0.5 * (TILE - 1)
    y = row.to(tl.float32) - 0.5 * (TILE - 1)
    return x, y, (top + row) * width + left + column, inside, width * height


@triton.jit
def place(
    cells, start, kernel, room, bars,  # lists
    centres, geometry, experts,  # (N, 2) float64, (N, 4), (N, C) or (N, 3 C)
    record,  # (8 + C or 8 + 3 C, room)
    span,  # (T,), nats from the bar to the largest prior
    C: tl.constexpr, ORDER: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write each pair's numbers in its tile's own coordinates, whose origin is the tile's middle."""
    tile = tl.program_id(0)
    begin, end = tile_pairs(start, tile, room)
    left = tl.load(cells + tile * COLUMNS) + TILE // 2
    top = tl.load(cells + tile * COLUMNS + 1) + TILE // 2
    bar = tl.load(bars + tile).to(tl.float64)
    highest = tl.full((WIDTH,), NEVER, tl.float32)
    K: tl.constexpr = C * (1 + 2 * ORDER)
    i = begin
    while i < end:
        q = i + tl.arange(0, WIDTH)
        mask = q < end
        j = tl.load(kernel + q, mask=mask, other=0)
        dx = left.to(tl.float64) - tl.load(centres + 2 * j, mask=mask, other=0.0)
        dy = top.to(tl.float64) - tl.load(centres + 2 * j + 1, mask=mask, other=0.0)
        f0 = tl.load(geometry + 4 * j, mask=mask, other=0.0)
        f1 = tl.load(geometry + 4 * j + 1, mask=mask, other=0.0)
        f2 = tl.load(geometry + 4 * j + 2, mask=mask, other=0.0)
        prior = tl.load(geometry + 4 * j + 3, mask=mask, other=NEVER).to(tl.float64)
        u = (f0.to(tl.float64) * dx + f1.to(tl.float64) * dy) * HALF
        v = f2.to(tl.float64) * dy * HALF
        tl.store(record + q, u.to(tl.float32), mask=mask)
        tl.store(record + room + q, v.to(tl.float32), mask=mask)
        tl.store(record + 2 * room + q, f0 * HALF, mask=mask)
        tl.store(record + 3 * room + q, f1 * HALF, mask=mask)
        tl.store(record + 4 * room + q, f2 * HALF, mask=mask)
        tl.store(record + 5 * room + q, ((prior - bar) * LOG2E).to(tl.float32), mask=mask)
        tl.store(record + 6 * room + q, dx.to(tl.float32), mask=mask)
        tl.store(record + 7 * room + q, dy.to(tl.float32), mask=mask)
        for c in tl.static_range(C):
            value = tl.load(experts + j * K + c, mask=mask, other=0.0)
            if ORDER == 1:
                along = tl.load(experts + j * K + C + 2 * c, mask=mask, other=0.0)
                down = tl.load(experts + j * K + C + 2 * c + 1, mask=mask, other=0.0)
                tl.store(record + (GEOMETRY + C + 2 * c) * room + q, along, mask=mask)
                tl.store(record + (GEOMETRY + C + 2 * c + 1) * room + q, down, mask=mask)
                middle = value.to(tl.float64) + along.to(tl.float64) * dx + down.to(tl.float64) * dy
                value = middle.to(tl.float32)
            tl.store(record + (GEOMETRY + c) * room + q, value, mask=mask)
        highest = tl.maximum(highest, (prior - bar).to(tl.float32))
        i += WIDTH
    tl.store(span + tile, tl.max(highest, axis=0))


@triton.jit
def logit(record, room, q, live, x, y):
    """One pair's logits over the tile's pixels, in powers of two above the bar."""
    u = tl.load(record + q, mask=live, other=0.0)
    v = tl.load(record + room + q, mask=live, other=0.0)
    f0 = tl.load(record + 2 * room + q, mask=live, other=0.0)
    f1 = tl.load(record + 3 * room + q, mask=live, other=0.0)
    f2 = tl.load(record + 4 * room + q, mask=live, other=0.0)
    base = tl.load(record + 5 * room + q, mask=live, other=NEVER)
    u = u + f1 * y + f0 * x
    v = v + f2 * y
    return base - v * v - u * u


@triton.jit
def expert(record, room, q, live, x, y, c: tl.constexpr, C: tl.constexpr, ORDER: tl.constexpr):
    """One pair's expert in channel c: a number, or for order 1 a value at each pixel."""
    value = tl.load(record + (GEOMETRY + c) * room + q, mask=live, other=0.0)
    if ORDER == 1:
        along = tl.load(record + (GEOMETRY + C + 2 * c) * room + q, mask=live, other=0.0)
        down = tl.load(record + (GEOMETRY + C + 2 * c + 1) * room + q, mask=live, other=0.0)
        value = value + along * x + down * y
    return value


@triton.jit
def finish(
    planes, plane, size, inside, value0, value1, value2, value3,
    target, picture, slope, base, error, C: tl.constexpr, COMPARE: tl.constexpr,
):  # fmt: skip
    """Write a tile's picture; or with COMPARE, its squared error, the slope of that, and what the way back needs."""
    total = value0 * 0.0
    level = value0 * 0.0
    for c in tl.static_range(C):
        value = value0
        if c == 1:
            value = value1
        if c == 2:
            value = value2
        if c == 3:
            value = value3
        at = C * planes + c * size + plane
        if COMPARE:
            miss = value - tl.load(target + at, mask=inside, other=0.0)
            tl.store(slope + at, 2.0 * miss, mask=inside)
            total += miss * miss
            level += 2.0 * miss * value
        else:
            tl.store(picture + at, value, mask=inside)
    if COMPARE:
        tl.store(error + planes + plane, total, mask=inside)
        tl.store(base + planes + plane, level, mask=inside)


@triton.jit
def forward(
    cells, start, room, record, span,
    target,  # planes, where COMPARE
    picture,  # planes, unless COMPARE
    level,  # one plane: the logarithm (base 2) of each pixel's sum of weights, above the bar
    slope, base, error,  # planes, and two single ones, where COMPARE: dL/dpicture, its product with the picture, L
    C: tl.constexpr, ORDER: tl.constexpr, COMPARE: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Draw one tile, unless it is deep."""
    tile = tl.program_id(0)
    steep = tl.load(span + tile)
    if steep > DEEP:
        return
    begin, end = tile_pairs(start, tile, room)
    x, y, plane, inside, size = pixels(cells, tile)
    first = tl.load(cells + tile * COLUMNS + 5)
    peak = tl.zeros((AREA,), tl.float32)
    if steep > STEEP:
        peak += NEVER
        i = begin
        while i < end:
            for k in tl.static_range(UNROLL):
                peak = tl.maximum(peak, logit(record, room, i + k, i + k < end, x, y))
            i += UNROLL
    total = tl.zeros((AREA,), tl.float32)
    value0 = tl.zeros((AREA,), tl.float32)
    value1 = tl.zeros((AREA,), tl.float32)
    value2 = tl.zeros((AREA,), tl.float32)
    value3 = tl.zeros((AREA,), tl.float32)
    i = begin
    while i < end:
        for k in tl.static_range(UNROLL):
            q = i + k
            live = q < end
            w = tl.exp2(logit(record, room, q, live, x, y) - peak)
            total += w
            value0 += w * expert(record, room, q, live, x, y, 0, C, ORDER)
            if C > 1:
                value1 += w * expert(record, room, q, live, x, y, 1, C, ORDER)
            if C > 2:
                value2 += w * expert(record, room, q, live, x, y, 2, C, ORDER)
            if C > 3:
                value3 += w * expert(record, room, q, live, x, y, 3, C, ORDER)
        i += UNROLL
    total = tl.maximum(total, 1e-37)  # zero beyond the canvas's edge, or under a list made for other kernels
    tl.store(level + first + plane, peak + tl.log2(total), mask=inside)
    finish(
        first, plane, size, inside,
        tl.div_rn(value0, total), tl.div_rn(value1, total), tl.div_rn(value2, total), tl.div_rn(value3, total),
        target, picture, slope, base, error, C, COMPARE,
    )  # fmt: skip


@triton.jit
def store_moments(out, live, d, dx, dy):
    """The six sums of dL/dlogit over a tile's pixels, times powers of the offset from the kernel's centre."""
    along, down = d * dx, d * dy
    tl.store(out, tl.sum(d, axis=0), mask=live)
    tl.store(out + 1, tl.sum(along, axis=0), mask=live)
    tl.store(out + 2, tl.sum(down, axis=0), mask=live)
    tl.store(out + 3, tl.sum(along * dx, axis=0), mask=live)
    tl.store(out + 4, tl.sum(along * dy, axis=0), mask=live)
    tl.store(out + 5, tl.sum(down * dy, axis=0), mask=live)


@triton.jit
def store_expert(out, live, w, dx, dy, c: tl.constexpr, C: tl.constexpr, ORDER: tl.constexpr):
    """The sums for channel c of a pair's expert, w being the gate times dL/dpicture."""
    tl.store(out + MOMENTS + c, tl.sum(w, axis=0), mask=live)
    if ORDER == 1:
        tl.store(out + MOMENTS + C + 2 * c, tl.sum(w * dx, axis=0), mask=live)
        tl.store(out + MOMENTS + C + 2 * c + 1, tl.sum(w * dy, axis=0), mask=live)


@triton.jit
def backward(
    cells, start, room, record, span, level, slope, base,
    partial,  # (room, 6 + C) or (room, 6 + 3 C)
    shares,
    C: tl.constexpr, ORDER: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Moments of one share of a tile's pairs, unless the tile is deep."""
    tile, share = tl.program_id(0), tl.program_id(1)
    if tl.load(span + tile) > DEEP:
        return
    begin, end = tile_pairs(start, tile, room)
    length = (end - begin + shares - 1) // shares
    begin += share * length
    end = tl.minimum(end, begin + length)
    x, y, plane, inside, size = pixels(cells, tile)
    first = tl.load(cells + tile * COLUMNS + 5)
    K: tl.constexpr = MOMENTS + C * (1 + 2 * ORDER)
    whole = tl.load(level + first + plane, mask=inside, other=-NEVER)  # beyond the canvas no gate is open
    against = tl.load(base + first + plane, mask=inside, other=0.0)
    plane += C * first
    slope0 = tl.load(slope + plane, mask=inside, other=0.0)
    slope1 = slope0
    slope2 = slope0
    slope3 = slope0
    if C > 1:
        slope1 = tl.load(slope + plane + size, mask=inside, other=0.0)
    if C > 2:
        slope2 = tl.load(slope + plane + 2 * size, mask=inside, other=0.0)
    if C > 3:
        slope3 = tl.load(slope + plane + 3 * size, mask=inside, other=0.0)
    i = begin
    while i < end:
        for k in tl.static_range(UNROLL):
            q = i + k
            live = q < end
            w = tl.exp2(logit(record, room, q, live, x, y) - whole)
            dx = tl.load(record + 6 * room + q, mask=live, other=0.0) + x
            dy = tl.load(record + 7 * room + q, mask=live, other=0.0) + y
            out = partial + q * K
            worth = slope0 * expert(record, room, q, live, x, y, 0, C, ORDER) - against
            store_expert(out, live, w * slope0, dx, dy, 0, C, ORDER)
            if C > 1:
                worth += slope1 * expert(record, room, q, live, x, y, 1, C, ORDER)
                store_expert(out, live, w * slope1, dx, dy, 1, C, ORDER)
            if C > 2:
                worth += slope2 * expert(record, room, q, live, x, y, 2, C, ORDER)
                store_expert(out, live, w * slope2, dx, dy, 2, C, ORDER)
            if C > 3:
                worth += slope3 * expert(record, room, q, live, x, y, 3, C, ORDER)
                store_expert(out, live, w * slope3, dx, dy, 3, C, ORDER)
            store_moments(out, live, w * worth, dx, dy)
        i += UNROLL
