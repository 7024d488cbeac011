"""What each kernel is worth, and what splitting it would be worth, measured on the device; see `survey`."""

from __future__ import annotations

import triton
import triton.language as tl

from moesaic.mixture.backends.gpu_tiles import COLUMNS, DEEP, HALF, NEVER, logit, pixels, tile_pairs


@triton.jit
def weigh_channel(plane, target, picture, colour, inside, live, w, push, u, v, out, c: tl.constexpr, C: tl.constexpr):
    """One channel's share of the cost, after its sums for a split are stored."""
    drawn = tl.load(picture + plane, mask=inside, other=0.0)
    miss = drawn - tl.load(target + plane, mask=inside, other=0.0)
    tl.store(out + 4 + c, -tl.sum(w * u * miss, axis=0), mask=live)
    tl.store(out + 4 + C + c, -tl.sum(w * v * miss, axis=0), mask=live)
    change = push * (drawn - colour)
    return change * (change + 2.0 * miss)


@triton.jit
def survey(
    cells, start, kernel, room, record, span, level, picture, target, experts,
    partial,  # (room, 4 + 2 C)
    shares,
    C: tl.constexpr, ORDER: tl.constexpr,
):  # fmt: skip
    """Partial sums of one share of a tile's pairs; pixels of deep tiles count nothing."""
    tile, share = tl.program_id(0), tl.program_id(1)
    begin, end = tile_pairs(start, tile, room)
    length = (end - begin + shares - 1) // shares
    begin += share * length
    end = tl.minimum(end, begin + length)
    x, y, plane, inside, size = pixels(cells, tile)
    first = tl.load(cells + tile * COLUMNS + 5)
    whole = tl.load(level + first + plane, mask=inside, other=-NEVER)
    if tl.load(span + tile) > DEEP:
        whole -= NEVER
    plane += C * first
    K: tl.constexpr = C * (1 + 2 * ORDER)
    i = begin
    while i < end:
        live = i < end
        w = tl.exp2(logit(record, room, i, live, x, y) - whole)
        step0 = tl.load(record + 2 * room + i)
        step1 = tl.load(record + 3 * room + i)
        u = (tl.load(record + i) + step0 * x + step1 * y) * (1.0 / HALF)
        v = (tl.load(record + room + i) + tl.load(record + 4 * room + i) * y) * (1.0 / HALF)
        out = partial + i * (4 + 2 * C)
        push = w / tl.maximum(1.0 - w, 1e-4)
        cost = w * 0.0
        row = experts + tl.load(kernel + i) * K
        for c in tl.static_range(C):
            at = plane + c * size
            cost += weigh_channel(at, target, picture, tl.load(row + c), inside, live, w, push, u, v, out, c, C)
        tl.store(out, tl.sum(cost, axis=0))
        tl.store(out + 1, tl.sum(w * w * u * u, axis=0))
        tl.store(out + 2, tl.sum(w * w * u * v, axis=0))
        tl.store(out + 3, tl.sum(w * w * v * v, axis=0))
        i += 1
