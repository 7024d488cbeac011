"""The float64 path for tiles far from every kernel, where float32 logits would lose what decides the gates.

Such tiles are rare, so this is plain: the largest logit, then the sum, then what is asked for, each in a walk of its
own down the tile's list. Programs of other tiles end at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from moesaic.mixture.backends.gpu_tiles import (
    COLUMNS,
    DEEP,
    MOMENTS,
    TILE,
    finish,
    pixels,
    store_expert,
    store_moments,
    tile_pairs,
)

AREA = tl.constexpr(TILE.value * TILE.value)


@triton.jit
def offsets(cells, tile, centres, j, x, y):
    """From a kernel's centre to the tile's pixels."""
    left = tl.load(cells + tile * COLUMNS) + TILE // 2
    top = tl.load(cells + tile * COLUMNS + 1) + TILE // 2
    dx = (left.to(tl.float64) - tl.load(centres + 2 * j)) + x.to(tl.float64)
    dy = (top.to(tl.float64) - tl.load(centres + 2 * j + 1)) + y.to(tl.float64)
    return dx, dy


@triton.jit
def deep_logit(geometry, j, dx, dy):
    """A kernel's logits in nats."""
    u = tl.load(geometry + 4 * j).to(tl.float64) * dx + tl.load(geometry + 4 * j + 1).to(tl.float64) * dy
    v = tl.load(geometry + 4 * j + 2).to(tl.float64) * dy
    return tl.load(geometry + 4 * j + 3).to(tl.float64) - 0.5 * (u * u + v * v)


@triton.jit
def deep_expert(experts, j, dx, dy, c: tl.constexpr, C: tl.constexpr, ORDER: tl.constexpr):
    """Channel c of a kernel's expert."""
    value = dx * 0.0 + tl.load(experts + j * C * (1 + 2 * ORDER) + c).to(tl.float64)
    if ORDER == 1:
        along = tl.load(experts + j * C * 3 + C + 2 * c).to(tl.float64)
        down = tl.load(experts + j * C * 3 + C + 2 * c + 1).to(tl.float64)
        value = value + along * dx + down * dy
    return value


@triton.jit
def normaliser(cells, tile, begin, end, kernel, centres, geometry, x, y):
    """The largest logit of each pixel, and the sum of weights relative to it."""
    peak = tl.full((AREA,), -1e300, tl.float64)
    total = tl.zeros((AREA,), tl.float64)
    i = begin
    while i < end:
        j = tl.load(kernel + i)
        dx, dy = offsets(cells, tile, centres, j, x, y)
        peak = tl.maximum(peak, deep_logit(geometry, j, dx, dy))
        i += 1
    i = begin
    while i < end:
        j = tl.load(kernel + i)
        dx, dy = offsets(cells, tile, centres, j, x, y)
        total += tl.exp(deep_logit(geometry, j, dx, dy) - peak)
        i += 1
    return peak, total


@triton.jit
def deep_forward(
    cells, start, kernel, room, centres, geometry, experts, span, target, picture, level, slope, base, error,
    C: tl.constexpr, ORDER: tl.constexpr, COMPARE: tl.constexpr,
):  # fmt: skip
    """Draw one tile if it is deep; see `gpu_tiles.forward`."""
    tile = tl.program_id(0)
    if tl.load(span + tile) <= DEEP:
        return
    begin, end = tile_pairs(start, tile, room)
    x, y, plane, inside, size = pixels(cells, tile)
    first = tl.load(cells + tile * COLUMNS + 5)
    peak, total = normaliser(cells, tile, begin, end, kernel, centres, geometry, x, y)
    value0 = tl.zeros((AREA,), tl.float64)
    value1 = tl.zeros((AREA,), tl.float64)
    value2 = tl.zeros((AREA,), tl.float64)
    value3 = tl.zeros((AREA,), tl.float64)
    i = begin
    while i < end:
        j = tl.load(kernel + i)
        dx, dy = offsets(cells, tile, centres, j, x, y)
        gate = tl.exp(deep_logit(geometry, j, dx, dy) - peak) / total
        value0 += gate * deep_expert(experts, j, dx, dy, 0, C, ORDER)
        if C > 1:
            value1 += gate * deep_expert(experts, j, dx, dy, 1, C, ORDER)
        if C > 2:
            value2 += gate * deep_expert(experts, j, dx, dy, 2, C, ORDER)
        if C > 3:
            value3 += gate * deep_expert(experts, j, dx, dy, 3, C, ORDER)
        i += 1
    tl.store(level + first + plane, tl.zeros((AREA,), tl.float32), mask=inside)  # the way back finds its own
    finish(
        first, plane, size, inside,
        value0.to(tl.float32), value1.to(tl.float32), value2.to(tl.float32), value3.to(tl.float32),
        target, picture, slope, base, error, C, COMPARE,
    )  # fmt: skip


@triton.jit
def deep_backward(
    cells, start, kernel, room, centres, geometry, experts, span, slope, base, partial,
    C: tl.constexpr, ORDER: tl.constexpr,
):  # fmt: skip
    """Moments of one tile's pairs if it is deep; see `gpu_tiles.backward`."""
    tile = tl.program_id(0)
    if tl.load(span + tile) <= DEEP:
        return
    begin, end = tile_pairs(start, tile, room)
    x, y, plane, inside, size = pixels(cells, tile)
    first = tl.load(cells + tile * COLUMNS + 5)
    K: tl.constexpr = MOMENTS + C * (1 + 2 * ORDER)
    against = tl.load(base + first + plane, mask=inside, other=0.0).to(tl.float64)
    plane += C * first
    peak, total = normaliser(cells, tile, begin, end, kernel, centres, geometry, x, y)
    i = begin
    while i < end:
        j = tl.load(kernel + i)
        dx, dy = offsets(cells, tile, centres, j, x, y)
        gate = tl.exp(deep_logit(geometry, j, dx, dy) - peak) / total
        worth = -against
        for c in tl.static_range(C):
            pull = tl.load(slope + plane + c * size, mask=inside, other=0.0).to(tl.float64)
            worth += pull * deep_expert(experts, j, dx, dy, c, C, ORDER)
            store_expert(partial + i * K, True, gate * pull, dx, dy, c, C, ORDER)
        store_moments(partial + i * K, True, gate * worth, dx, dy)
        i += 1
