"""What a fit is compared with: the pixels of its own canvas, or coarser pixels that a camera or a resize made of it.

Both answer the same questions about a mixture: how far it is from what was observed and which way is down, what its own
picture should rather be, and which experts suit the kernels best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture import colours
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover
from moesaic.mixture.backends.curved import Bent, bent
from moesaic.mixture.sampling import Sampling

Floats = NDArray[np.float32]
DAMPING = 0.05  # px; see `colours.solve_colours`
SOFT = 0.01  # colour; differences below this count less and less in the total variation


class Observed(Protocol):
    """What a fit asks of what it is fitted to."""

    def error(self, packed: cpu.Packed, listed: Cover, threads: int) -> tuple[float, Floats]:
        """The mean squared error, and the gradient (N, 6 + K) of what the fit descends."""

    def wanted(self, packed: cpu.Packed, listed: Cover, threads: int) -> Floats:
        """What the canvas (C, H, W) should show, by which a survey finds where kernels are missing."""

    def solve(self, packed: cpu.Packed, steps: int, threads: int) -> Floats:
        """Better experts (N, K) for the kernels as they are."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of the canvas themselves: the ordinary fit."""

    target: Floats  # (C, H, W)

    def error(self, packed: cpu.Packed, listed: Cover, threads: int) -> tuple[float, Floats]:
        """The mean squared error over pixels and channels, and the gradient of their sum, in one pass."""
        errors, slope = cpu.squared_error(packed, listed, self.target, threads)
        return float(errors.sum(dtype=np.float64)) / self.target.size, slope

    def bent(self, packed: cpu.Packed, listed: Cover, threads: int) -> Bent:
        """The same, and how the error bends; of experts of order 0."""
        return bent(packed, listed, self.target, threads)

    def wanted(self, packed: cpu.Packed, listed: Cover, threads: int) -> Floats:  # noqa: ARG002
        """The target."""
        return self.target

    def solve(self, packed: cpu.Packed, steps: int, threads: int) -> Floats:
        """The experts in closed form, as far as `steps` of conjugate gradients go."""
        return colours.solve(packed, self.target, steps=steps, damping=DAMPING, threads=threads)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Coarser pixels, each a weighted sum of the canvas's, with a weight on the canvas's total variation."""

    seen: Floats  # (C, h, w)
    sampling: Sampling  # from the canvas to what was seen
    spread: Sampling  # its transpose
    variation: float = 0.0  # against the squared error of the pixels seen

    @classmethod
    def through(cls, sampling: Sampling, seen: Floats, variation: float = 0.0) -> Self:
        """What was seen through a sampling."""
        return cls(seen, sampling, sampling.transposed(), variation)

    def error(self, packed: cpu.Packed, listed: Cover, threads: int) -> tuple[float, Floats]:
        """The mean squared error of the pixels seen, and the gradient of their sum with the total variation."""
        picture, sums = cpu.forward(packed, listed, threads)
        missed = self.sampling(picture) - self.seen
        slope = self.spread(2.0 * missed)
        if self.variation:
            slope += self.variation * variation_slope(picture)
        return float(np.mean(missed**2, dtype=np.float64)), cpu.backward(packed, listed, picture, sums, slope, threads)

    def wanted(self, packed: cpu.Packed, listed: Cover, threads: int) -> Floats:
        """The canvas as it is, with what is missing from the pixels seen spread over it."""
        picture, _ = cpu.forward(packed, listed, threads)
        samples = (picture.shape[1] * picture.shape[2]) / (self.seen.shape[1] * self.seen.shape[2])
        return np.asarray(picture + np.float32(samples) * self.spread(self.seen - self.sampling(picture)))

    def solve(self, packed: cpu.Packed, steps: int, threads: int) -> Floats:  # noqa: ARG002
        """The experts as the descent has left them: conjugate gradients found nothing more to gain."""
        return packed.experts


def variation_slope(picture: Floats) -> Floats:  # (C, H, W) -> (C, H, W)
    """The gradient of the total variation: the sum over pixels of the length of the step to the next ones.

    Source: Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms" (Physica D 60, 1992), in
    the form for colour that takes the channels together.
    """
    right = np.diff(picture, axis=2, append=picture[:, :, -1:])
    down = np.diff(picture, axis=1, append=picture[:, -1:])
    length = np.sqrt((right**2 + down**2).sum(axis=0) + np.float32(SOFT**2))
    right /= length
    down /= length
    slope = -right - down
    slope[:, :, 1:] += right[:, :, :-1]
    slope[:, 1:] += down[:, :-1]
    return slope
