"""Loops over the pixels of a picture by which kernels are placed: its detail, a blur, and a curve that fills it."""

from __future__ import annotations

import numpy as np
from numba import njit

_SPARSE = 16  # cells of the Hilbert square for each pixel, beyond which sorting is cheaper than a table


@njit(nogil=True, cache=True, error_model="numpy")
def square_gradient(picture):  # (C, H, W) -> (H, W) float64
    """The squared differences between neighbours, over two pixels but at the rim, summed over axes and channels."""
    channels, height, width = picture.shape
    found = np.zeros((height, width))
    for c in range(channels):
        for row in range(height):
            above, below = max(row - 1, 0), min(row + 1, height - 1)
            for column in range(width):
                left, right = max(column - 1, 0), min(column + 1, width - 1)
                down = np.float64(picture[c, below, column]) - np.float64(picture[c, above, column])
                across = np.float64(picture[c, row, right]) - np.float64(picture[c, row, left])
                down /= max(below - above, 1)
                across /= max(right - left, 1)
                found[row, column] += down * down
                found[row, column] += across * across
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def blurred(padded, taps, down):
    """The weighted sums of neighbours along one axis, which the padding makes longer."""
    rows, columns = padded.shape
    if down:
        rows -= len(taps) - 1
    else:
        columns -= len(taps) - 1
    found = np.zeros((rows, columns))
    for row in range(rows):
        for k in range(len(taps)):
            if down:
                for column in range(columns):
                    found[row, column] += padded[row + k, column] * taps[k]
            else:
                for column in range(columns):
                    found[row, column] += padded[row, column + k] * taps[k]
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def hilbert_index(x, y, bits):
    """Place of a cell (x, y) of a 2^bits square along the Hilbert curve, on which neighbours stay neighbours.

    Source: the classic rotate-and-flip construction, e.g. Warren, "Hacker's Delight", chapter 16.
    """
    index = 0
    side = 1 << (bits - 1)
    while side:
        right, below = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right) ^ below)
        x &= side - 1
        y &= side - 1
        flip = (side - 1) * (right and not below)
        x ^= flip
        y ^= flip
        x, y = (x, y) if below else (y, x)
        side >>= 1
    return index


@njit(nogil=True, cache=True, error_model="numpy")
def hilbert_path(width, height):
    """The pixels of a picture, counted row by row, in the order in which the Hilbert curve meets them."""
    bits = 1
    while (1 << bits) < max(width, height):
        bits += 1
    index = np.empty(width * height, np.int64)
    for row in range(height):
        for column in range(width):
            index[row * width + column] = hilbert_index(column, row, bits)
    cells = 1 << (2 * bits)
    if cells > _SPARSE * len(index):
        return np.argsort(index)
    met = np.full(cells, -1, np.int32)  # what a sort finds, for less where the picture fills much of the square
    for place in range(len(index)):
        met[index[place]] = place
    count = 0
    for cell in range(cells):
        if met[cell] >= 0:
            index[count] = met[cell]
            count += 1
    return index
