"""The segmentation models by name: six architectures, and the weights that ship."""

from __future__ import annotations

import functools
from pathlib import Path

from moesaic.registry import Registry
from moesaic.segment.networks import NETWORKS, make_network

DEFAULT_MODEL = "enet_moe_camvid_nc"
"""The weights that `segment` uses when no model is named."""

_WEIGHTS = Path(__file__).parents[1] / "weights"

registry = Registry()
for _name in NETWORKS:
    registry.add(_name, functools.partial(make_network, _name))
registry.add_weights(
    DEFAULT_MODEL,
    _WEIGHTS / f"{DEFAULT_MODEL}.safetensors",
    missing="train it with `moesaic train segment --data CAMVID --network enet --experts 8 -o RUN`, "
    "and name RUN/model.safetensors as the model",
)
