"""Two ways downhill for the kernels of a fit: Adam, and Gauss and Newton's blocks with momentum.

Adam's steps are as long where little is to be gained as elsewhere. That finds better places for kernels in a long fit,
and makes a mess of a good mixture first. Steps by curvature are as long as they are worth: they reach in fifty steps
what takes Adam a hundred, and end where they began to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moesaic.mixture.backends import bent_descent, descent
from moesaic.mixture.backends.curved import BENDS, SIX
from moesaic.mixture.backends.threads import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.backends.cover import Cover
    from moesaic.mixture.backends.cpu import Floats, Packed
    from moesaic.mixture.observed import Observed, Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a kernel's numbers stay within."""

    sharpest: float  # 1/px, of the factors' diagonal
    widest: float  # 1/px
    right: float  # px, of the centres
    bottom: float
    left: float
    top: float


class Descent(Protocol):
    """A way downhill."""

    def look(self, packed: Packed, listed: Cover, *, fresh: bool) -> float:
        """The mean squared error of kernels as they stand, and in passing which way is down.

        Args:
            packed: the kernels.
            listed: which of them touch which tile.
            fresh: that has just been listed anew.
        """

    def go(self, packed: Packed, part: float) -> None:
        """Move the kernels that were looked at, in place, by such a part of the first steps' length."""

    def follow(self, parents: NDArray[np.int64], places: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """Know that kernels at `places` are second halves of `parents` now, and that those not kept have gone."""


class Adam:
    """Adam on every number of every kernel, in the kernel's own frame; see `backends.descent`."""

    def __init__(
        self,
        observed: Observed,
        packed: Packed,
        *,
        rates: NDArray[np.float64],  # (6 + K,)
        decays: tuple[float, float],
        bounds: Bounds,
        threads: int,
    ) -> None:
        self.observed, self.rates, self.decays, self.bounds, self.threads = observed, rates, decays, bounds, threads
        self.first = np.zeros((len(packed.centres), len(rates)), np.float32)
        self.second = np.zeros_like(self.first)
        self.slope = self.first
        self.count = 0

    def look(self, packed: Packed, listed: Cover, *, fresh: bool) -> float:  # noqa: ARG002
        """See `Descent`."""
        error, self.slope = self.observed.error(packed, listed, self.threads)
        return error

    def go(self, packed: Packed, part: float) -> None:
        """See `Descent`."""
        self.count += 1
        b = self.bounds
        arrays = (packed.centres, packed.geometry, packed.experts, self.slope, self.first, self.second)
        rates = (self.rates * part).astype(np.float32)
        numbers = (*self.decays, self.count, b.sharpest, b.widest, b.right, b.bottom, b.left, b.top, packed.channels)
        edges = np.linspace(0, len(packed.centres), self.threads + 1).astype(int)
        run([partial(descent.step, int(a), int(z), *arrays, rates, *numbers) for a, z in pairwise(edges)], self.threads)

    def follow(self, parents: NDArray[np.int64], places: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """See `Descent`."""
        self.first[places], self.second[places] = 0.0, self.second[parents]
        self.first[parents] *= 0.5
        self.first, self.second = self.first[kept], self.second[kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gait:
    """How `GaussNewton` steps."""

    rate: float = 0.6  # of Newton's step by a kernel's own block, at full pace
    rate_colour: float = 0.4  # of the step that were best for a colour if every other kernel stayed
    decay: float = 0.9  # of the momentum
    first: float = 0.3  # a kernel's pace at first, and after it was split
    up: float = 1.2  # growth of the pace with each step that leads downhill, to 1 at most
    down: float = 0.8  # its fall where momentum leads uphill, and is forgotten
    damping: float = 0.2  # share of a block's diagonal that is added to it
    floor: float = 3e-4  # squared difference between a kernel and what is around it, at the least
    longest: float = 0.1  # change of any of the six numbers of a geometry in one step


class GaussNewton:
    """Gauss and Newton's blocks, found with each listing, and momentum; of experts of order 0. See `bent_descent`."""

    def __init__(self, observed: Pixels, packed: Packed, *, gait: Gait, bounds: Bounds, threads: int) -> None:
        count, width = len(packed.centres), SIX + packed.channels
        self.observed, self.gait, self.bounds, self.threads = observed, gait, bounds, threads
        self.velocity = np.zeros((count, width), np.float32)
        self.pace = np.full(count, gait.first, np.float32)
        self.slope: Floats = self.velocity
        self.bends, self.factors = np.empty((count, BENDS), np.float32), np.empty((count, SIX, SIX), np.float32)

    def look(self, packed: Packed, listed: Cover, *, fresh: bool) -> float:
        """See `Descent`."""
        if not fresh:
            error, self.slope = self.observed.error(packed, listed, self.threads)
            return error
        bent = self.observed.bent(packed, listed, self.threads)
        self.slope, self.bends = bent.slope, bent.bends
        self.factors = np.empty((len(packed.centres), SIX, SIX), np.float32)
        rest = (self.bends, self.gait.damping, self.gait.floor, self.factors)
        run([partial(bent_descent.factor, a, z, *rest) for a, z in self._shares(packed)], self.threads)
        return bent.error / bent.left.size

    def go(self, packed: Packed, part: float) -> None:  # noqa: ARG002 # steps shorten by themselves
        """See `Descent`."""
        g, b = self.gait, self.bounds
        arrays = (packed.centres, packed.geometry, packed.experts, self.slope, self.bends, self.factors)
        numbers = (g.rate, g.rate_colour, g.decay, g.up, g.down, g.longest)
        rest = (self.velocity, self.pace, *numbers, b.sharpest, b.widest, b.right, b.bottom, b.left, b.top)
        run([partial(bent_descent.step, a, z, *arrays, *rest) for a, z in self._shares(packed)], self.threads)

    def follow(self, parents: NDArray[np.int64], places: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
        """See `Descent`."""
        for which in (parents, places):
            self.velocity[which], self.pace[which] = 0.0, self.gait.first
        self.velocity, self.pace = self.velocity[kept], self.pace[kept]

    def _shares(self, packed: Packed) -> list[tuple[int, int]]:
        edges = np.linspace(0, len(packed.centres), self.threads + 1).astype(int)
        return [(int(a), int(z)) for a, z in pairwise(edges)]
