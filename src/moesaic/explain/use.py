"""explain(): a picture of what was decided, for each of the five systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from moesaic.errors import ArgumentError
from moesaic.explain.explained import Explained
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.picture import Picture, to_integers

if TYPE_CHECKING:
    from torch import nn

    from moesaic.image import PictureSource

KINDS = ("mixture", "prediction", "restoration", "upscaling", "segmentation", "routing")
"""What can be explained."""

_Explainer = Callable[[Picture, str], Explained]  # of a picture and its name


def explain(
    source: PictureSource,
    kind: str | None = None,
    *,
    against: PictureSource | None = None,
    model: str | os.PathLike[str] | nn.Module | None = None,
    device: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
) -> Explained:
    """A picture of what was decided for an input: which expert acts where, and what that costs.

    Args:
        source: a `.moe` file's path, whose kernels are shown; or a picture, as `moesaic.read_picture` takes it.
        kind: what to explain of a picture: "mixture" (of the file that `moesaic.encode` makes with `fast`),
            "prediction", "restoration", "upscaling", "segmentation", or "routing": the routed layers of a network of
            yours (of one that is not called with a picture, by `moesaic.explain.network.explain_network`).
        against: the picture that a `.moe` file was made of, to show its errors.
        model: name or file of the network, where it is not the shipped one; for "routing", which has none, the network
            itself or its name or file.
        device: of a network that is loaded: "auto" (CUDA where it works), "cpu", "cuda", ...
        pixel_limit: largest W * H to accept.

    Raises:
        ArgumentError: `kind` is missing or unknown, or options do not go together.
        FormatError: the `.moe` file is damaged.
        PictureError: the picture cannot be read.
        ShapeError: `against` has another size than the mixture's canvas.
        LimitError: there are more than `pixel_limit` pixels.
        ModelError: the model is unknown, missing or damaged.
        BackendError: the device cannot be used here.
    """
    if isinstance(source, str | os.PathLike) and is_moe(Path(source)):
        check_kind(source, kind, moe=True)
        original = None if against is None else read_picture(against, pixel_limit=pixel_limit)
        return explain_file(Path(source), against=original, pixel_limit=pixel_limit)
    check_kind(source, kind, moe=False)
    if against is not None:
        raise ArgumentError("a picture is its own source; against (--source) goes with a .moe file")
    act = explainer(kind, model=model, device=device)
    return act(read_picture(source, pixel_limit=pixel_limit), _name(source))


def is_moe(path: Path) -> bool:
    """Whether a path is that of a `.moe` file, by its name."""
    return path.suffix.lower() == ".moe"


def check_kind(source: Any, kind: str | None, *, moe: bool) -> None:
    """Refuse a kind that does not go with an input.

    Raises:
        ArgumentError: see there; the text lists the kinds.
    """
    listed = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
    if kind is not None and kind not in KINDS:
        raise ArgumentError(f"there is no {kind!r} to explain; --as is {listed}")
    if moe and kind not in (None, "mixture"):
        raise ArgumentError(f"{_name(source)} holds a mixture; --as {kind} takes a picture")
    if not moe and kind is None:
        raise ArgumentError(f"{_name(source)}: say what to explain of a picture, with --as {listed}")


def explain_file(path: Path, *, against: Picture | None = None, pixel_limit: int = PIXEL_LIMIT) -> Explained:
    """The mixture of a `.moe` file; see `explain`."""
    from moesaic.codec.file import open_file
    from moesaic.codec.limits import Limits

    limits = Limits(canvas_pixels=pixel_limit, output_pixels=pixel_limit)
    with open_file(path) as stream:
        data = stream.read(limits.file_bytes + 1)
    limits.check("file_bytes", len(data), "the file has bytes:")
    return _of_bytes(data, path.name, against, limits)


def _of_bytes(data: bytes, name: str, against: Picture | None, limits: Any) -> Explained:
    from moesaic.codec.file import decode_bytes
    from moesaic.codec.spent import spent
    from moesaic.explain.mixture import explain_mixture

    held = decode_bytes(data, limits=limits)
    return explain_mixture(held, spent(data, limits=limits), name=name, source=against)


def explainer(
    kind: str | None, *, model: str | os.PathLike[str] | nn.Module | None = None, device: str = "auto"
) -> _Explainer:
    """What explains pictures of a kind; a network is loaded once, for as many pictures as there are.

    Raises:
        ModelError: the model is unknown, missing or damaged.
        ArgumentError: the kind is unknown, or needs another model.
        BackendError: the device cannot be used here.
    """
    makers: dict[str, Callable[[Any, str], _Explainer]] = {
        "mixture": _mixtures,
        "prediction": _predictions,
        "restoration": _restorations,
        "upscaling": _upscalings,
        "segmentation": _segmentations,
        "routing": _routings,
    }
    if kind not in makers:
        raise ArgumentError(f"there is no {kind!r} to explain; known are {', '.join(KINDS)}")
    if kind != "routing" and model is not None and not isinstance(model, str | os.PathLike):
        raise ArgumentError(
            f"model is a name or a file for {kind!r}, not {type(model).__name__}; 'routing' takes networks"
        )
    return makers[kind](model, device)


def _mixtures(model: Any, device: str) -> _Explainer:  # noqa: ARG001 - mixtures are predicted on the CPU
    from moesaic.codec.encoder import encode
    from moesaic.codec.limits import Limits
    from moesaic.predict.use import load_network

    network = load_network(model)

    def act(picture: Picture, name: str) -> Explained:
        data = encode(picture, fast=True, model=network).data
        # what was read a moment ago is within the caller's limits
        return _of_bytes(data, name, picture, Limits(canvas_pixels=picture.width * picture.height))

    return act


def _predictions(model: Any, device: str) -> _Explainer:  # noqa: ARG001 - see above
    from moesaic.explain.prediction import explain_prediction
    from moesaic.predict.use import load_network

    network = load_network(model)
    return lambda picture, name: explain_prediction(picture, network, name=name)


def _restorations(model: Any, device: str) -> _Explainer:
    from moesaic.restore.explanation import found_in_words
    from moesaic.restore.models import DEFAULT_MODEL
    from moesaic.restore.use import load_network, restore

    network = load_network(DEFAULT_MODEL if model is None else model, device=device)

    def act(picture: Picture, name: str) -> Explained:
        found = restore(picture, network)
        figures = {
            "detected": _rounded(found.detected),
            "severity": _rounded(found.severity),
            "experts": found.experts,
            "cost": round(found.cost, 4),
        }
        told = (
            f"{picture.width} x {picture.height} px; found: {found_in_words(found.detected)}. The experts that act take"
            f" {found.cost:.0%} of what the dearest would."
        )
        sheet = _headed(found.routing_picture(), name, told)
        return Explained(kind="restoration", title=name, picture=sheet, figures=figures)

    return act


def _upscalings(model: Any, device: str) -> _Explainer:
    from moesaic.upscale.models import DEFAULT_MODEL
    from moesaic.upscale.use import load_network, upscale

    network = load_network(DEFAULT_MODEL if model is None else model, device=device)

    def act(picture: Picture, name: str) -> Explained:
        made = upscale(picture, model=network)
        figures = {
            "scores": _rounded(made.scores),
            "severity": None if made.severity is None else round(made.severity, 4),
            "ranks": {layer: used.active for layer, used in made.ranks.items()},
            "zero_slots": {layer: used.idle for layer, used in made.ranks.items()},
        }
        active, idle = (sum(getattr(used, of) for used in made.ranks.values()) for of in ("active", "idle"))
        degraded = "" if made.severity is None else f", taken to be degraded by {made.severity:.2f} of 1"
        told = (
            f"{picture.width} x {picture.height} px{degraded}. {active} ranks act in {len(made.ranks)} layers, and"
            f" {idle} empty slots were chosen."
        )
        return Explained(
            kind="upscaling", title=name, picture=_headed(made.routing_picture(), name, told), figures=figures
        )

    return act


def _segmentations(model: Any, device: str) -> _Explainer:
    from moesaic.explain.segmentation import explain_segmentation
    from moesaic.segment.models import DEFAULT_MODEL, registry
    from moesaic.segment.use import segment
    from moesaic.training.device import pick_device
    from moesaic.weights_file import card_of

    network = registry.load(DEFAULT_MODEL if model is None else model, device=str(pick_device(device)))
    card = card_of(network)
    named = "" if card is None else card.name
    return lambda picture, name: explain_segmentation(segment(picture, network), name=name, model=named)


def _routings(model: Any, device: str) -> _Explainer:
    from torch import nn

    from moesaic.explain.network import explain_network
    from moesaic.training.device import pick_device
    from moesaic.zoo import load_model

    if model is None:
        raise ArgumentError("routing is explained of a network of yours: name it with model (--model NAME or FILE)")
    network = model if isinstance(model, nn.Module) else load_model(model, device=pick_device(device))
    return lambda picture, name: explain_network(network, picture, name=name)


def _headed(sheet: Picture, name: str, told: str) -> Picture:
    """A sheet of another floor with the head that all have here."""
    from moesaic.explain.panels import headed

    image = headed(Image.fromarray(to_integers(sheet.with_depth(8))), name, [told])
    return replace(sheet, pixels=np.asarray(image, np.float32) / np.float32(255), depth=8)


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _name(source: Any) -> str:
    return Path(source).name if isinstance(source, str | os.PathLike) else "picture"
