"""The float64 path for tiles far from every kernel, where float32 logits would lose what decides the gates."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from moesaic.mixture.backends.layout import AREA, MOMENTS, TILE, places

F = np.float32
SUM = 0  # the plane of sums in scratch


@njit(nogil=True, cache=True, error_model="numpy")
def expert_at(work, j, c, dx, dy):
    """Channel c of kernel j's expert at an offset from its centre."""
    C = len(work.channels)
    value = np.float64(work.experts[j, c])
    if len(work.linear) > 0:
        value += work.experts[j, C + 2 * c] * dx + work.experts[j, C + 2 * c + 1] * dy
    return value


@njit(nogil=True, cache=True, error_model="numpy")
def deep_pixel(t, x, y, work, gates):
    """The gates of one pixel in float64 with their maximum taken out, for all kernels of the tile."""
    begin, end = work.tile_start[t], work.tile_start[t + 1]
    highest = -1.0e300
    for q in range(begin, end):
        j = work.tile_kernel[q]
        dx, dy = x - work.centres[j, 0], y - work.centres[j, 1]
        u = np.float64(work.geometry[j, 0]) * dx + np.float64(work.geometry[j, 1]) * dy
        v = np.float64(work.geometry[j, 2]) * dy
        logit = np.float64(work.geometry[j, 3]) - 0.5 * (u * u + v * v)
        gates[q - begin] = logit
        highest = max(highest, logit)
    total = 0.0
    for i in range(end - begin):
        gates[i] = math.exp(gates[i] - highest)
        total += gates[i]
    for i in range(end - begin):
        gates[i] /= total


@njit(nogil=True, cache=True, error_model="numpy")
def deep_forward(t, x0, y0, tall, wide, work, s):
    """Draw one tile into scratch; its inverse sums are 0."""
    C, VALUE = len(work.channels), places(work)[0]
    begin, end = work.tile_start[t], work.tile_start[t + 1]
    gates = np.empty(end - begin, np.float64)
    for r in range(tall):
        for x in range(wide):
            deep_pixel(t, x0 + x, y0 + r, work, gates)
            for c in range(C):
                value = 0.0
                for q in range(begin, end):
                    j = work.tile_kernel[q]
                    dx, dy = x0 + x - work.centres[j, 0], y0 + r - work.centres[j, 1]
                    value += gates[q - begin] * expert_at(work, j, c, dx, dy)
                s[VALUE + c * AREA + r * TILE + x] = F(value)
    for i in range(AREA):
        s[SUM + i] = F(0)  # no float32 sum stands for these pixels, and the float64 way back needs none


@njit(nogil=True, cache=True, error_model="numpy")
def deep_backward(t, x0, y0, tall, wide, work, s, out):
    """Partial gradients of one tile, from scratch that holds dL/dpicture and its base."""
    C, SLOPES = len(work.channels), len(work.linear) > 0
    _, SLOPE, BASE, _, _, _ = places(work)
    begin, end = work.tile_start[t], work.tile_start[t + 1]
    gates = np.empty(end - begin, np.float64)
    sums = np.zeros((end - begin, out.shape[1]), np.float64)
    for r in range(tall):
        for x in range(wide):
            deep_pixel(t, x0 + x, y0 + r, work, gates)
            at = r * TILE + x
            for q in range(begin, end):
                i = q - begin
                j = work.tile_kernel[q]
                dx, dy = x0 + x - work.centres[j, 0], y0 + r - work.centres[j, 1]
                worth = -np.float64(s[BASE + at])
                for c in range(C):
                    g = np.float64(s[SLOPE + c * AREA + at])
                    worth += g * expert_at(work, j, c, dx, dy)
                    sums[i, MOMENTS + c] += gates[i] * g
                    if SLOPES:
                        sums[i, MOMENTS + C + 2 * c] += gates[i] * g * dx
                        sums[i, MOMENTS + C + 2 * c + 1] += gates[i] * g * dy
                d = gates[i] * worth
                sums[i, 0] += d
                sums[i, 1] += d * dx
                sums[i, 2] += d * dy
                sums[i, 3] += d * dx * dx
                sums[i, 4] += d * dx * dy
                sums[i, 5] += d * dy * dy
    for q in range(begin, end):
        for k in range(out.shape[1]):
            out[work.tile_pairs[q], k] = sums[q - begin, k]
