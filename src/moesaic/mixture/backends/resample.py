"""Weighted sums along the rows and columns of a picture: what resampling and its transpose are made of."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def columns(first, weights, source, out):
    """out[c, i, :] = sum over k of weights[i, k] source[c, first[i] + k, :], for pictures (C, H, W)."""
    taps = weights.shape[1]
    width = source.shape[2]
    for c in range(source.shape[0]):
        for i in range(len(first)):
            for x in range(width):
                out[c, i, x] = np.float32(0)
            for k in range(taps):
                w = weights[i, k]
                if w != np.float32(0):
                    row = first[i] + k
                    for x in range(width):
                        out[c, i, x] += w * source[c, row, x]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def rows(first, weights, source, out):
    """out[c, :, i] = sum over k of weights[i, k] source[c, :, first[i] + k], for pictures (C, H, W)."""
    taps = weights.shape[1]
    for c in range(source.shape[0]):
        for y in range(source.shape[1]):
            for i in range(len(first)):
                total = np.float32(0)
                begin = first[i]
                for k in range(taps):
                    total += weights[i, k] * source[c, y, begin + k]
                out[c, y, i] = total
