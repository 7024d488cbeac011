"""Which layers of a model get ranks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

from torch import nn

from moesaic.errors import ArgumentError
from moesaic.routing.convert import names_of, objection_to, objections, refuse
from moesaic.upscale.ranks import RankedLayer

if TYPE_CHECKING:
    from torch import Tensor

Where = str | re.Pattern[str] | Callable[[str, nn.Module], bool]


def places(
    layers: Mapping[str, nn.Module],
    where: Where | Iterable[Where],
) -> list[str]:
    """The names of the layers that `where` means; see `moesaic.upscale.adapters.mix_of_ranks`.

    Args:
        layers: all modules of a model by name.
        where: what says which.

    Raises:
        ArgumentError: it means none, is no regular expression, or names a layer that can have no ranks.
    """
    single = isinstance(where, str | re.Pattern) or callable(where)
    items = [where] if single else list(cast("Iterable[Where]", where)) if hasattr(where, "__iter__") else []
    if not items:
        raise ArgumentError(
            f"where is a layer's name, a pattern, a regular expression, a function, or several of these, not {where!r}"
        )
    objection = objections(layers, objection_to_ranks)
    names: list[str] = []
    for item in items:
        names += _found(layers, cast("Where", item), objection)
    for name in names:
        refuse(name, layers[name], objection)
    return list(dict.fromkeys(names))


def objection_to_ranks(layer: nn.Module) -> str | None:
    """Why a layer can have no ranks, or None."""
    if isinstance(layer, RankedLayer):
        return "it has ranks already"
    if reason := objection_to(layer):
        return reason
    if isinstance(layer, nn.Conv2d):
        if type(layer)._conv_forward is not nn.Conv2d._conv_forward:
            return f"{type(layer).__name__} computes its output in its own way"
        if layer.groups > 1:
            return f"it is a grouped convolution (groups={layer.groups}), and ranks read all channels"
    if not cast("Tensor", layer.weight).is_floating_point():
        return "its weight holds no floating-point numbers"
    return None


def _found(layers: Mapping[str, nn.Module], item: Where, objection: Callable[[nn.Module], str | None]) -> list[str]:
    """What a name, pattern, regular expression or function means."""
    if isinstance(item, str) and item.startswith("^"):
        try:
            item = re.compile(item)
        except re.error as cause:
            raise ArgumentError(f"where={item!r} is no regular expression: {cause}") from None
    if isinstance(item, str):
        return names_of(layers, item, objection)
    if isinstance(item, re.Pattern):
        told = f"where={item.pattern!r} names"
        chosen = [name for name in layers if item.search(name)]
    elif callable(item):
        told = "where chose"
        chosen = [name for name, layer in layers.items() if item(name, layer)]
    else:
        raise ArgumentError(f"where holds {item!r}: name layers, or give patterns, regular expressions or functions")
    able = [name for name in chosen if objection(layers[name]) is None]
    if not able:
        raise ArgumentError(f"{told} no convolution or linear layer of this model that can have ranks")
    return able
