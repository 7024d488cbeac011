"""Which kernels touch which tile: exact lists by a margin between logits, never by a fixed radius.

A kernel is listed for a tile if its largest logit there comes within `margin` of a lower bound, the tile's bar, on the
largest logit of every pixel. What is left out has, at each pixel, less than exp(-margin) of the weight of the best
kernel there, so with margin = ln(N) + 10 the sum of all that is left out stays below exp(-10) = 4.5e-5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from moesaic.mixture.backends.lanes import fill, greatest, load, places_in_row, store
from moesaic.mixture.backends.layout import TILE
from moesaic.mixture.backends.lending import borrowed
from moesaic.mixture.backends.threads import run

FINE, COARSE = 2, 8  # px; bars are found for blocks of these sides, since a bound over a whole tile would be loose
WIDE = 40.0  # px; kernels that reach farther are bounded on coarse blocks alone
REACH = 3.0  # standard deviations within which a kernel is tried as a block's best
GROUP = 4  # tiles; kernels far from everything are sorted out by groups of this side first
CHUNK = 16  # tiles that are told apart at once
NOTHING = -3.0e38  # finite, since the kernels are compiled without infinities


@dataclass(frozen=True, slots=True)
class Cover:
    """Pairs of kernels and tiles, kernel by kernel, and the order that lists them tile by tile."""

    width: int  # px
    height: int  # px
    bars: NDArray[np.float32]  # (T,), below the largest logit of every pixel of the tile
    pair_kernel: NDArray[np.int32]  # (Q,), ascending
    pair_rows: NDArray[np.uint8]  # (Q, 2), first and one past the last row of the tile that the kernel reaches
    kernel_start: NDArray[np.int64]  # (N + 1,), where a kernel's pairs begin
    tile_pairs: NDArray[np.int32]  # (Q,), pairs in order of tiles
    tile_start: NDArray[np.int64]  # (T + 1,), where a tile's pairs begin in tile_pairs
    tile_kernel: NDArray[np.int32]  # (Q,), pair_kernel in order of tiles, so that a tile reads it in a row
    tile_rows: NDArray[np.uint8]  # (Q, 2), pair_rows in order of tiles

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // TILE)


def exact_margin(kernels: int) -> float:
    """The margin below which all omitted kernels together weigh less than exp(-10) of the best one."""
    return math.log(max(kernels, 1)) + 10.0


def cover(
    centres: NDArray[np.float64],  # (N, 2), px of the output
    geometry: NDArray[np.float32],  # (N, 4), l_xx, l_yx, l_yy, log prior
    width: int,
    height: int,
    margin: float,
    threads: int,
) -> Cover:
    """List the kernels of every tile of a width x height picture; at least one kernel is needed."""
    edges = np.linspace(0, len(centres), threads + 1).astype(np.int64)
    parts = [(a, b) for a, b in pairwise(edges) if b > a]
    raised = run([partial(_blocks, a, b, centres, geometry, width, height) for a, b in parts], threads)
    fine, coarse, best, score = raised[0]
    for more_fine, more_coarse, more_best, more_score in raised[1:]:
        np.maximum(fine, more_fine, out=fine)
        np.maximum(coarse, more_coarse, out=coarse)
        best = np.where(more_score > score, more_best, best)
        score = np.maximum(score, more_score)
    bars = _bars(centres, geometry, width, height, fine, coarse, best, score)
    groups, lowest = _group_bars(width, height, bars)
    rest = (centres, geometry, width, height, bars, groups, lowest, margin)
    found = run([partial(_pairs, a, b, *rest) for a, b in parts], threads)
    pairs = found[0] if len(found) == 1 else np.concatenate(found)
    return Cover(width, height, bars, *_sorted(pairs, len(centres), len(bars)))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"}, inline="always")
def _logit(f0, f1, f2, prior, dx, dy):
    u = f0 * dx + f1 * dy
    v = f2 * dy
    return prior - 0.5 * (u * u + v * v)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"}, inline="always")
def _lowest(f0, f1, f2, prior, cx, cy, x0, y0, x1, y1):
    """Smallest logit over a rectangle of points: a concave function is smallest in a corner."""
    a = min(_logit(f0, f1, f2, prior, x0 - cx, y0 - cy), _logit(f0, f1, f2, prior, x1 - cx, y0 - cy))
    b = min(_logit(f0, f1, f2, prior, x0 - cx, y1 - cy), _logit(f0, f1, f2, prior, x1 - cx, y1 - cy))
    return min(a, b)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _blocks(begin, end, centres, geometry, width, height):
    """Bars of fine and of coarse blocks by the kernels near each, and for each tile the best kernel centred in it."""
    columns, rows = -(-width // TILE), -(-height // TILE)
    fine = np.full((-(-height // FINE), -(-width // FINE) + TILE), NOTHING, np.float32)  # with room for whole lanes
    coarse = np.full((-(-height // COARSE), -(-width // COARSE) + TILE), NOTHING, np.float32)
    best = np.full((rows, columns), -1, np.int64)
    score = np.full((rows, columns), NOTHING, np.float32)
    own = (fine, coarse, best, score)
    centres, geometry = borrowed(centres), borrowed(geometry)
    fine, coarse, best, score = borrowed(fine), borrowed(coarse), borrowed(best), borrowed(score)
    for j in range(begin, end):
        f0, f1, f2, prior = geometry[j, 0], geometry[j, 1], geometry[j, 2], geometry[j, 3]
        cx, cy = centres[j, 0], centres[j, 1]
        across = REACH * math.sqrt(np.float64(f1) * f1 + np.float64(f2) * f2) / (np.float64(f0) * f2)
        down = REACH / np.float64(f2)
        if across < WIDE and down < WIDE:
            _raise(fine, FINE, f0, f1, f2, prior, cx, cy, across, down)
        else:
            _raise(coarse, COARSE, f0, f1, f2, prior, cx, cy, across, down)
        tx = int(min(max(math.floor(cx / TILE), 0.0), columns - 1.0))
        ty = int(min(max(math.floor(cy / TILE), 0.0), rows - 1.0))
        x0, y0 = tx * TILE + 0.5, ty * TILE + 0.5
        x1, y1 = min(tx * TILE + TILE, width) - 0.5, min(ty * TILE + TILE, height) - 0.5
        low = _lowest(f0, f1, f2, prior, cx, cy, x0, y0, x1, y1)
        if best[ty, tx] < 0 or low > score[ty, tx]:
            best[ty, tx], score[ty, tx] = j, low
    return own


@njit(nogil=True, cache=True, error_model="numpy")
def _raise(blocks, side, f0, f1, f2, prior, cx, cy, across, down):
    """Lift the bars of the blocks within reach of a kernel, and a few beyond, to what it surely gives their pixels."""
    rows, columns = blocks.shape[0], blocks.shape[1] - TILE
    x_first, x_last = _span(cx, across + 0.5 * side, side, columns)
    y_first, y_last = _span(cy, down + 0.5 * side, side, rows)
    half = np.float32(0.5 * (side - 1))  # px, from a block's middle to its farthest pixel centres
    margin_u, margin_v = (f0 + abs(f1)) * half, f2 * half
    step = f0 * np.float32(side)
    away = places_in_row() * step
    flat = borrowed(blocks.reshape(-1))
    for by in range(y_first, y_last):
        dy = np.float32((by + 0.5) * side - cy)
        v = abs(f2 * dy) + margin_v
        top = fill(prior - np.float32(0.5) * v * v)
        for bx in range(x_first, x_last, TILE):
            u = away + np.float32(f0 * ((bx + 0.5) * side - cx) + f1 * dy)
            u = greatest(u, np.float32(0) - u) + margin_u
            place = by * (columns + TILE) + bx
            store(flat, place, greatest(load(flat, place), top - u * u * np.float32(0.5)))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _bars(centres, geometry, width, height, fine, coarse, best, score):
    """The bar of each tile: the lowest of its blocks' bars, or what one handed-on kernel gives the whole tile."""
    rows, columns = best.shape
    fine, coarse, best, score = borrowed(fine), borrowed(coarse), borrowed(best), borrowed(score)
    _spread(borrowed(centres), borrowed(geometry), width, height, best, score)
    own = np.empty(rows * columns, np.float32)
    bars = borrowed(own)
    for ty in range(rows):
        for tx in range(columns):
            bar = np.float32(3.0e38)
            for by in range(ty * TILE // FINE, min((ty * TILE + TILE) // FINE, fine.shape[0])):
                for bx in range(tx * TILE // FINE, min((tx * TILE + TILE) // FINE, -(-width // FINE))):
                    bar = min(bar, max(fine[by, bx], coarse[by * FINE // COARSE, bx * FINE // COARSE]))
            bar = max(bar, score[ty, tx])
            # rounding must not lift the bar above the logit that it bounds
            bars[ty * columns + tx] = bar - np.float32(1e-5) * abs(bar) - np.float32(1e-4)
    return own


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _spread(centres, geometry, width, height, best, score):
    """Hand good kernels on to tiles that none was near, in two sweeps like a distance transform.

    Any kernel gives a valid bar; a near one gives a tight bar.
    """
    rows, columns = best.shape
    for sweep in range(4):
        forward = sweep % 2 == 0
        for step in range(rows * columns):
            place = step if forward else rows * columns - 1 - step
            ty, tx = place // columns, place % columns
            x0, y0 = tx * TILE + 0.5, ty * TILE + 0.5
            x1, y1 = min(tx * TILE + TILE, width) - 0.5, min(ty * TILE + TILE, height) - 0.5
            for near in range(4):
                if forward:
                    ny = ty - 1 if near < 3 else ty
                    nx = tx + near - 1 if near < 3 else tx - 1
                else:
                    ny = ty + 1 if near < 3 else ty
                    nx = tx + near - 1 if near < 3 else tx + 1
                if ny < 0 or nx < 0 or ny >= rows or nx >= columns or best[ny, nx] < 0:
                    continue
                j = best[ny, nx]
                if j == best[ty, tx]:
                    continue
                low = _lowest(
                    geometry[j, 0], geometry[j, 1], geometry[j, 2], geometry[j, 3], centres[j, 0], centres[j, 1],
                    x0, y0, x1, y1,
                )  # fmt: skip
                if best[ty, tx] < 0 or low > score[ty, tx]:
                    best[ty, tx] = j
                    score[ty, tx] = low


@njit(nogil=True, cache=True)
def _group_bars(width, height, bars):
    """The lowest bar of each group of tiles, and of all."""
    columns, rows = -(-width // TILE), -(-height // TILE)
    groups = np.full((-(-rows // GROUP), -(-columns // GROUP)), np.float32(-NOTHING))
    lowest = np.float32(-NOTHING)
    for ty in range(rows):
        for tx in range(columns):
            bar = bars[ty * columns + tx]
            lowest = min(lowest, bar)
            groups[ty // GROUP, tx // GROUP] = min(groups[ty // GROUP, tx // GROUP], bar)
    return groups, lowest


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def _pairs(begin, end, centres, geometry, width, height, bars, groups, lowest, margin):
    """Pairs of kernel and tile, kernel by kernel: kernel, tile, and the rows that the kernel reaches (Q, 4).

    Tiles that may be reached are told apart sixteen at a time.
    """
    columns, rows = -(-width // TILE), -(-height // TILE)
    down, across = groups.shape
    centres, geometry, bars, groups = borrowed(centres), borrowed(geometry), borrowed(bars), borrowed(groups)
    room = max(16 * (end - begin), 1024)
    own = np.empty((room, 4), np.int32)
    own_chunk, own_tiles = np.zeros(CHUNK * 5, np.float64), np.empty(CHUNK, np.int32)
    pairs, chunk, tiles = borrowed(own), borrowed(own_chunk), borrowed(own_tiles)
    count = 0
    for j in range(begin, end):
        f0, f1, f2 = np.float64(geometry[j, 0]), np.float64(geometry[j, 1]), np.float64(geometry[j, 2])
        prior = np.float64(geometry[j, 3])
        cx, cy = centres[j, 0], centres[j, 1]
        wide = math.sqrt(f1 * f1 + f2 * f2) / (f0 * f2)  # standard deviation along x
        tall = 1.0 / f2
        reach = 2.0 * (prior - lowest + margin)
        if reach <= 0.0:
            continue
        root = math.sqrt(reach)
        gx0, gx1 = _span(cx, root * wide, TILE * GROUP, across)
        gy0, gy1 = _span(cy, root * tall, TILE * GROUP, down)
        most = count + (gx1 - gx0) * (gy1 - gy0) * GROUP * GROUP + CHUNK
        if most > room:
            room = max(2 * room, most)
            own = _grown(own, count, room)
            pairs = borrowed(own)
        held = 0
        for gy in range(gy0, gy1):
            for gx in range(gx0, gx1):
                reach_g = 2.0 * (prior - groups[gy, gx] + margin)
                if reach_g <= 0.0:
                    continue
                root_g = math.sqrt(reach_g)
                tx0, tx1 = _span(cx, root_g * wide, TILE, columns)
                ty0, ty1 = _span(cy, root_g * tall, TILE, rows)
                for ty in range(max(ty0, gy * GROUP), min(ty1, gy * GROUP + GROUP)):
                    for tx in range(max(tx0, gx * GROUP), min(tx1, gx * GROUP + GROUP)):
                        tile = ty * columns + tx
                        tiles[held] = tile
                        chunk[held] = tx * TILE - cx
                        chunk[CHUNK + held] = ty * TILE - cy
                        chunk[2 * CHUNK + held] = 2.0 * (prior - bars[tile] + margin)
                        held += 1
                        if held == CHUNK:
                            _reach(f0, f1, f2, width - cx, height - cy, chunk)
                            count = _keep(j, held, tiles, chunk, pairs, count)
                            held = 0
        if held > 0:
            _reach(f0, f1, f2, width - cx, height - cy, chunk)
            count = _keep(j, held, tiles, chunk, pairs, count)
    own_chunk[0], own_tiles[0] = 0.0, 0  # what is lent lives until here
    return own[:count]


@njit(nogil=True, cache=True, forceinline=True)
def _keep(j, held, tiles, chunk, pairs, count):
    """Append those tiles of a chunk in which kernel j reaches any row; returns how many pairs there are then."""
    for i in range(held):
        first, last = int(chunk[3 * CHUNK + i]), int(chunk[4 * CHUNK + i])
        pairs[count, 0], pairs[count, 1], pairs[count, 2], pairs[count, 3] = j, tiles[i], first, last
        count += 1 if last > first else 0
    return count


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "nnan"})
def _reach(f0, f1, f2, right, bottom, chunk):
    """Rows of each tile of a chunk in which an ellipse |L^T d|^2 <= r lies, as first and one past the last.

    A chunk holds the tiles' offsets across and down from the kernel's centre and each one's r, and gets the rows; what
    it holds is worked on without branches, so that it becomes vector instructions.
    """
    tall, lean = 1.0 / f2, -f1 / f0
    square_u, square_v = f0 * f0 * f2 * f2, f1 * f1 + f2 * f2
    inverse, shear = 1.0 / square_v, -f0 * f1
    half_u, half_v = (f0 + abs(f1)) * (0.5 * TILE), f2 * (0.5 * TILE)
    for i in range(CHUNK):
        x, y, r = chunk[i], chunk[CHUNK + i], chunk[2 * CHUNK + i]
        # the least that |L^T d| can be over the tile, by its middle
        v = max(abs(f2 * (y + 0.5 * TILE)) - half_v, 0.0)
        u = max(abs(f0 * (x + 0.5 * TILE) + f1 * (y + 0.5 * TILE)) - half_u, 0.0)
        missed = u * u + v * v > r
        r = max(r, 0.0)
        xa, xb = x + 0.5, min(x + TILE, right) - 0.5
        # the ellipse's highest and lowest points where they lie in the strip of the tile's columns, else those on the
        # strip's nearer edge, which the ellipse may miss
        peak = math.sqrt(r) * tall
        at = lean * peak
        edge = min(max(at, xa), xb)
        square = square_v * r - square_u * edge * edge
        high = peak if edge == at else (shear * edge + math.sqrt(max(square, 0.0))) * inverse
        missed |= (edge != at) & (square < 0.0)
        edge = min(max(-at, xa), xb)
        square = square_v * r - square_u * edge * edge
        low = -peak if edge == -at else (shear * edge - math.sqrt(max(square, 0.0))) * inverse
        missed |= (edge != -at) & (square < 0.0)
        first = max(math.ceil(low - y - 0.5 - 1e-3), 0.0)
        last = min(math.floor(high - y - 0.5 + 1e-3) + 1.0, 1.0 * TILE, np.rint(bottom - y))
        chunk[3 * CHUNK + i] = first
        chunk[4 * CHUNK + i] = 0.0 if missed else last


@njit(nogil=True, cache=True)
def _grown(values, count, room):
    more = np.empty((room, values.shape[1]), values.dtype)
    more[:count] = values[:count]
    return more


@njit(nogil=True, cache=True, inline="always")
def _span(centre, half, side, count):
    """Cells of a side that [centre - half, centre + half] touches, as first and one past the last."""
    first = max(min(math.floor((centre - half) / side), count * 1.0), 0.0)
    last = max(min(math.floor((centre + half) / side) + 1.0, count * 1.0), 0.0)
    return int(first), int(last)


@njit(nogil=True, cache=True)
def _sorted(found, kernels, tiles):
    """Pairs apart, where each kernel's begin, and by a counting sort that keeps their order, the pairs tile by tile."""
    pairs = borrowed(found)
    pair_kernel, pair_rows = np.empty(len(pairs), np.int32), np.empty((len(pairs), 2), np.uint8)
    kernel_start, tile_start = np.zeros(kernels + 1, np.int64), np.zeros(tiles + 1, np.int64)
    tile_pairs, tile_kernel = np.empty(len(pairs), np.int32), np.empty(len(pairs), np.int32)
    tile_rows = np.empty((len(pairs), 2), np.uint8)
    place = np.empty(tiles, np.int64)
    _sort(
        pairs,
        borrowed(pair_kernel),
        borrowed(pair_rows),
        borrowed(kernel_start),
        borrowed(tile_pairs),
        borrowed(tile_start),
        borrowed(tile_kernel),
        borrowed(tile_rows),
        borrowed(place),
    )
    place[:] = 0  # what is lent lives until here
    return pair_kernel, pair_rows, kernel_start, tile_pairs, tile_start, tile_kernel, tile_rows


@njit(nogil=True, cache=True)
def _sort(pairs, pair_kernel, pair_rows, kernel_start, tile_pairs, tile_start, tile_kernel, tile_rows, place):
    for p in range(len(pairs)):
        kernel_start[pairs[p, 0] + 1] += 1
        tile_start[pairs[p, 1] + 1] += 1
    for j in range(len(kernel_start) - 1):
        kernel_start[j + 1] += kernel_start[j]
    for t in range(len(place)):
        place[t] = tile_start[t]
        tile_start[t + 1] += tile_start[t]
    for p in range(len(pairs)):
        j, t, first, last = pairs[p, 0], pairs[p, 1], pairs[p, 2], pairs[p, 3]
        q = place[t]
        place[t] = q + 1
        pair_kernel[p] = tile_kernel[q] = j
        pair_rows[p, 0] = tile_rows[q, 0] = first
        pair_rows[p, 1] = tile_rows[q, 1] = last
        tile_pairs[q] = p
