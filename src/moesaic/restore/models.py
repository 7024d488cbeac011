"""The restoration models by name: three architectures, and the weights that ship."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesaic.registry import Registry, make_named

if TYPE_CHECKING:
    from torch import nn

DEFAULT_MODEL = "moce_lite_restore"
"""The weights that `restore` uses when no model is named."""

_WEIGHTS = Path(__file__).parents[1] / "weights"


def _moce_lite(**options: Any) -> nn.Module:
    from moesaic.restore.network import MoceLite

    return MoceLite(**options)


def _moce_ir(width: int = 48, **options: Any) -> nn.Module:
    from moesaic.restore.published import MoceIR

    return MoceIR(width, **options)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "moce_lite": _moce_lite,
    "moce_ir": _moce_ir,
    "moce_ir_s": functools.partial(_moce_ir, width=32),
}
"""What makes each architecture; a network's own file is imported when it is asked for."""


def make_network(name: str, **options: Any) -> nn.Module:
    """A network with fresh weights, which follow from torch's seed.

    Args:
        name: "moce_lite" (`moesaic.restore.network.MoceLite`), or "moce_ir" and "moce_ir_s", which are
            `moesaic.restore.published.MoceIR` of width 48 and of width 32.
        options: of that network, such as `width`.

    Raises:
        ArgumentError: an unknown network or option, or an option outside its values.
        LimitError: there is not enough memory for such a network.
    """
    return make_named(NETWORKS, name, options)


registry = Registry()
for _name in NETWORKS:
    registry.add(_name, functools.partial(make_network, _name))
registry.add_weights(
    DEFAULT_MODEL,
    _WEIGHTS / f"{DEFAULT_MODEL}.safetensors",
    missing="train it with `moesaic train restore --data FOLDER --minutes 300 -o RUN`, "
    "and name RUN/model.safetensors as the model",
)
