"""One mixture fitted to a noisy picture: the noise says which kernels are worth keeping, and when the fit is done.

The fit begins with more kernels than can be told from the noise, all of them moving. Round by round those go whose
removal adds less squared error than noise alone would let them gain; where there is structure, they stay. Nothing else
decides how many kernels are left, so a smooth sky ends with few and a hedge with many. When a round takes hardly any
away, the number has settled: the steps are then shortened to nothing, and the fit ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import exact_margin
from moesaic.mixture.fitting import Fitting

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyConfig:
    """When a kernel counts as noise, and the rhythm of a fit; docs/denoising.md says what each is worth."""

    worth: float = 60.0  # variances of the noise that a kernel must explain, summed over pixels and channels, to stay
    spacing: float = 0.8  # px that a kernel has at the start for each unit of sigma on the 0-255 scale
    densest: float = 6.0  # px for each kernel, where sigma is small
    sparsest: float = 20.0  # px for each kernel, where sigma is large
    between: int = 10  # steps between rounds
    share: float = 0.3  # of the kernels, at most, that one round takes away
    still: float = 0.03  # share of the kernels below which a round says that their number has settled
    rest: int = 24  # steps under falling rates after that
    longest: int = 300  # steps before the rest, whatever the rounds say


def begin_with(pixels: int, sigma: float, config: NoisyConfig) -> int:
    """Kernels at the start of a fit to so many pixels with noise of sigma (0-255 scale)."""
    each = min(max(config.spacing * sigma, config.densest), config.sparsest)
    return max(1, round(pixels / each))


class NoisyFit(Fitting):
    """A fit that prunes by the level of the noise."""

    def settle(
        self,
        sigma: float,  # of the noise, on the 0-255 scale
        config: NoisyConfig,
        *,
        experts: int | None = None,
        go_on: Callable[[], bool] | None = None,
    ) -> bool:
        """Fit until the number of kernels has settled.

        Args:
            sigma: standard deviation of the noise.
            config: see there.
            experts: end with so many kernels, instead of as many as the noise lets stand.
            go_on: asked between rounds; False leaves the fit unfinished.

        Returns:
            Whether the fit was finished.
        """
        pixels = self.target.shape[1] * self.target.shape[2]
        count = max(begin_with(pixels, sigma, config), 2 * experts if experts else 0)
        self.place(count)
        noise = config.worth * (sigma / 255.0) ** 2
        adam = self.by_adam()
        listed, done, resting = None, 0, -1
        while resting < config.rest:
            fresh = listed is None or done % self.config.relist == 0
            if listed is None or fresh:
                listed = self.list_kernels(self.config.margin)
            adam.look(self.packed, listed, fresh=fresh)
            done += 1
            adam.go(self.packed, 1.0 if resting < 0 else 0.51 + 0.49 * math.cos(math.pi * (resting + 1) / config.rest))
            resting += resting >= 0
            if done % config.between or 2 * resting > config.rest:
                continue
            if go_on is not None and not go_on():
                return False
            before = len(self.packed.centres)
            kept = self._kept(noise, config.share, experts)
            self.packed = self.packed.chosen(kept)
            adam.follow(_NONE, _NONE, kept)
            listed = None
            gone = before - len(self.packed.centres)
            if resting < 0 and (gone <= config.still * before or done >= config.longest):
                resting = 0
        if experts is not None and len(self.packed.centres) > experts:
            self._resize(experts)
        return True

    def render(self) -> NDArray[np.float32]:  # (C, H, W)
        """The picture of the kernels as they are, exactly."""
        listed = self.list_kernels(exact_margin(len(self.packed.centres)))
        return cpu.forward(self.packed, listed, self.threads)[0]

    def _kept(self, noise: float, share: float, experts: int | None) -> NDArray[np.bool_]:
        """The kernels that stay in this round."""
        cost = self._survey().cost
        least = 1 if experts is None else min(experts, len(cost))
        gone = len(cost) - least if experts is not None else int(np.count_nonzero(cost < noise))
        gone = min(gone, max(1, int(share * len(cost))), len(cost) - least)
        kept = np.ones(len(cost), bool)
        kept[np.argsort(cost, kind="stable")[: max(gone, 0)]] = False
        return kept
