"""Which kernels touch which tile, found on the device: the rule of `cover`, by halving cells from large to small.

Each cell gets a bar, a lower bound on the largest logit of each of its pixels, from the kernels that its parent lists;
then it lists those whose largest logit within the cell comes within the margin of the bar. A kernel that no parent
lists lies below the margin at every pixel already, so nothing is lost on the way down. Any bar is right, a tight one
makes short lists: a cell's bar is the lowest of the bars of its blocks, and a block's is the best that one kernel
surely gives all of it.

Lists are counted, then added up, then written, in the order of kernels: no sort, no atomics, and no size that the host
would have to wait for. Where a list outgrows its room the rest is dropped, and `Lists.needed` tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from moesaic.mixture.backends.gpu_canvas import Canvas

COLUMNS = tl.constexpr(6)  # of a table of cells, see gpu_canvas
NOTHING = tl.constexpr(-3.0e38)
ROUNDED = tl.constexpr(4e-7)  # relative error of float32 sums of two products, generously
SEGMENT = 1024  # kernels that one program sees at the top level
CHUNK = 128  # kernels tested at once
NEAR = 32  # kernels bounded on 64 blocks at once
SPARE = 1024  # pairs that every list has room for, and what room is a multiple of


@dataclass(frozen=True, slots=True)
class Lists:
    """Pairs of tile and kernel in order of tiles, and of kernels within a tile."""

    bars: Tensor  # (T,) float32, below the largest logit of every pixel of the tile
    start: Tensor  # (T + 1,) int64, where a tile's pairs begin; may run beyond the room
    kernel: Tensor  # (R,) int32, with room for R pairs; zeros follow the last pair
    needed: Tensor  # (levels,) int64, pairs that each level's list has
    room: tuple[int, ...]  # pairs, of each level


def first_room(canvas: Canvas, margin: float) -> tuple[int, ...]:
    """Room for the lists of each level, from an earlier need where there was one."""
    if margin in canvas.room:
        return canvas.room[margin]
    guesses = []
    for level in canvas.levels:
        usual = (1.0 + 60.0 / level.side) ** 2 * canvas.total + 16 * len(level.cells)
        guesses.append(min(int(usual), _most(canvas, level.side)))
    return tuple(rounded(guess) for guess in guesses)


def rounded(pairs: int) -> int:
    """Room for at least so many pairs."""
    return -(-(pairs + SPARE) // SPARE) * SPARE


def _most(canvas: Canvas, side: int) -> int:
    """Every kernel in every cell of its picture."""
    sizes = zip(canvas.sizes, canvas.kernels, strict=True)
    return sum(n * -(-width // side) * -(-height // side) for (width, height), n in sizes)


def list_kernels(
    canvas: Canvas,
    centres: Tensor,  # (N, 2) float64, px
    geometry: Tensor,  # (N, 4) float32, l_xx, l_yx, l_yy in 1/px, log prior
    margin: float,
    room: tuple[int, ...],  # pairs, of each level
) -> Lists:
    """List kernels by tile within this room, without waiting for the device."""
    device = centres.device
    top = canvas.levels[0]
    segments = -(-max(canvas.kernels) // SEGMENT)
    grid = (len(top.cells), segments)
    shared = (top.cells, canvas.kernel_start, centres, geometry)
    bounds = torch.empty((*grid, 16), dtype=torch.float32, device=device)
    counts = torch.empty(grid, dtype=torch.int32, device=device)
    bound_top[grid](*shared, bounds, segments, SIDE=top.side, LENGTH=SEGMENT, WIDTH=NEAR, num_warps=4)
    bars = bounds.amax(dim=1).amin(dim=1)
    count_top[grid](*shared, bars, counts, margin, segments, SIDE=top.side, LENGTH=SEGMENT, WIDTH=CHUNK, num_warps=4)
    start = _starts(counts)
    kernel = torch.empty(room[0], dtype=torch.int32, device=device)
    write_top[grid](
        *shared, bars, start, kernel, room[0], margin, segments,
        SIDE=top.side, LENGTH=SEGMENT, WIDTH=CHUNK, num_warps=4,
    )  # fmt: skip
    needed = [start[-1:]]
    stride = segments
    for level, wide in zip(canvas.levels[1:], room[1:], strict=True):
        cells = len(level.cells)
        above = (level.cells, start, kernel, len(kernel), stride, centres, geometry)
        bars = torch.empty(cells, dtype=torch.float32, device=device)
        counts = torch.empty(cells, dtype=torch.int32, device=device)
        bound_cells[(cells,)](*above, bars, counts, margin, SIDE=level.side, NEAR=NEAR, WIDTH=CHUNK, num_warps=4)
        below = _starts(counts)
        written = torch.zeros(wide, dtype=torch.int32, device=device)
        write_cells[(cells,)](*above, bars, below, written, wide, margin, SIDE=level.side, WIDTH=CHUNK, num_warps=4)
        start, kernel, stride = below, written, 1
        needed.append(start[-1:])
    return Lists(bars, start, kernel, torch.cat(needed), room)


def _starts(counts: Tensor) -> Tensor:  # (M,) or (M, S) -> (M * S + 1,)
    start = torch.zeros(counts.numel() + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts.view(-1), 0, out=start[1:])
    return start


@triton.jit
def lower(f0, f1, f2, prior, dx, dy, half):
    """A lower bound on the logit over a square of pixel centres, `half` px around an offset from the centre."""
    u = tl.abs(f0 * dx + f1 * dy) + (f0 + tl.abs(f1)) * half + ROUNDED * (tl.abs(f0 * dx) + tl.abs(f1 * dy))
    v = f2 * (tl.abs(dy) + half)
    return prior - 0.5 * (u * u + v * v)


@triton.jit
def norm(f0, f1, f2, dx, dy):
    """|L^T d|^2, rounded downwards."""
    u = tl.abs(f0 * dx + f1 * dy) - ROUNDED * (tl.abs(f0 * dx) + tl.abs(f1 * dy))
    u = tl.maximum(u, 0.0)
    v = f2 * dy
    return (u * u + v * v) * (1.0 - 4e-6)


@triton.jit
def reaches(f0, f1, f2, prior, left, right, top, bottom, low):
    """Whether the largest logit over a rectangle of offsets from the centre exceeds `low`; in doubt it does.

    The least of a convex function whose minimum lies outside a rectangle is on an edge that faces the minimum.
    """
    x = tl.minimum(tl.maximum(left, 0.0), right)
    y = tl.minimum(tl.maximum(top, 0.0), bottom)
    beside = tl.minimum(tl.maximum(-(f0 / (f1 * f1 + f2 * f2)) * f1 * x, top), bottom)
    along = tl.minimum(tl.maximum(-(f1 / f0) * y, left), right)
    least = tl.minimum(norm(f0, f1, f2, x, beside), norm(f0, f1, f2, along, y))
    return least <= 2.0 * (prior - low)


@triton.jit
def load_shape(geometry, j, mask):
    """Factors and log prior of kernels; a masked one is round and can never matter."""
    f0 = tl.load(geometry + 4 * j, mask=mask, other=1.0)
    f1 = tl.load(geometry + 4 * j + 1, mask=mask, other=0.0)
    f2 = tl.load(geometry + 4 * j + 2, mask=mask, other=1.0)
    prior = tl.load(geometry + 4 * j + 3, mask=mask, other=-1e30)
    return f0, f1, f2, prior


@triton.jit
def load_offset(centres, j, mask, x, y):
    """Offsets from kernels to a whole place, subtracted in float64."""
    dx = (x.to(tl.float64) - tl.load(centres + 2 * j, mask=mask, other=0.0)).to(tl.float32)
    dy = (y.to(tl.float64) - tl.load(centres + 2 * j + 1, mask=mask, other=0.0)).to(tl.float32)
    return dx, dy


@triton.jit
def listed(cells, cell, centres, geometry, j, mask, low, SIDE: tl.constexpr):
    """Which of some kernels a cell lists, `low` being its bar less the margin."""
    left = tl.load(cells + cell * COLUMNS)
    top = tl.load(cells + cell * COLUMNS + 1)
    wide = tl.minimum(tl.load(cells + cell * COLUMNS + 2) - left, SIDE)
    tall = tl.minimum(tl.load(cells + cell * COLUMNS + 3) - top, SIDE)
    f0, f1, f2, prior = load_shape(geometry, j, mask)
    dx, dy = load_offset(centres, j, mask, left, top)
    dx += 0.5
    dy += 0.5
    return mask & reaches(f0, f1, f2, prior, dx, dx + (wide - 1), dy, dy + (tall - 1), low)


@triton.jit
def bound_top(
    cells, kernel_start, centres, geometry, bounds, segments,
    SIDE: tl.constexpr, LENGTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """What one segment of a picture's kernels surely gives to 16 blocks of a large cell."""
    cell, segment = tl.program_id(0), tl.program_id(1)
    left = tl.load(cells + cell * COLUMNS)
    top = tl.load(cells + cell * COLUMNS + 1)
    width = tl.load(cells + cell * COLUMNS + 2)
    height = tl.load(cells + cell * COLUMNS + 3)
    picture = tl.load(cells + cell * COLUMNS + 4)
    begin = tl.load(kernel_start + picture) + segment * LENGTH
    end = tl.minimum(tl.load(kernel_start + picture + 1), begin + LENGTH)
    block = tl.arange(0, 16)
    across, down = (block % 4) * (SIDE // 4), (block // 4) * (SIDE // 4)
    MIDDLE: tl.constexpr = SIDE // 8
    half = MIDDLE - 0.5  # px, to a block's farthest pixel centres
    best = tl.full((16,), NOTHING, tl.float32)
    i = begin
    while i < end:
        j = i + tl.arange(0, WIDTH)
        mask = j < end
        f0, f1, f2, prior = load_shape(geometry, j, mask)
        dx, dy = load_offset(centres, j, mask, left + MIDDLE, top + MIDDLE)
        low = lower(
            f0[None, :], f1[None, :], f2[None, :], prior[None, :],
            dx[None, :] + across[:, None], dy[None, :] + down[:, None], half,
        )  # fmt: skip
        best = tl.maximum(best, tl.max(low, axis=1))
        i += WIDTH
    outside = (left + across >= width) | (top + down >= height)
    best = tl.where(outside, -NOTHING, best - 1e-5 * tl.abs(best) - 1e-4)
    tl.store(bounds + (cell * segments + segment) * 16 + block, best)


@triton.jit
def count_top(
    cells, kernel_start, centres, geometry, bars, counts, margin, segments,
    SIDE: tl.constexpr, LENGTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """How many kernels of one segment a large cell lists."""
    cell, segment = tl.program_id(0), tl.program_id(1)
    picture = tl.load(cells + cell * COLUMNS + 4)
    begin = tl.load(kernel_start + picture) + segment * LENGTH
    end = tl.minimum(tl.load(kernel_start + picture + 1), begin + LENGTH)
    low = tl.load(bars + cell) - margin
    found = tl.zeros((WIDTH,), tl.int32)
    i = begin
    while i < end:
        j = i + tl.arange(0, WIDTH)
        found += listed(cells, cell, centres, geometry, j, j < end, low, SIDE).to(tl.int32)
        i += WIDTH
    tl.store(counts + cell * segments + segment, tl.sum(found))


@triton.jit
def write_top(
    cells, kernel_start, centres, geometry, bars, start, kernel, room, margin, segments,
    SIDE: tl.constexpr, LENGTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """List the kernels of one segment for a large cell."""
    cell, segment = tl.program_id(0), tl.program_id(1)
    picture = tl.load(cells + cell * COLUMNS + 4)
    begin = tl.load(kernel_start + picture) + segment * LENGTH
    end = tl.minimum(tl.load(kernel_start + picture + 1), begin + LENGTH)
    low = tl.load(bars + cell) - margin
    place = tl.load(start + cell * segments + segment)
    i = begin
    while i < end:
        j = i + tl.arange(0, WIDTH)
        mask = listed(cells, cell, centres, geometry, j, j < end, low, SIDE)
        count = mask.to(tl.int32)
        at = place + tl.cumsum(count, axis=0) - 1
        tl.store(kernel + at, j, mask=mask & (at < room))
        place += tl.sum(count)
        i += WIDTH


@triton.jit
def bound_cells(
    cells, start, kernel, room, stride, centres, geometry, bars, counts, margin,
    SIDE: tl.constexpr, NEAR: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The bar of a cell by 64 blocks, from its parent's list, and how many kernels of that list it keeps."""
    cell = tl.program_id(0)
    left = tl.load(cells + cell * COLUMNS)
    top = tl.load(cells + cell * COLUMNS + 1)
    width = tl.load(cells + cell * COLUMNS + 2)
    height = tl.load(cells + cell * COLUMNS + 3)
    parent = tl.load(cells + cell * COLUMNS + 4)
    begin = tl.minimum(tl.load(start + parent * stride), room)
    end = tl.minimum(tl.load(start + (parent + 1) * stride), room)
    block = tl.arange(0, 64)
    across, down = (block % 8) * (SIDE // 8), (block // 8) * (SIDE // 8)
    MIDDLE: tl.constexpr = SIDE // 16
    half = MIDDLE - 0.5  # px, to a block's farthest pixel centres
    best = tl.full((64,), NOTHING, tl.float32)
    i = begin
    while i < end:
        q = i + tl.arange(0, NEAR)
        mask = q < end
        j = tl.load(kernel + q, mask=mask, other=0)
        f0, f1, f2, prior = load_shape(geometry, j, mask)
        dx, dy = load_offset(centres, j, mask, left + MIDDLE, top + MIDDLE)
        low = lower(
            f0[None, :], f1[None, :], f2[None, :], prior[None, :],
            dx[None, :] + across[:, None], dy[None, :] + down[:, None], half,
        )  # fmt: skip
        best = tl.maximum(best, tl.max(low, axis=1))
        i += NEAR
    outside = (left + across >= width) | (top + down >= height)
    bar = tl.min(tl.where(outside, -NOTHING, best), axis=0)
    bar = bar - 1e-5 * tl.abs(bar) - 1e-4  # rounding must not lift it above the logit that it bounds
    tl.store(bars + cell, bar)
    low_enough = bar - margin
    found = tl.zeros((WIDTH,), tl.int32)
    i = begin
    while i < end:
        q = i + tl.arange(0, WIDTH)
        mask = q < end
        j = tl.load(kernel + q, mask=mask, other=0)
        found += listed(cells, cell, centres, geometry, j, mask, low_enough, SIDE).to(tl.int32)
        i += WIDTH
    tl.store(counts + cell, tl.sum(found))


@triton.jit
def write_cells(
    cells, start, kernel, room, stride, centres, geometry, bars, below, written, wide, margin,
    SIDE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """List the kernels of a cell, in the order of its parent's list."""
    cell = tl.program_id(0)
    parent = tl.load(cells + cell * COLUMNS + 4)
    begin = tl.minimum(tl.load(start + parent * stride), room)
    end = tl.minimum(tl.load(start + (parent + 1) * stride), room)
    low = tl.load(bars + cell) - margin
    place = tl.load(below + cell)
    i = begin
    while i < end:
        q = i + tl.arange(0, WIDTH)
        mask = q < end
        j = tl.load(kernel + q, mask=mask, other=0)
        mask = listed(cells, cell, centres, geometry, j, mask, low, SIDE)
        count = mask.to(tl.int32)
        at = place + tl.cumsum(count, axis=0) - 1
        tl.store(written + at, j, mask=mask & (at < wide))
        place += tl.sum(count)
        i += WIDTH
