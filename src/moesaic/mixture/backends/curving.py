"""Curvatures of the squared error by each kernel's geometry, less what a new colour of the same kernel makes up for.

The matrix H of a kernel is that of `curved`: fifteen moments of (u, v) = L^T (x - centre) hold it. What H has in common
with channel c of the kernel's own expert are the six sums of w^2 (m - y) phi, with phi the change of its logit, and six
moments of (u, v) hold these: phi is quadratic.

All moments are taken in a frame that is turned against (u, v) so that alpha is the same in every row of a tile, and
beta alone runs down. Then the loop over rows needs powers of beta and no others: 5 + 3 C sums for 15 + 6 C moments.
Since the frame is turned and not stretched, phi just turns with it, and needles lose no more digits than blankets.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from moesaic.mixture.backends.blend import SUM, F, expert
from moesaic.mixture.backends.curved import SIX, block
from moesaic.mixture.backends.lanes import fill, load, places_in_row, store, totals, zero_below
from moesaic.mixture.backends.layout import AREA, DEEP, TILE, places, scratch
from moesaic.mixture.backends.lending import borrowed, lent, planes
from moesaic.mixture.backends.loops import depth, draw

WHOLE = 16  # moments of w^2 |m - y|^2 in the order of `curved.block`, and the sum of w^2
EACH = 6  # moments of w^2 (m - y) in a channel: by 1, alpha, alpha^2, beta, alpha beta, beta^2


@njit(nogil=True, cache=True, error_model="numpy")
def curve(tiles, work, width, out):
    """Draw some tiles of a picture so many px wide; partial moments (Q, 16 + 6 C) of their pairs."""
    VALUE = places(work)[0]
    columns = -(-width // TILE)
    work, out = lent(work), borrowed(out)
    own = scratch(work, tiles)
    s, kept = planes(own, work)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        span = depth(t, work)
        if span > DEEP:  # where nothing overlaps, there is no curvature to speak of
            for q in range(work.tile_start[t], work.tile_start[t + 1]):
                out[work.tile_pairs[q]] = F(0)
            continue
        draw(t, span, left, up, work, s, kept)
        inside = F(min(TILE, width - left)) - places_in_row()
        for i in range(SUM, VALUE, TILE):
            store(s, i, zero_below(load(s, i), inside, F(1)))
        curve_tile(t, left + 0.5, up + 0.5, work, s, kept, out)
    own[0] = F(0)  # what is lent lives until here


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def _more(sums, k, beta):
    """Sums of k, k beta and k beta^2, and one row more."""
    b0, b1, b2 = sums
    k1 = k * beta
    return b0 + k, b1 + k1, b2 + k1 * beta


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def _six(sums, alpha):
    """The six moments of a channel, from its sums over rows."""
    b0, b1, b2 = sums
    b0_1 = b0 * alpha
    return b0, b0_1, b0_1 * alpha, b1, b1 * alpha, b2


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def _turned(work, j):
    """Factors of the turned frame: alpha's across, beta's across and down; then cosine and sine of the angle.

    u = cosine alpha + sine beta, v = cosine beta - sine alpha.
    """
    f0, f1, f2 = np.float64(work.geometry[j, 0]), np.float64(work.geometry[j, 1]), np.float64(work.geometry[j, 2])
    down = math.sqrt(f1 * f1 + f2 * f2)
    cosine, sine = (f2 / down, f1 / down) if down > 0.0 else (1.0, 0.0)
    return f0 * cosine, f0 * sine, down, cosine, sine


@njit(nogil=True, cache=True, error_model="numpy")
def curve_tile(t, x0, y0, work, s, kept, out):
    """Partial moments of one tile's pairs, from their weights and scratch: inverse sums, and the picture."""
    C = len(work.channels)
    VALUE, _, _, _, LANES, _ = places(work)
    lane, zero = places_in_row(), fill(F(0))
    at = 0
    for q in range(work.tile_start[t], work.tile_start[t + 1]):
        p, j = work.tile_pairs[q], work.tile_kernel[q]
        across, lean, down, _, _ = _turned(work, j)
        dx, dy0 = x0 - work.centres[j, 0], y0 - work.centres[j, 1]
        mass, b3, b4 = zero, zero, zero
        low = (zero, zero, zero)
        n0, n1, n2, n3 = low, low, low, low
        for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
            row, dy = r * TILE, dy0 + r
            w = load(kept, at) * load(s, SUM + row)
            at += TILE
            beta = lane * F(lean) + F(lean * dx + down * dy)
            ww = w * w
            gap = expert(work, j, 0, dx, dy, lane) - load(s, VALUE + row)
            far = gap * gap
            n0 = _more(n0, ww * gap, beta)
            if C > 1:
                gap = expert(work, j, 1, dx, dy, lane) - load(s, VALUE + AREA + row)
                far = far + gap * gap
                n1 = _more(n1, ww * gap, beta)
            if C > 2:
                gap = expert(work, j, 2, dx, dy, lane) - load(s, VALUE + 2 * AREA + row)
                far = far + gap * gap
                n2 = _more(n2, ww * gap, beta)
            if C > 3:
                gap = expert(work, j, 3, dx, dy, lane) - load(s, VALUE + 3 * AREA + row)
                far = far + gap * gap
                n3 = _more(n3, ww * gap, beta)
            k = ww * far
            k3 = k * beta * beta * beta
            mass, low, b3, b4 = mass + ww, _more(low, k, beta), b3 + k3, b4 + k3 * beta
        # sums come first in every product: where nothing is seen, alpha may be huge
        alpha = lane * F(across) + F(across * dx)
        b0, b1, b2 = low
        b0_1, b1_1, b2_1 = b0 * alpha, b1 * alpha, b2 * alpha
        b0_2, b1_2 = b0_1 * alpha, b1_1 * alpha
        b0_3 = b0_2 * alpha
        whole = (b0, b0_1, b0_2, b0_3, b0_3 * alpha, b1, b1_1, b1_2, b1_2 * alpha, b2, b2_1, b2_1 * alpha, b3)
        store(s, LANES, totals((*whole, b3 * alpha, b4, mass)))
        for k in range(WHOLE):
            out[p, k] = s[LANES + k]
        store(s, LANES, totals(_six(n0, alpha) + _six(n1, alpha)))
        store(s, LANES + 2 * EACH, totals(_six(n2, alpha) + _six(n3, alpha)))
        for k in range(EACH * C):
            out[p, WHOLE + k] = s[LANES + k]


@njit(nogil=True, cache=True, error_model="numpy")
def settle(first, last, work, kernel_start, partials, damping, found):
    """Sum some kernels' moments; found (N, 6, 6) gets H less what colours make up for, damped by so many px."""
    own, own_shared = np.empty(partials.shape[1]), np.empty(SIX)
    m, shared, work = borrowed(own), borrowed(own_shared), lent(work)
    kernel_start, partials, found = borrowed(kernel_start), borrowed(partials), borrowed(found)
    for j in range(first, last):
        for k in range(len(m)):
            m[k] = 0.0
        for p in range(kernel_start[j], kernel_start[j + 1]):
            for k in range(len(m)):
                m[k] += partials[p, k]
        h = found[j]
        block(m, h)
        inverse = 1.0 / (m[WHOLE - 1] + damping)
        for c in range(WHOLE, len(m), EACH):
            m00, m10, m20, m01, m11, m02 = m[c], m[c + 1], m[c + 2], m[c + 3], m[c + 4], m[c + 5]
            shared[0], shared[1], shared[2] = m00, -(m20 + m02), (m02 - m20) / 2
            shared[3], shared[4], shared[5] = -m11, m01, m10
            for i in range(SIX):
                for k in range(SIX):
                    h[i, k] -= shared[i] * shared[k] * inverse
        # log aspect and shear turn by twice the angle and the centre by the angle; prior and size stay
        _, _, _, cosine, sine = _turned(work, j)
        _turn(h, 2, cosine * cosine - sine * sine, 2.0 * cosine * sine)
        _turn(h, 4, cosine, -sine)
        for i in range(SIX):  # turning rounds the halves apart
            for k in range(i):
                h[k, i] = h[i, k]
    own[0], own_shared[0] = 0.0, 0.0  # what is lent lives until here


@njit(nogil=True, cache=True, forceinline=True, error_model="numpy")
def _turn(h, i, cosine, sine):
    """Turn the plane of the i-th number and the next."""
    for k in range(SIX):
        a, b = h[i, k], h[i + 1, k]
        h[i, k], h[i + 1, k] = cosine * a + sine * b, cosine * b - sine * a
    for k in range(SIX):
        a, b = h[k, i], h[k, i + 1]
        h[k, i], h[k, i + 1] = cosine * a + sine * b, cosine * b - sine * a
