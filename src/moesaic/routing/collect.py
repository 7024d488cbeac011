"""All routed layers of a model at once: what they decided, and the sum of their balance losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError
from moesaic.routing.layer import RoutedLayer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moesaic.routing.record import Routing


def routed_layers(model: nn.Module) -> dict[str, RoutedLayer]:
    """The routed layers of a model by name, in the order of its modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, RoutedLayer)}


def collect(model: nn.Module) -> dict[str, Routing]:
    """What each routed layer decided at its last forward pass, by the layer's name.

    Layers record in training mode, and in evaluation within `recording(model)`.

    Raises:
        ArgumentError: a routed layer has recorded nothing.
    """
    return {name: _recorded(name, layer) for name, layer in routed_layers(model).items()}


@contextmanager
def recording(model: nn.Module) -> Iterator[None]:
    """Within this, routed layers record in evaluation mode, too; what is recorded stays until the next pass."""
    layers = list(routed_layers(model).values())
    before = [layer.record for layer in layers]
    for layer in layers:
        layer.record = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.record = was


def balance_loss(
    model: nn.Module,
) -> Tensor:  # ()
    """The sum over the routed layers of each one's balance loss, with its weight, for the last forward pass.

    A model without routed layers has 0, so that one training loop serves dense and routed models.

    Raises:
        ArgumentError: a routed layer has recorded nothing.
    """
    losses = [layer.balance(_recorded(name, layer)) for name, layer in routed_layers(model).items()]
    if losses:
        return torch.stack(losses).sum()
    parameter = next(model.parameters(), None)
    return torch.zeros((), device=None if parameter is None else parameter.device)


def _recorded(name: str, layer: RoutedLayer) -> Routing:
    if layer.routing is None:
        raise ArgumentError(
            f"the routed layer {name!r} has recorded nothing: run the model first,"
            " in training mode or within recording(model)"
        )
    return layer.routing
