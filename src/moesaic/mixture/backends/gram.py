"""The normal equations of colours: what each two kernels of a tile share of its pixels.

With its gates w fixed, a picture is linear in its colours m: sum_j w_j m_j. Its least squares need the products
sum_x w_i w_j of kernels that meet in a tile, and sum_x w_i y with the picture y. Pixels are read once for both; what
conjugate gradients do after that takes no more than a product of small matrices a tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from moesaic.mixture.backends.cover import Cover
from moesaic.mixture.backends.cpu import Packed, spans, work
from moesaic.mixture.backends.deep import deep_pixel
from moesaic.mixture.backends.lanes import fetch, fill, load, places_in_row, store, totals, zero_below
from moesaic.mixture.backends.layout import AREA, DEEP, TILE, Work, places, scratch
from moesaic.mixture.backends.lending import borrowed, lent, planes
from moesaic.mixture.backends.loops import depth, draw
from moesaic.mixture.backends.threads import run

F = np.float32
SUM = 0  # the plane of sums in scratch


@dataclass(frozen=True, slots=True)
class Gram:
    """Products of gates, in float32, a matrix for each tile; rows are padded to whole lanes."""

    listed: Cover
    everything: Work
    start: NDArray[np.int64]  # (T + 1,), where a tile's matrix begins
    shared: NDArray[np.float32]
    towards: NDArray[np.float64]  # (N, C), sum over pixels of gate times picture

    def times(self, colours: NDArray[np.float32], threads: int) -> NDArray[np.float64]:  # (N, C) both
        """The product with colours: for each kernel, the sum over pixels of its gate times what the colours draw."""
        partials = np.empty((len(self.listed.pair_kernel), colours.shape[1]), np.float32)
        rest = (self.everything, self.start, self.shared, np.ascontiguousarray(colours), partials)
        run([partial(_times, tiles, *rest) for tiles in spans(self.listed, threads)], threads)
        return _gathered(partials, self.listed, threads)

    def mass(self, threads: int) -> NDArray[np.float64]:  # (N, C)
        """The area of each gate, px, for each channel: gates sum to one at every pixel, so rows sum to areas."""
        return self.times(np.ones(self.towards.shape, np.float32), threads)


def room(listed: Cover) -> int:
    """How many numbers the matrices of these tiles hold."""
    return int(_starts(listed)[-1])


def gram(packed: Packed, listed: Cover, target: NDArray[np.float32], threads: int) -> Gram:
    """The products of a mixture of constant experts, and with a target (C, H, W)."""
    start = _starts(listed)
    shared = np.empty(start[-1], np.float32)
    partials = np.empty((len(listed.pair_kernel), packed.channels), np.float32)
    everything = work(packed, listed)
    rest = (everything, np.ascontiguousarray(target), start, shared, partials)
    run([partial(_products, tiles, *rest) for tiles in spans(listed, threads)], threads)
    return Gram(listed, everything, start, shared, _gathered(partials, listed, threads))


def _starts(listed: Cover) -> NDArray[np.int64]:
    several = np.diff(listed.tile_start)
    return np.concatenate([[0], np.cumsum(several * (-(-several // TILE) * TILE))])


def _gathered(partials: NDArray[np.float32], listed: Cover, threads: int) -> NDArray[np.float64]:
    """Sum over each kernel's pairs, in their fixed order."""
    n = len(listed.kernel_start) - 1
    sums = np.empty((n, partials.shape[1]))
    edges = np.linspace(0, n, threads + 1).astype(int)
    run([partial(_gather, int(a), int(b), listed.kernel_start, partials, sums) for a, b in pairwise(edges)], threads)
    return sums


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(first, last, kernel_start, partials, sums):
    for j in range(first, last):
        for c in range(partials.shape[1]):
            total = 0.0
            for p in range(kernel_start[j], kernel_start[j + 1]):
                total += partials[p, c]
            sums[j, c] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _deep_gates(t, x0, y0, tall, wide, work, s, kept):
    """The gates of a tile that is deep in place of weights, which sum to one."""
    begin, end = work.tile_start[t], work.tile_start[t + 1]
    gates = np.empty(end - begin, np.float64)
    for i in range(0, AREA, TILE):
        store(s, SUM + i, fill(F(1)))
    for r in range(tall):
        for x in range(wide):
            deep_pixel(t, x0 + x, y0 + r, work, gates)
            at = 0
            for q in range(begin, end):
                first, last = int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])
                if first <= r < last:
                    kept[at + (r - first) * TILE + x] = gates[q - begin]
                at += (last - first) * TILE


@njit(nogil=True, cache=True, error_model="numpy")
def _products(tiles, work, target, start, shared, towards):
    """The matrices of some tiles, and of each of their pairs the sum of gate times target: towards (Q, C)."""
    C = len(work.channels)
    VALUE, _, _, _, LANES, _ = places(work)
    height, width = target.shape[1:]
    columns = -(-width // TILE)
    work, aims = lent(work), borrowed(target.reshape(-1))
    start, shared, towards = borrowed(start), borrowed(shared), borrowed(towards)
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    room = borrowed(s[LANES:])
    most = 0
    for t in tiles:
        most = max(most, work.tile_start[t + 1] - work.tile_start[t])
    own_gates = np.empty((most + 3) * AREA, np.float32)
    gates = borrowed(own_gates)  # whole tiles, with zeros in the rows that a kernel does not reach
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - left), min(TILE, height - up)
        span, inside = depth(t, work), F(wide) - places_in_row()
        if span > DEEP:
            _deep_gates(t, left + 0.5, up + 0.5, tall, wide, work, s, kept)
        else:
            draw(t, span, left, up, work, s, kept)
        for r in range(TILE):
            for c in range(C):
                place = c * height * width + (up + r) * width + left
                store(s, VALUE + c * AREA + r * TILE, fetch(aims, place, wide if r < tall else 0, room))
        begin, several = work.tile_start[t], work.tile_start[t + 1] - work.tile_start[t]
        at = 0
        for a in range(several):
            q = begin + a
            d0 = fill(F(0))
            d1, d2, d3 = d0, d0, d0
            for i in range(a * AREA, (a + 1) * AREA, TILE):
                store(gates, i, fill(F(0)))
            for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
                row = r * TILE
                w = zero_below(load(kept, at) * load(s, SUM + row), inside, F(1) if r < tall else F(2 * TILE))
                store(gates, a * AREA + row, w)
                at += TILE
                d0 = d0 + w * load(s, VALUE + row)
                if C > 1:
                    d1 = d1 + w * load(s, VALUE + AREA + row)
                if C > 2:
                    d2 = d2 + w * load(s, VALUE + 2 * AREA + row)
                if C > 3:
                    d3 = d3 + w * load(s, VALUE + 3 * AREA + row)
            store(s, LANES, totals((d0, d1, d2, d3)))
            for c in range(C):
                towards[work.tile_pairs[q], c] = s[LANES + c]
        for i in range(several * AREA, (several + 3) * AREA, TILE):  # kernels are met in fours
            store(gates, i, fill(F(0)))
        stride = -(-several // TILE) * TILE
        for a in range(several):
            first, last = int(work.tile_rows[begin + a, 0]), int(work.tile_rows[begin + a, 1])
            row = start[t] + a * stride
            for b in range(0, a + 1, 4):
                d0 = fill(F(0))
                d1, d2, d3 = d0, d0, d0
                for r in range(first, last):
                    w, other = load(gates, a * AREA + r * TILE), b * AREA + r * TILE
                    d0 = d0 + w * load(gates, other)
                    d1 = d1 + w * load(gates, other + AREA)
                    d2 = d2 + w * load(gates, other + 2 * AREA)
                    d3 = d3 + w * load(gates, other + 3 * AREA)
                store(s, LANES, totals((d0, d1, d2, d3)))
                for k in range(min(4, a + 1 - b)):
                    shared[row + b + k] = s[LANES + k]
                    shared[start[t] + (b + k) * stride + a] = s[LANES + k]
            for k in range(several, stride):
                shared[row + k] = F(0)
    own[0] = own_gates[0]  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def _times(tiles, work, start, shared, colours, out):
    """The products of some tiles' matrices with colours (N, C): out (Q, C)."""
    C = len(work.channels)
    own = np.empty(4 * TILE, np.float32)
    s, work = borrowed(own), lent(work)
    start, shared, colours, out = borrowed(start), borrowed(shared), borrowed(colours), borrowed(out)
    for t in tiles:
        begin, several = work.tile_start[t], work.tile_start[t + 1] - work.tile_start[t]
        stride = -(-several // TILE) * TILE
        for a in range(0, several, TILE):
            d0 = fill(F(0))
            d1, d2, d3 = d0, d0, d0
            for b in range(several):
                j, shares = work.tile_kernel[begin + b], load(shared, start[t] + b * stride + a)
                d0 = d0 + shares * colours[j, 0]
                if C > 1:
                    d1 = d1 + shares * colours[j, 1]
                if C > 2:
                    d2 = d2 + shares * colours[j, 2]
                if C > 3:
                    d3 = d3 + shares * colours[j, 3]
            store(s, 0, d0)
            store(s, TILE, d1)
            store(s, 2 * TILE, d2)
            store(s, 3 * TILE, d3)
            for k in range(min(TILE, several - a)):
                for c in range(C):
                    out[work.tile_pairs[begin + a + k], c] = s[c * TILE + k]
    own[0] = F(0)  # what is lent lives until here
