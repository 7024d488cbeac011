"""What the compiled loops share: the arrays that they read, and the places in a thread's scratch array."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

TILE = 16  # px; a side of a tile
AREA = TILE * TILE
LOG2E = math.log2(math.e)
HALF = math.sqrt(LOG2E / 2)  # |L^T d|^2 / 2 in powers of two is |HALF L^T d|^2
STEEP = 60.0  # nats; tiles whose bar lies this far below the largest prior need a maximum for each pixel
DEEP = 400.0  # nats; and beyond this, logits need float64
MOMENTS = 6  # sums of dL/dlogit times 1, dx, dy, dx dx, dx dy, dy dy


class Work(NamedTuple):
    """A mixture in pixels of the output, and which of its kernels touch which tile (see `cover.Cover`)."""

    centres: NDArray[np.float64]  # (N, 2), px
    geometry: NDArray[np.float32]  # (N, 4), l_xx, l_yx, l_yy in 1/px, log prior
    experts: NDArray[np.float32]  # (N, C) colours, or (N, 3 C): colours, then pairs of slopes in 1/px
    tile_kernel: NDArray[np.int32]  # (Q,)
    tile_rows: NDArray[np.uint8]  # (Q, 2)
    tile_pairs: NDArray[np.int32]  # (Q,)
    tile_start: NDArray[np.int64]  # (T + 1,)
    bars: NDArray[np.float32]  # (T,)
    channels: tuple[int, ...]  # C ones: a length that the compiler knows
    linear: tuple[int, ...]  # one number for experts of order 1, none for order 0


@njit(nogil=True, cache=True)
def places(work):
    """Offsets into a scratch array, in floats: values (C planes), slopes (C), base, peaks, lanes, and the size of all.

    Planes hold one float a pixel of the tile, after a first plane at 0 for sums of weights, then their inverses:
    weighted sums of the experts, then the picture (values); dL/dpicture (slopes); the sum over channels of dL/dpicture
    times picture (base); what logits are relative to, in powers of two above the bar (peaks).
    Lanes are two rows of a tile's width for the time being.
    """
    c = len(work.channels)
    values = AREA
    slopes = values + c * AREA
    base = slopes + c * AREA
    peaks = base + AREA
    lanes = peaks + AREA
    return values, slopes, base, peaks, lanes, lanes + 2 * TILE


@njit(nogil=True, cache=True)
def scratch(work, tiles):
    """A thread's scratch array, zeros, with room for the weights of the rows that kernels reach in any of some tiles.

    It begins at a cache line, and so does each row of a tile.
    """
    most = 0
    for t in tiles:
        rows = 0
        for q in range(work.tile_start[t], work.tile_start[t + 1]):
            rows += int(work.tile_rows[q, 1]) - int(work.tile_rows[q, 0])
        most = max(most, rows)
    size = places(work)[5] + most * TILE
    room = np.zeros(size + 16, np.float32)
    shift = (64 - room.ctypes.data % 64) % 64 // 4
    return room[shift : shift + size]
