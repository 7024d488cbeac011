"""A large picture made small while its bands of rows go by, for the drawings that explain what was done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.picture import Frame, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2048
"""px of the longer side, about: more than a drawing has room for."""


class Reduced:
    """Takes bands from top to bottom, and keeps the means of squares of pixels, colours multiplied by alpha.

    Args:
        frame: of the large picture.
        most: px that the longer side is to have at most.
    """

    def __init__(self, frame: Frame, most: int = MOST) -> None:
        self.step = -(-max(frame.width, frame.height) // most)  # px, the side of a square
        self._frame, self._rows = frame, 0
        across = np.arange(0, frame.width, self.step)
        self._starts = across
        self._sums = np.zeros((-(-frame.height // self.step), len(across), frame.channels), np.float64)
        wide = np.diff(across, append=frame.width)
        tall = np.diff(np.arange(0, frame.height, self.step), append=frame.height)
        self._areas = (tall[:, None] * wide)[..., None]

    def add(self, band: Picture) -> None:
        """The next rows."""
        pixels = band.premultiplied() if band.has_alpha else band.pixels
        summed = np.add.reduceat(pixels, self._starts, axis=1, dtype=np.float64)
        np.add.at(self._sums, np.arange(self._rows, self._rows + len(summed)) // self.step, summed)
        self._rows += len(summed)

    def picture(self) -> Picture:
        """The small picture, of 8 bits, with the profile of the large one; rows that did not come are black."""
        pixels: NDArray[np.float64] = self._sums / self._areas
        return Picture.from_premultiplied(pixels.astype(np.float32), icc=self._frame.icc)
