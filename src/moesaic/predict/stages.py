"""From a picture to kernels, stage by stage: all of them move, and new ones come where the most is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from moesaic.errors import ArgumentError
from moesaic.mixture import colours
from moesaic.mixture.backends import curved
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.observed import DAMPING
from moesaic.predict.kernels import Kernels, begun, detached, grown, held, moved
from moesaic.predict.network import MOST_STAGES
from moesaic.predict.views import view
from moesaic.values import is_a, is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.mixture.backends.curved import Bent
    from moesaic.predict.network import MixturePredictor

SHARES = (1.0,) * 8
"""Of all kernels, how many there are in each stage."""

MARGIN = 8.0  # between logits, for the lists of a stage; as of a fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Kernels as they stand before a stage moves them, and the picture that they draw."""

    kernels: Kernels
    bent: Bent

    @property
    def error(self) -> Tensor:  # ()
        """The squared error, summed over pixels and channels; with gradients for the kernels."""
        kernels = self.kernels
        leaves = (kernels.centres, kernels.factors, kernels.log_priors, kernels.colours)
        found: Tensor = _Error.apply(self.bent, *leaves)  # type: ignore[no-untyped-call] # of torch
        return found

    @property
    def psnr(self) -> float:
        """dB, of the picture as it is drawn."""
        return -10.0 * math.log10(max(self.bent.error / self.bent.left.size, 1e-12))


class _Error(torch.autograd.Function):
    """What has been found of the squared error, where torch can use it."""

    @staticmethod
    def forward(ctx: Any, bent: Bent, centres: Tensor, *rest: Tensor) -> Tensor:  # noqa: ARG004
        ctx.slope = torch.from_numpy(bent.slope)
        return centres.new_tensor(bent.error)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        slope = given[0] * ctx.slope
        return None, slope[:, :2], slope[:, 2:5], slope[:, 5], slope[:, 6:]


def checked_shares(shares: Any) -> tuple[float, ...]:
    """The shares of stages, see `SHARES`.

    Raises:
        ArgumentError: they are none.
    """
    listed = is_a(shares, tuple, list) and 0 < len(shares) <= MOST_STAGES
    if not listed or not all(is_number(one) and 0 < one <= 1 for one in shares):
        raise ArgumentError(f"shares {shares!r} must be 1 to {MOST_STAGES} numbers above 0 and at most 1")
    if sorted(shares) != list(shares) or shares[-1] != 1:
        raise ArgumentError(f"shares {shares!r} must never fall, and end with 1")
    return tuple(shares)


def totals(experts: int, shares: Sequence[float]) -> list[int]:
    """How many kernels there are in each stage."""
    return [min(experts, max(1, math.ceil(share * experts))) for share in shares[:-1]] + [experts]


def compared(kernels: Kernels, picture: NDArray[np.float32], threads: int) -> Bent:
    """The kernels' picture beside the wanted one, (3, H, W), to the second order."""
    packed = kernels.packed()
    height, width = picture.shape[1:]
    listed = cover(packed.centres, packed.geometry, width, height, MARGIN, threads)
    return curved.bent(packed, listed, picture, threads)


def advanced(
    network: MixturePredictor,
    kernels: Kernels,
    picture: NDArray[np.float32],  # (3, H, W)
    bent: Bent,
    stage: int,
    threads: int,
) -> Kernels:
    """The kernels after a stage, from those before it and their picture beside the wanted one."""
    told = view(kernels.packed(), kernels.change, picture, bent, threads)
    after = moved(kernels, network(told, kernels.change, stage))
    return held(after, (picture.shape[2], picture.shape[1]))


def stages(
    network: MixturePredictor,
    picture: NDArray[np.float32],  # (3, H, W)
    experts: int,
    random: np.random.Generator,
    *,
    shares: Sequence[float] = SHARES,
    threads: int = 1,
    together: bool = True,
) -> Iterator[Stage]:
    """The kernels before each stage, then those after the last; gradients reach the network unless they are off.

    Through a stage's kernels run the gradients of every stage before, but not through what each was told; without
    `together`, those of that stage alone.
    """
    kernels: Kernels | None = None
    bent: Bent | None = None
    for stage, (before, after) in enumerate(pairwise([0, *totals(experts, shares)])):
        if kernels is None or bent is None:
            kernels = begun(picture, after, random)
        elif after > before:
            kernels = grown(kernels, picture, bent.left, after - before, random)
            bent = None
        if bent is None:
            bent = compared(kernels, picture, threads)
        yield Stage(kernels=kernels, bent=bent)
        if not together:
            kernels = detached(kernels)
        kernels = advanced(network, kernels, picture, bent, stage, threads)
        bent = compared(kernels, picture, threads)
    if kernels is not None and bent is not None:
        yield Stage(kernels=kernels, bent=bent)


def coloured(
    kernels: Kernels,
    picture: NDArray[np.float32],  # (3, H, W)
    steps: int,
    threads: int,
) -> Kernels:
    """With the colours that bring them closest to the picture, as far as so many steps go."""
    found = colours.solve(kernels.packed(), picture, steps=steps, damping=DAMPING, margin=MARGIN, threads=threads)
    return replace(kernels, colours=torch.from_numpy(found))
