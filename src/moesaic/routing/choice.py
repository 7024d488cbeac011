"""From scores to a decision: softmax, noise, top-k, and the gate that every router is a kind of."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.capacity import limited
from moesaic.routing.record import Routing

MOST_EXPERTS = 4096
"""More are refused: a typing error, or a file that means harm; each costs a turn of a loop and a column of scores."""

if TYPE_CHECKING:
    from torch import Tensor


def choose(
    logits: Tensor,  # (B, P, E)
    k: int,
    *,
    training: bool = False,
    noise: float = 0.0,
    relative: bool = True,
    capacity: float | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # (B, P, K), (B, P, K) int64, (B, P, E)
    """The k best experts of each place and their weights.

    Noise and capacity act only while training, so that in use a picture's experts depend on nothing but the picture.
    Noise decides who is tried, never with what weight: weights and probabilities are those of the clean scores. Ties go
    to the expert with the lower number.

    Args:
        logits: the scores of all experts; computed on in float32, or in float64 where they are.
        k: how many act at each place.
        training: whether noise and capacity apply.
        noise: standard deviation of the normal noise added to the scores before the choice.
        relative: the noise is a share of the spread of a place's own scores (their standard deviation), so that it
            means the same whatever their scale; False: in units of the scores.
        capacity: how many times an even share of the batch's places an expert may take at most; at least 1.
        generator: of the noise; torch's global one when None.

    Returns:
        weights: the softmax over the chosen experts: they sum to 1. For k = 1 the weight is exactly 1 and passes its
            gradient straight to the probability, since a renormalised single weight would have none. Where capacity
            left a place with fewer than k experts, the rest of its weights are 0.
        chosen: the experts, the heaviest first (without noise).
        probabilities: the softmax over all experts.
    """
    logits = widened(logits)
    probabilities = logits.softmax(-1)
    wish = logits.detach()
    if training and noise > 0:
        step = noise * _normal(wish, generator)
        wish = wish + (step * wish.std(-1, keepdim=True, correction=0) if relative else step)
    if training and capacity is not None:
        chosen, acting = limited(wish.softmax(-1), k, capacity)
        outside = ~acting
    else:
        chosen, outside = best_of(wish, k), None
    if k == 1:
        p = probabilities.gather(-1, chosen)
        return 1 + (p - p.detach()), chosen, probabilities
    scores = logits.gather(-1, chosen)
    if outside is not None:
        scores = scores.masked_fill(outside, -math.inf)
    return scores.softmax(-1), chosen, probabilities


def best_of(
    values: Tensor,  # (..., E)
    k: int,
) -> Tensor:  # (..., K) int64
    """The k experts of the largest values, in order; of equal ones the lower number, which topk does not promise."""
    number = torch.arange(values.shape[-1], device=values.device)
    chosen = [values.argmax(-1, keepdim=True)]
    for _ in range(k - 1):
        values = values.masked_fill(number == chosen[-1], -math.inf)
        chosen.append(values.argmax(-1, keepdim=True))
    return torch.cat(chosen, dim=-1)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.randn_like(like)  # a generator as an argument would break compiled graphs, even None
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)


class Gate(nn.Module):
    """Scores the experts at each place and chooses k of them.

    A kind of gate defines `scores`, which may work in any precision from float32 up; everything after it is float32,
    under autocast too.

    Args:
        experts: how many there are.
        k: how many act at each place.
        noise: standard deviation of normal noise on the scores while training, as a share of their spread (or, where
            `relative_noise` is False, in their own units); see `choose`.
        capacity: the most places that one expert may take in training, as a multiple of an even share; None: all.

    Raises:
        ArgumentError: fewer than one expert or more than `MOST_EXPERTS`, k outside 1..experts, negative noise, or a
            capacity below 1.
    """

    reads_channels: ClassVar[bool] = True  # whether the constructor takes the channels of the map first
    relative_noise: ClassVar[bool] = True

    def __init__(self, experts: int, k: int, *, noise: float = 0.0, capacity: float | None = None) -> None:
        super().__init__()
        self.experts = whole("experts", experts, MOST_EXPERTS)
        self.k = whole("k", k)
        if self.k > self.experts:
            raise ArgumentError(f"k is {k}, but there are {experts} experts: choose k from 1 to {experts}")
        if not _finite(noise, 0):
            raise ArgumentError(f"noise is a standard deviation from 0 up, not {noise!r}")
        if capacity is not None and not _finite(capacity, 1):
            raise ArgumentError(f"capacity is a multiple of an even share, from 1 up, or None, not {capacity!r}")
        self.noise = float(noise)
        self.capacity = None if capacity is None else float(capacity)
        self.channels: int | None = None  # of the maps it reads; None: any

    def scores(
        self,
        x: Tensor,  # (B, C, H, W)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, P, E)
        """The score of each expert at each place; the softmax over them gives probabilities."""
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
        grid: tuple[int, int],
    ) -> Routing:
        """Decide which experts act at each place of a map.

        Raises:
            ShapeError: the map is no (B, C, H, W), has other channels than the gate reads, is empty, or is smaller
                than the grid.
        """
        if x.ndim != 4 or (not torch.compiler.is_compiling() and x.numel() == 0):
            raise ShapeError(f"a gate reads maps of shape (B, C, H, W) that are not empty, not {tuple(x.shape)}")
        if self.channels is not None and x.shape[1] != self.channels:
            raise ShapeError(f"the gate was made for maps of {self.channels} channels, this one has {x.shape[1]}")
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.decide(x, grid)
        return self.decide(x, grid)  # not within a disabled autocast: exporters stumble over one

    def decide(self, x: Tensor, grid: tuple[int, int]) -> Routing:
        """`forward`, with its input checked and autocast off."""
        logits = widened(self.scores(x, grid))
        weights, chosen, probabilities = choose(
            logits,
            self.k,
            training=self.training,
            noise=self.noise,
            relative=self.relative_noise,
            capacity=self.capacity,
        )
        return Routing(weights=weights, chosen=chosen, probabilities=probabilities, logits=logits, grid=grid)

    def extra_repr(self) -> str:
        """Experts and k, in torch's manner."""
        options = "".join(
            f", {name}={value}" for name, value in (("noise", self.noise), ("capacity", self.capacity)) if value
        )
        return f"experts={self.experts}, k={self.k}{options}"


def widened(x: Tensor) -> Tensor:
    """In float32, or float64 where it is: half precision is too coarse to decide in."""
    return x if x.dtype == torch.float64 else x.float()


def _finite(value: object, least: float) -> bool:
    return isinstance(value, int | float) and least <= value < math.inf


def whole(name: str, value: int, most: int | None = None) -> int:
    """A count of at least one, and at most `most`.

    Raises:
        ArgumentError: it is not.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ArgumentError(f"{name} is a whole number from 1 up, not {value!r}")
    if most is not None and number > most:
        raise ArgumentError(f"{name} is a whole number from 1 to {most}, not {value!r}")
    return number
