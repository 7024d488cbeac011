"""Slopes and curvatures of the squared error in one pass, and the step that they promise each kernel.

To first order, a change p of a kernel's geometry changes a pixel by w (m - y) (phi . p): its gate w, its expert m, the
picture y, and phi the change of its logit. So the squared error grows by p^T H p with H = sum w^2 |m - y|^2 phi phi^T:
one block of Gauss and Newton's matrix for each kernel. In the kernel's own frame, (u, v) = L^T (x - centre), phi is
quadratic, so fifteen moments of u and v hold all of H.

The six numbers of a geometry are those of `moesaic.codec.sensitivity`: log prior, log size, log aspect, shear, and the
offsets of the centre down and across in standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.deep import deep_forward
from moesaic.mixture.backends.lanes import fetch, fill, load, places_in_row, put, store, totals, zero_below
from moesaic.mixture.backends.layout import AREA, DEEP, MOMENTS, TILE, places, scratch
from moesaic.mixture.backends.lending import borrowed, lent, planes
from moesaic.mixture.backends.loops import depth, draw, go_back
from moesaic.mixture.backends.threads import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.backends.cover import Cover
    from moesaic.mixture.backends.cpu import Floats, Packed

F = np.float32
SUM = 0  # the plane of sums in scratch
BENDS = 16  # moments of u and v up to the fourth, and the gate's sum
SIX = 6


@dataclass(frozen=True, slots=True)
class Bent:
    """A picture of a mixture beside its target, to the second order in each kernel."""

    error: float  # squared, summed over pixels and channels
    left: Floats  # (C, H, W), what is drawn less the target
    slope: Floats  # (N, 6 + C), of the error by centre, factors, log prior and expert
    bends: Floats  # (N, 16), moments of w^2 |m - y|^2, see `blocks`; last the sum of the gate, px


def bent(packed: Packed, listed: Cover, target: Floats, threads: int) -> Bent:
    """Draw, compare with a target (C, H, W), and go back; of experts of order 0."""
    pairs = len(listed.pair_kernel)
    partials = np.empty((pairs, MOMENTS + packed.channels), np.float32)
    curves = np.empty((pairs, BENDS), np.float32)
    left = np.empty((packed.channels, listed.height, listed.width), np.float32)
    errors = np.empty(len(listed.bars))
    rest = (cpu.work(packed, listed), np.ascontiguousarray(target), partials, curves, left, errors)
    run([partial(_bent, tiles, *rest) for tiles in cpu.spans(listed, threads)], threads)
    bends = np.empty((len(packed.centres), BENDS), np.float32)
    edges = np.linspace(0, len(bends), threads + 1).astype(int)
    tasks = [partial(_sum, int(a), int(b), listed.kernel_start, curves, bends) for a, b in pairwise(edges)]
    run(tasks, threads)
    return Bent(float(errors.sum()), left, cpu.gather(packed, listed, partials, threads), bends)


def downhill(packed: Packed, slope: Floats) -> Floats:  # (N, 6)
    """Half the slope of the squared error by the six numbers of each kernel."""
    found = np.empty((len(packed.centres), SIX), np.float32)
    _downhill(packed.geometry, slope, found)
    return found


def blocks(bends: Floats) -> NDArray[np.float64]:  # (N, 6, 6)
    """The matrix H of each kernel, from its moments."""
    found = np.empty((len(bends), SIX, SIX))
    _blocks(bends, found)
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _bent(tiles, work, target, out, curves, left, errors):
    C = len(work.channels)
    VALUE, SLOPE, _, _, LANES, _ = places(work)
    _, height, width = left.shape
    columns = -(-width // TILE)
    work, out, curves = lent(work), borrowed(out), borrowed(curves)
    aims, off, errors = borrowed(target.reshape(-1)), borrowed(left.reshape(-1)), borrowed(errors)
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    room = borrowed(s[LANES:])
    for t in tiles:
        begin, up = t % columns * TILE, t // columns * TILE
        wide, tall = min(TILE, width - begin), min(TILE, height - up)
        span = depth(t, work)
        if span > DEEP:
            deep_forward(t, begin + 0.5, up + 0.5, tall, wide, work, s)
        else:
            draw(t, span, begin, up, work, s, kept)
        inside = F(wide) - places_in_row()
        squares = fill(F(0))
        for r in range(tall):
            i, at = r * TILE, (up + r) * width + begin
            for c in range(C):
                difference = load(s, VALUE + c * AREA + i) - fetch(aims, c * height * width + at, wide, room)
                difference = zero_below(difference, inside, F(1))
                store(s, SLOPE + c * AREA + i, difference + difference)
                put(off, c * height * width + at, difference, wide, room)
                squares = squares + difference * difference
        store(s, LANES, totals((squares,)))
        errors[t] = s[LANES]
        go_back(t, span, begin, up, wide, tall, work, s, kept, out)
        if span > DEEP:  # where nothing overlaps, there is no curvature to speak of
            for q in range(work.tile_start[t], work.tile_start[t + 1]):
                curves[work.tile_pairs[q]] = F(0)
            continue
        for r in range(TILE):
            inverse = zero_below(load(s, SUM + r * TILE), inside, F(1) if r < tall else F(2 * TILE))
            store(s, SUM + r * TILE, inverse)
        _bend_tile(t, begin + 0.5, up + 0.5, work, s, kept, curves)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, error_model="numpy")
def _bend_tile(t, x0, y0, work, s, kept, curves):
    """Partial moments of one tile's pairs, from their weights and scratch: inverse sums, and the picture."""
    C = len(work.channels)
    VALUE, _, _, _, LANES, _ = places(work)
    lane = places_in_row()
    at = 0
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        p, j = work.tile_pairs[q], work.tile_kernel[q]
        f0, f1, f2 = work.geometry[j, 0], work.geometry[j, 1], work.geometry[j, 2]
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        mass = fill(F(0))
        m00, m10, m20, m30, m40 = mass, mass, mass, mass, mass
        m01, m11, m21, m31, m02 = mass, mass, mass, mass, mass
        m12, m22, m03, m13, m04 = mass, mass, mass, mass, mass
        for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
            dy = dy0 + r
            w = load(kept, at) * load(s, SUM + r * TILE)
            at += TILE
            u, v = lane * f0 + F(f0 * dx + f1 * dy), F(f2 * dy)
            gap = load(s, VALUE + r * TILE) - work.experts[j, 0]
            far = gap * gap
            for c in range(1, C):
                gap = load(s, VALUE + c * AREA + r * TILE) - work.experts[j, c]
                far = far + gap * gap
            k0 = w * w * far
            k1 = k0 * u
            k2 = k1 * u
            k3 = k2 * u
            mass = mass + w
            m00, m10, m20, m30, m40 = m00 + k0, m10 + k1, m20 + k2, m30 + k3, m40 + k3 * u
            m01, m11, m21, m31 = m01 + k0 * v, m11 + k1 * v, m21 + k2 * v, m31 + k3 * v
            vv = v * v
            m02, m12, m22 = m02 + k0 * vv, m12 + k1 * vv, m22 + k2 * vv
            vvv = vv * v
            m03, m13, m04 = m03 + k0 * vvv, m13 + k1 * vvv, m04 + k0 * (vvv * v)
        store(s, LANES, totals((m00, m10, m20, m30, m40, m01, m11, m21, m31, m02, m12, m22, m03, m13, m04, mass)))
        for k in range(BENDS):
            curves[p, k] = s[LANES + k]


@njit(nogil=True, cache=True, error_model="numpy")
def _sum(first, last, kernel_start, partials, found):
    for j in range(first, last):
        for k in range(BENDS):
            total = 0.0
            for p in range(kernel_start[j], kernel_start[j + 1]):
                total += partials[p, k]
            found[j, k] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _downhill(geometry, slope, found):
    for j in range(len(found)):
        downhill_of(geometry[j], slope[j], found[j])


@njit(nogil=True, cache=True, error_model="numpy")
def downhill_of(geometry, slope, found):
    """Half the slope of the squared error by the six numbers of one kernel, found (6,)."""
    f0, f1, f2 = np.float64(geometry[0]), np.float64(geometry[1]), np.float64(geometry[2])
    size, shear = slope[2] * f0 + slope[3] * f1, slope[4] * f2
    found[0] = slope[5] / 2
    found[1] = (size + shear) / 2
    found[2] = (size - shear) / 4
    found[3] = slope[3] * f2 / 2
    found[4] = (slope[1] - slope[0] * f1 / f0) / f2 / 2
    found[5] = slope[0] / f0 / 2


@njit(nogil=True, cache=True, error_model="numpy")
def block(m, h):
    """H (6, 6) from moments m of u and v, in the order of `_bend_tile`."""
    D = np.float64
    m00, m10, m20, m30, m40 = D(m[0]), D(m[1]), D(m[2]), D(m[3]), D(m[4])
    m01, m11, m21, m31, m02 = D(m[5]), D(m[6]), D(m[7]), D(m[8]), D(m[9])
    m12, m22, m03, m13, m04 = D(m[10]), D(m[11]), D(m[12]), D(m[13]), D(m[14])
    h[0, 0] = m00
    h[1, 0], h[1, 1] = -(m20 + m02), m40 + 2 * m22 + m04
    h[2, 0], h[2, 1], h[2, 2] = (m02 - m20) / 2, (m40 - m04) / 2, (m04 - 2 * m22 + m40) / 4
    h[3, 0], h[3, 1], h[3, 2], h[3, 3] = -m11, m31 + m13, (m31 - m13) / 2, m22
    h[4, 0], h[4, 1], h[4, 2], h[4, 3], h[4, 4] = m01, -(m21 + m03), (m03 - m21) / 2, -m12, m02
    h[5, 0], h[5, 1], h[5, 2], h[5, 3], h[5, 4], h[5, 5] = m10, -(m30 + m12), (m12 - m30) / 2, -m21, m11, m20
    for i in range(SIX):
        for k in range(i):
            h[k, i] = h[i, k]


@njit(nogil=True, cache=True, error_model="numpy")
def _blocks(bends, found):
    for j in range(len(bends)):
        block(bends[j], found[j])


@njit(nogil=True, cache=True, error_model="numpy")
def solved(h, slopes, damping, floor, factor, x):
    """Newton's step x (6,) of one kernel: -(H + D)^-1 slopes, with `factor` (6, 6) as room for Cholesky's.

    D holds `damping` times the diagonal of H, and `floor`.
    """
    factored(h, damping, floor + 1e-9, factor)
    solved_by(factor, slopes, x)


@njit(nogil=True, cache=True, error_model="numpy")
def factored(h, damping, floor, factor):
    """Cholesky's factor of H + D, lower."""
    for i in range(SIX):
        for k in range(i + 1):
            total = h[i, k]
            if i == k:
                total = total * (1.0 + damping) + floor
            for n in range(k):
                total -= factor[i, n] * factor[k, n]
            factor[i, k] = math.sqrt(max(total, 1e-12)) if i == k else total / factor[k, k]


@njit(nogil=True, cache=True, error_model="numpy")
def solved_by(factor, slopes, x):
    """Newton's step x (6,) of one kernel, from Cholesky's factor of its block."""
    for i in range(SIX):
        total = -np.float64(slopes[i])
        for n in range(i):
            total -= factor[i, n] * x[n]
        x[i] = total / factor[i, i]
    for i in range(SIX - 1, -1, -1):
        total = x[i]
        for n in range(i + 1, SIX):
            total -= factor[n, i] * x[n]
        x[i] = total / factor[i, i]
