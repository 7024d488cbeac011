"""Estimators by name: the one that ships, the one without weights, and CLIP for those who have it."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

from moesaic.errors import ArgumentError, ModelError
from moesaic.training.device import pick_device
from moesaic.upscale.models import DEFAULT_ESTIMATOR
from moesaic.upscale.models import registry as _registry

if TYPE_CHECKING:
    from moesaic.registry import Registry
    from moesaic.upscale.scores import Estimator

NAMES = ("severity_net", "analytic", "clip:FOLDER", "constant")
"""What `make_estimator` knows beside weights by their name or file."""


def make_estimator(
    name: str | os.PathLike[str] | Estimator | None = None,
    *,
    device: str = "cpu",
    registry: Registry = _registry,
) -> Estimator:
    """An estimator by name.

    Args:
        name: "severity_net" is the network that ships, and what is taken unless given; "analytic" needs no weights;
            "clip:FOLDER" is CLIP from a folder of the user's, or from the local cache by its name on the hub;
            "constant" says 0.5 of everything. Else the name or the file of weights that `moesaic train estimator`
            wrote, or an estimator, which is handed back.
        device: where a network computes: "cpu", "cuda", ...; "auto" is CUDA where it works.
        registry: what to look weights up in.

    Raises:
        ArgumentError: the name is unknown; the text suggests close ones.
        ModelError: weights are missing, damaged, or of something else than an estimator.
        MissingExtraError: transformers is not installed, for CLIP.
        BackendError: the device cannot be used here.
    """
    pick_device(device)  # also where nothing is put there
    if name is None or name == "severity_net":
        return _net(DEFAULT_ESTIMATOR, device, registry)
    if name == "analytic":
        from moesaic.upscale.analytic import Analytic

        return Analytic()
    if name == "constant":
        from moesaic.upscale.fixed_scores import Constant

        return Constant()
    if not isinstance(name, str | os.PathLike):
        if all(hasattr(name, part) for part in ("names", "identity", "at")):
            return name
        raise ArgumentError(f"an estimator is a name, a file of weights or an estimator, not {type(name).__name__}")
    if isinstance(name, str) and name.partition(":")[0] == "clip":
        from moesaic.upscale.clip_pairs import ClipPairs

        place = name.partition(":")[2]
        if not place:
            raise ArgumentError(
                "clip needs to know which: write clip:FOLDER, or clip:NAME of a model in the local cache"
            )
        return ClipPairs(place, device=device)
    known = registry.names()
    text = os.fspath(name)
    if isinstance(name, str) and not (name in known or os.path.lexists(name) or name.endswith(".safetensors")):
        close = difflib.get_close_matches(text, [*NAMES, *known], n=1)
        hint = f"did you mean {close[0]!r}? Known are" if close else "known are"
        raise ArgumentError(f"estimator {text!r} is unknown; {hint} {', '.join(NAMES)}, and files of weights")
    return _net(name, device, registry)


def _net(model: str | os.PathLike[str], device: str, registry: Registry) -> Estimator:
    from moesaic.upscale.severity_net import NetEstimator, SeverityNet

    network: Any = registry.load(model, device=device)
    if not isinstance(network, SeverityNet):
        raise ModelError(f"{os.fspath(model)} holds a {type(network).__name__}, which estimates nothing; name others")
    return NetEstimator(network)
