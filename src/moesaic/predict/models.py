"""The predictors by name: architectures, and the weights that ship."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.registry import Registry, make_named

if TYPE_CHECKING:
    from moesaic.predict.network import MixturePredictor

DEFAULT_MODEL = "stages_predict"
"""The weights that `moesaic.predict` uses when no model is named."""

_WEIGHTS = Path(__file__).parents[1] / "weights"


def _stages(**options: Any) -> MixturePredictor:
    from moesaic.predict.network import MixturePredictor

    return MixturePredictor(**options)


NETWORKS: dict[str, Callable[..., MixturePredictor]] = {"mixture_predictor": _stages}
"""What makes each architecture of a predictor; a network's own file is imported when it is asked for."""


def make_network(name: str, **options: Any) -> MixturePredictor:
    """A network with fresh weights, which follow from torch's seed.

    Args:
        name: "mixture_predictor" (`moesaic.predict.network.MixturePredictor`).
        options: of that network, such as `hidden`.

    Raises:
        ArgumentError: an unknown network or option, or an option outside its values.
    """
    return make_named(NETWORKS, name, options)


registry = Registry()
for _name in NETWORKS:
    registry.add(_name, functools.partial(make_network, _name))
registry.add_weights(
    DEFAULT_MODEL,
    _WEIGHTS / f"{DEFAULT_MODEL}.safetensors",
    missing="train it with `moesaic train predict`, and name RUN/model.safetensors as the model",
)
