"""What the compiled loops share: the arrays that they read, and the places in a thread's scratch array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
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
    pair_kernel: NDArray[np.int32]  # (Q,)
    pair_rows: NDArray[np.uint8]  # (Q, 2)
    tile_pairs: NDArray[np.int32]  # (Q,)
    tile_start: NDArray[np.int64]  # (T + 1,)
    bars: NDArray[np.float32]  # (T,)


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets into a scratch array, in floats; planes hold one float a pixel of the tile."""

    channels: int
    order: int

    @property
    def sums(self) -> int:
        """A plane: sum of weights, then its inverse."""
        return 0

    @property
    def values(self) -> int:
        """C planes: weighted sums of the experts, then the picture."""
        return AREA

    @property
    def slopes(self) -> int:
        """C planes: dL/dpicture."""
        return self.values + self.channels * AREA

    @property
    def base(self) -> int:
        """A plane: sum over channels of dL/dpicture times picture."""
        return self.slopes + self.channels * AREA

    @property
    def peaks(self) -> int:
        """A plane: what logits are relative to, in powers of two above the bar."""
        return self.base + AREA

    @property
    def lanes(self) -> int:
        """Rows of a tile's width: 3 sums for the logit, C for colours, C for colours times dy."""
        return self.peaks + AREA

    @property
    def size(self) -> int:
        """Floats in all."""
        return self.lanes + (3 + 2 * self.channels) * TILE

    @property
    def expert(self) -> int:
        """Numbers of an expert."""
        return self.channels * (3 if self.order else 1)

    @property
    def partial(self) -> int:
        """Numbers of a pair's partial gradient."""
        return MOMENTS + self.expert
