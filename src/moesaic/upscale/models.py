"""The upscaling models by name: architectures, and the weights that ship."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.registry import Registry, make_named

if TYPE_CHECKING:
    from moesaic.upscale.network import CompactUpscaler
    from moesaic.upscale.severity_net import SeverityNet

DEFAULT_MODEL = "compact_upscale"
"""The weights that `upscale` uses when no model is named."""

DEFAULT_ESTIMATOR = "severity_net_estimate"
"""The weights of the estimator that is used when none is named."""

_WEIGHTS = Path(__file__).parents[1] / "weights"


def _compact(**options: Any) -> CompactUpscaler:
    from moesaic.upscale.network import CompactUpscaler

    return CompactUpscaler(**options)


NETWORKS: dict[str, Callable[..., CompactUpscaler]] = {"compact_upscaler": _compact}
"""What makes each architecture of an upscaler; a network's own file is imported when it is asked for."""


def make_network(name: str, **options: Any) -> CompactUpscaler:
    """A network with fresh weights, which follow from torch's seed.

    Args:
        name: "compact_upscaler" (`moesaic.upscale.network.CompactUpscaler`).
        options: of that network, such as `width`.

    Raises:
        ArgumentError: an unknown network or option, or an option outside its values.
    """
    return make_named(NETWORKS, name, options)


def _severity_net(**options: Any) -> SeverityNet:
    from moesaic.upscale.severity_net import SeverityNet

    return SeverityNet(**options)


ESTIMATORS: dict[str, Callable[..., SeverityNet]] = {"severity_net": _severity_net}
"""What makes each architecture of an estimator."""


def make_estimator_network(name: str, **options: Any) -> SeverityNet:
    """A network that estimates, with fresh weights, which follow from torch's seed.

    Args:
        name: "severity_net" (`moesaic.upscale.severity_net.SeverityNet`).
        options: of that network, such as `hidden`.

    Raises:
        ArgumentError: an unknown network or option, or an option outside its values.
    """
    return make_named(ESTIMATORS, name, options)


registry = Registry()
for _name in NETWORKS:
    registry.add(_name, functools.partial(make_network, _name))
registry.add_weights(
    DEFAULT_MODEL,
    _WEIGHTS / f"{DEFAULT_MODEL}.safetensors",
    missing="train it with `moesaic train upscale --data FOLDER --minutes 60 -o RUN`, "
    "and name RUN/model.safetensors as the model",
)
for _name in ESTIMATORS:
    registry.add(_name, functools.partial(make_estimator_network, _name))
registry.add_weights(
    DEFAULT_ESTIMATOR,
    _WEIGHTS / f"{DEFAULT_ESTIMATOR}.safetensors",
    missing="train it with `moesaic train estimator --data FOLDER --minutes 15 -o RUN`, "
    "and name RUN/model.safetensors as the estimator",
)
