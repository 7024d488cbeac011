"""Experts that act in place of a gate's choice: those of a decision made before, or drawn ones."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from moesaic.routing import RoutedExperts, Routing


@contextmanager
def holding(owners: Iterable[object], name: str, values: Iterable[object]) -> Iterator[None]:
    """Within this an attribute of each owner has another value, which it loses afterwards."""
    owned = list(owners)
    before = [getattr(owner, name) for owner in owned]
    try:
        for owner, value in zip(owned, values, strict=True):
            setattr(owner, name, value)
        yield
    finally:
        for owner, value in zip(owned, before, strict=True):
            setattr(owner, name, value)


def imposed(layers: Iterable[RoutedExperts], routings: Iterable[Routing]) -> AbstractContextManager[None]:
    """Within this the layers take routings of a decision, unless something else, such as an audit, controls them."""
    free = [(layer, held) for layer, held in zip(layers, routings, strict=False) if layer.control is None]
    controls = [lambda made, held=held: spread(held, made.chosen.shape[0]) for _, held in free]
    return holding([layer for layer, _ in free], "control", controls)


def replaced(
    layers: Iterable[RoutedExperts],
    experts: Sequence[Tensor] | None,  # of each layer (B,) int64, -1 where the gate decides
) -> AbstractContextManager[None]:
    """Within this the layers take experts that somebody else chose, whatever else controls them; None leaves all be.

    Raises:
        ArgumentError: there are experts for another number of layers.
    """
    if experts is None:
        return nullcontext()
    layers = list(layers)
    if len(experts) != len(layers):
        raise ArgumentError(f"experts are for {len(experts)} levels, the network has {len(layers)}")
    return holding(layers, "control", [lambda made, mine=mine: with_experts(made, mine) for mine in experts])


def spread(routing: Routing, pictures: int) -> Routing:
    """One picture's decision for each picture of a batch; one for the batch itself as it is.

    Raises:
        ShapeError: it is for another number of pictures.
    """
    rows = routing.chosen.shape[0]
    if rows == pictures:
        return routing
    if rows != 1:
        raise ShapeError(f"decision is for {rows} pictures, the batch holds {pictures}: give one, or one for each")
    fields = ("weights", "chosen", "probabilities", "logits")
    return replace(routing, **{name: getattr(routing, name).expand(pictures, -1, -1) for name in fields})


def with_experts(
    made: Routing,
    experts: Tensor,  # (B,) int64, -1 where the gate decides
) -> Routing:
    """The routing with some decisions replaced by drawn ones, whose weight is 1 and tells the gate nothing."""
    experts = experts.to(made.chosen.device)[:, None, None]
    kept = experts < 0
    chosen = torch.where(kept, made.chosen, experts)
    return replace(made, chosen=chosen, weights=torch.where(kept, made.weights, 1.0))


def drawn(
    counts: Sequence[int],  # experts of each level
    batch: int,
    explore: float,
    generator: torch.Generator | None,
) -> list[Tensor] | None:  # of each level (B,) int64
    """Experts for a share of the pictures, -1 for the others, where the gates decide; None for none of them.

    A third of that share take the dearest everywhere, a sixth the cheapest, the rest any: the sandwich rule of
    slimmable networks (Yu et al. 2019, arXiv 1903.05134), so that every expert stays fit for every picture.

    Args:
        counts: experts of each level, in order of cost.
        batch: B.
        explore: that share, from 0 to 1.
        generator: on the CPU; torch's global one where None.
    """
    if explore <= 0:
        return None
    lot = torch.rand(batch, generator=generator) / explore
    levels = []
    for count in counts:
        experts = torch.randint(count, (batch,), generator=generator)
        experts[lot < 1 / 2] = 0
        experts[lot < 1 / 3] = count - 1
        experts[lot >= 1] = -1
        levels.append(experts)
    return levels
