"""MoCE-IR's router for whole pictures, and how a decision made before takes the place of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError
from moesaic.restore.overruling import holding, spread
from moesaic.routing.choice import choose, widened
from moesaic.routing.collect import routed_layers
from moesaic.routing.gate import FrequencyGate
from moesaic.routing.record import Routing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import Tensor, nn


class PictureGate(FrequencyGate):
    """A `FrequencyGate` that reads the upper half of the channels of a map, or takes a decision made before.

    The lower half is what the experts are told beside the map; see `ComplexityExpert`.

    Args:
        channels: C, half of those of the map.
        experts: how many there are; one acts.
        condition_size: D, of the embedding that the network sets.
        noise: standard deviation of normal noise on the scores while training, in their units.
        published: the chosen expert's weight is its probability among all experts, below 1, as in the reference code;
            else it is 1 and passes its gradient to the probability (see `moesaic.routing.choice.choose`).

    Attributes:
        generator: of the noise; torch's global one where None.
        imposed: a decision that is handed on in place of the gate's own, where set; see `imposing`.
    """

    def __init__(
        self, channels: int, experts: int, *, condition_size: int, noise: float, published: bool = False
    ) -> None:
        super().__init__(channels, experts, 1, condition_size=condition_size, noise=noise)
        self.read = channels
        self.channels = 2 * channels
        self.published = published
        self.generator: torch.Generator | None = None
        self.imposed: Routing | None = None

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, 2 C, H, W)."""
        return super().scores(x[:, : self.read], grid)

    def decide(self, x: Tensor, grid: tuple[int, int]) -> Routing:
        """`forward`, with its input checked and autocast off."""
        if self.imposed is not None:
            return self.imposed
        return self.routing_of(widened(self.scores(x, grid)), grid, training=self.training)

    def routing_of(
        self,
        logits: Tensor,  # (B, P, E)
        grid: tuple[int, int],
        *,
        training: bool = False,
    ) -> Routing:
        """The decision that scores lead to; noise acts only while `training`."""
        weights, chosen, probabilities = choose(
            logits, 1, training=training, noise=self.noise, relative=False, generator=self.generator
        )
        if self.published:
            weights = probabilities.gather(-1, chosen)
        return Routing(weights=weights, chosen=chosen, probabilities=probabilities, logits=logits, grid=grid)

    def __getstate__(self) -> dict[str, Any]:
        # Both belong to one pass; copies and pickles are of the gate alone.
        return {**super().__getstate__(), "generator": None, "imposed": None}


def picture_gates(network: nn.Module) -> dict[str, PictureGate]:
    """The picture gates of a network, by the name of their routed layer."""
    return {name: layer.gate for name, layer in routed_layers(network).items() if isinstance(layer.gate, PictureGate)}


def imposing(network: nn.Module, routings: Mapping[str, Routing], pictures: int) -> AbstractContextManager[None]:
    """Within this, the picture gates of a network hand on decisions made before; controls still act on these.

    Args:
        network: with picture gates.
        routings: by the routed layer's name, each for one picture, imposed on all of the batch, or one row for each.
        pictures: B, of the batch that comes.

    Raises:
        ArgumentError: the routings are not those of this network's layers.
        ShapeError: a routing is for another number of pictures, more than one.
    """
    gates = picture_gates(network)
    if routings.keys() != gates.keys():
        raise ArgumentError(
            f"decision names the layers {sorted(routings)}, this network has {sorted(gates)}:"
            " make it with the look() of the same kind of network"
        )
    return holding(gates.values(), "imposed", [spread(routings[name], pictures) for name in gates])


def drawing(network: nn.Module, generator: torch.Generator | None) -> AbstractContextManager[None]:
    """Within this, the picture gates of a network draw their noise from `generator`."""
    gates = picture_gates(network).values()
    return holding(gates, "generator", [generator] * len(gates))
