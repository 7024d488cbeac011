"""Controls: what a model does when its gate's decisions are replaced, to tell whether they matter.

Each keeps all experts and all other weights, and takes one thing away: `shuffled` that a decision meets the place it
was made for, `random` and `uniform` that there is a decision, `position` that it depends on what the picture shows, and
`forced:3` every expert but one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.collect import routed_layers
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import nn

    from moesaic.routing.record import Routing

CONTROLS = ("none", "shuffled", "uniform", "random", "position")  # and forced:0, forced:1, ... for each expert


def shuffled(routing: Routing, generator: torch.Generator) -> Routing:
    """Give each decision to another place, of this picture or of another one in the batch.

    The places form one random ring, and each takes the decision of the next: none keeps its own. How often experts
    act, and with which weights, stays exactly as it was.

    Raises:
        ShapeError: the batch has a single place, so there is nothing to exchange.
    """
    count = routing.chosen.shape[0] * routing.chosen.shape[1]
    if count < 2:
        raise ShapeError("shuffled needs two places to exchange: give several pictures at once, or a finer grid")
    ring = torch.randperm(count, generator=generator)
    source = torch.empty_like(ring)
    source[ring] = ring.roll(1)
    source = source.to(routing.chosen.device)

    def moved(values: Tensor) -> Tensor:  # (B, P, ...)
        return values.flatten(0, 1)[source].view_as(values)

    return replace(
        routing,
        weights=moved(routing.weights),
        chosen=moved(routing.chosen),
        probabilities=moved(routing.probabilities),
        logits=moved(routing.logits),
    )


def uniform(routing: Routing) -> Routing:
    """Let all experts act everywhere with equal weights, 1/E."""
    B, P, E = routing.probabilities.shape
    chosen = torch.arange(E, device=routing.chosen.device).expand(B, P, E)
    return _decided(routing, chosen, torch.full_like(routing.probabilities, 1 / E))


def random(routing: Routing, generator: torch.Generator) -> Routing:
    """Let k experts act at each place, drawn anew, with equal weights, 1/k."""
    lots = torch.rand(routing.probabilities.shape, generator=generator)
    chosen = lots.topk(routing.k, dim=-1).indices.to(routing.chosen.device)
    return _decided(routing, chosen, torch.full_like(routing.probabilities[..., : routing.k], 1 / routing.k))


def by_position(
    routing: Routing,
    means: Tensor,  # (P, E)
) -> Routing:
    """Decide by the mean probabilities of each position of the grid, the same for every picture: its k likeliest.

    Raises:
        ShapeError: `means` belongs to another grid or number of experts.
    """
    B, P, E = routing.probabilities.shape
    if means.shape != (P, E):
        raise ShapeError(f"means must be ({P}, {E}) for {P} places and {E} experts, not {tuple(means.shape)}")
    means = means.to(routing.probabilities)
    weights, chosen = means.topk(routing.k, dim=-1)
    weights = weights / weights.sum(-1, keepdim=True)
    decided = _decided(routing, chosen.expand(B, P, -1), weights.expand(B, P, -1))
    return replace(decided, probabilities=means.expand(B, P, E), logits=_logarithm(means).expand(B, P, E))


def forced(routing: Routing, expert: int) -> Routing:
    """Let one expert act alone, everywhere.

    Raises:
        ArgumentError: there is no such expert.
    """
    if not 0 <= expert < routing.experts:
        raise ArgumentError(f"forced:{expert} asks for an expert that is not there: 0 to {routing.experts - 1} are")
    chosen = torch.full_like(routing.chosen[..., :1], expert)
    return _decided(routing, chosen, torch.ones_like(routing.probabilities[..., :1]))


@contextmanager
def control(
    model: nn.Module,
    name: str,
    *,
    seed: int = 0,
    positions: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Replace the decisions of all routed layers of a model within a block; afterwards all is as before.

    Args:
        model: with at least one routed layer.
        name: "none", "shuffled", "uniform", "random", "position", or "forced:3" for expert 3 alone.
        seed: of what is drawn; same seed and same batches, same decisions.
        positions: for "position", the mean probabilities (P, E) of each routed layer by its name, as
            `Usage.position_probabilities` has them.

    Raises:
        ArgumentError: the name is unknown, an expert is not there, the model has no routed layer, the seed is not a
            whole number from 0 to 2**63 - 1, or "position" lacks the means of a layer.
    """
    if not is_whole(seed, 0, 2**63 - 1):
        raise ArgumentError(f"seed is a whole number from 0 to {2**63 - 1}, not {seed!r}")
    layers = routed_layers(model)
    if not layers:
        raise ArgumentError("model has no routed layer to control: make one with moesaic.routing.sparsify")
    generator = torch.Generator().manual_seed(seed)
    kind, _, expert = name.partition(":")
    if kind == "forced" and expert.isdecimal():
        number = int(expert)
        for layer_name, layer in layers.items():
            if number >= layer.gate.experts:
                raise ArgumentError(f"{name}: layer {layer_name!r} has experts 0 to {layer.gate.experts - 1}")
    elif name not in CONTROLS:
        raise ArgumentError(
            f"control {name!r} is unknown; choose one of {', '.join(CONTROLS)}, forced:0, forced:1, ..."
        )
    before = {layer_name: layer.control for layer_name, layer in layers.items()}
    try:
        for layer_name, layer in layers.items():
            if name == "none":
                layer.control = None
            elif name == "shuffled":
                layer.control = lambda routing: shuffled(routing, generator)
            elif name == "uniform":
                layer.control = uniform
            elif name == "random":
                layer.control = lambda routing: random(routing, generator)
            elif name == "position":
                if positions is None or layer_name not in positions:
                    raise ArgumentError(f"positions lacks the mean probabilities (P, E) of layer {layer_name!r}")
                layer.control = lambda routing, means=positions[layer_name]: by_position(routing, means)
            else:
                layer.control = lambda routing: forced(routing, number)
        yield
    finally:
        for layer_name, layer in layers.items():
            layer.control = before[layer_name]


def _decided(
    routing: Routing,
    chosen: Tensor,  # (B, P, K)
    weights: Tensor,  # (B, P, K)
) -> Routing:
    """The record of a decision that no gate made: its probabilities are the weights themselves."""
    weights = weights.to(routing.weights.dtype)
    dense = torch.zeros_like(routing.probabilities).scatter(2, chosen, weights.to(routing.probabilities.dtype))
    return replace(routing, weights=weights, chosen=chosen, probabilities=dense, logits=_logarithm(dense))


def _logarithm(p: Tensor) -> Tensor:
    """Logits of probabilities, finite also where these are 0."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()
