"""All models that moesaic knows, whatever their task: made by name, listed, loaded and saved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from moesaic.errors import ArgumentError
from moesaic.predict.models import registry as _prediction
from moesaic.registry import Registry
from moesaic.restore.models import registry as _restoration
from moesaic.segment.models import registry as _segmentation
from moesaic.upscale.models import registry as _upscaling
from moesaic.weights_file import DEFAULT_LIMITS, Card, WeightLimits, card_of, write_weights

if TYPE_CHECKING:
    import os

    import torch
    from torch import nn

__all__ = ["Card", "Registry", "create_model", "list_models", "load_model", "model_card", "registry", "save_model"]

registry = Registry.joined([_prediction, _segmentation, _restoration, _upscaling])
"""Every architecture and every shipped set of weights; pass another to work with your own."""


def create_model(name: str, pretrained: bool = False, *, registry: Registry = registry, **options: Any) -> nn.Module:
    """A network by name: `create_model("enet", classes=11, experts=8)`.

    Args:
        name: an architecture, or trained weights, whose architecture and options are then taken from their card.
        pretrained: load the weights of that name; the network is then in evaluation mode.
        registry: what to look the name up in.
        options: keyword arguments of the architecture; with the name of weights, instead of those in the card.

    Raises:
        ModelError: the name is unknown, or no weights belong to it; the text suggests names that are close.
        ArgumentError: an option is wrong, or options are given together with `pretrained`.
    """
    return registry.create(name, pretrained, **options)


def list_models(pattern: str = "*", *, registry: Registry = registry) -> list[str]:
    """The names of architectures and trained weights that match a shell pattern such as `*camvid*`, in order."""
    return registry.names(pattern)


def model_card(name: str, *, registry: Registry = registry) -> Card | None:
    """The card of trained weights: licence, data, recipe, hash, scores; None for an architecture.

    Raises:
        ModelError: the name is unknown, or its weights are missing or damaged.
    """
    return registry.card(name)


def load_model(
    model: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    registry: Registry = registry,
    limits: WeightLimits = DEFAULT_LIMITS,
) -> nn.Module:
    """A trained network, in evaluation mode, that carries its card (`moesaic.weights_file.card_of`).

    Args:
        model: the name of trained weights, a file that `save_model` or a training run wrote, or the folder of the run.
        device: where to put it; the CPU unless given.
        registry: what to look names and architectures up in.
        limits: the largest file to accept.

    Raises:
        ModelError: the name is unknown, the file is missing or damaged, or its weights do not fit what its card says
            to build.
        LimitError: the file is larger than `limits` allows.
        ArgumentError: the device is unknown.
        BackendError: the device is not here.
    """
    return registry.load(model, device=device, limits=limits)


def save_model(
    path: str | os.PathLike[str], model: nn.Module, card: Card | None = None, *, force: bool = False
) -> Card:
    """Write a network into one safetensors file, with its card inside and once more beside it as JSON.

    Args:
        path: where; the name ends in `.safetensors`.
        model: the network.
        card: what to say of it; the one that it carries unless given. Parameters, version and hash are filled in.
        force: replace files that are there.

    Returns:
        The card as written.

    Raises:
        ArgumentError: no card, or the path cannot be written.
        ModelError: a weight is not finite, or the name has another suffix.
        OutputExistsError: a file is there and `force` is False.
    """
    card = card or card_of(model)
    if card is None:
        raise ArgumentError(
            "card: this model carries none; pass Card(name=..., architecture=..., task=..., options=...)"
        )
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return write_weights(path, model.state_dict(), replace(card, parameters=learned), force=force)
