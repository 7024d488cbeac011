"""Ranks as files: all of them with their routers for moesaic, or those of one decision as plain LoRA for others."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from moesaic.errors import ArgumentError, ModelError
from moesaic.files import atomic_write, refuse_existing
from moesaic.routing.choice import widened
from moesaic.routing.convert import objections
from moesaic.upscale.adapters import MixOfRanks, put_ranks
from moesaic.upscale.rank_places import objection_to_ranks
from moesaic.upscale.rank_plan import Ranks
from moesaic.upscale.typical import Typical
from moesaic.values import is_a, is_whole
from moesaic.weights_file import DEFAULT_LIMITS, Card, WeightLimits, read_weights, write_weights

if TYPE_CHECKING:
    import os

_log = logging.getLogger(__name__)

ARCHITECTURE = "mix_of_ranks"
"""What the card of a file of ranks names in the place of a network."""

Layout = Literal["peft", "diffusers", "kohya"]

_PREFIXES = {"diffusers": "unet", "kohya": "lora_unet"}
_BASE = ("weight", "bias")  # of the layers that were there; a file of ranks has none of these


def save_ranks(
    mix: MixOfRanks,
    path: str | os.PathLike[str],
    *,
    estimator: str,
    typical: Typical | None = None,
    card: Card | None = None,
    force: bool = False,
) -> Card:
    """Write the ranks of a model, and not the model, into a safetensors file.

    Factors are stored as float16, routers as float32. Merged ranks are stored as they are unmerged.

    Args:
        mix: the ranks.
        path: where; the name ends in `.safetensors`.
        estimator: identity of the one whose scores the ranks learned with.
        typical: typical scores by severity, for a severity set by hand where the estimator is not at hand.
        card: what else to say of them: name, licence, data, recipe, scores, notes.
        force: replace files that are there.

    Returns:
        The card as written.

    Raises:
        ModelError: the name has another suffix, or a weight is not finite.
        OutputExistsError: a file is there and `force` is False.
        ArgumentError: the path cannot be written, or the identity is no text.
    """
    if not is_a(estimator, str) or not estimator:
        raise ArgumentError(f"estimator is the identity of the one that the ranks learned with, not {estimator!r}")
    for name, value, kind in (("typical", typical, Typical), ("card", card, Card)):
        if value is not None and not is_a(value, kind):
            raise ArgumentError(f"{name} is a {kind.__name__} or None, not {type(value).__name__}")
    options: dict[str, Any] = {
        "estimator": estimator,
        "scores": mix.scores,
        "layers": {name: asdict(layer.ranks) for name, layer in mix.layers.items()},
    }
    if typical is not None:
        options["typical"] = {"names": typical.names, "rows": typical.rows}
    weights = {_full(name, key): value for name, one in mix.layers.items() for key, value in _own(one).items()}
    # What holds more than one line of numbers would be stored as float16, in which routers may decide otherwise.
    weights = {name: value.flatten() if ".router." in f".{name}" else value for name, value in weights.items()}
    card = Card(name=Path(path).stem, architecture=ARCHITECTURE, task="upscale") if card is None else card
    learned = sum(parameter.numel() for parameter in mix.parameters())
    card = replace(card, architecture=ARCHITECTURE, task="upscale", options=options, parameters=learned)
    return write_weights(path, weights, card, force=force)


def load_ranks(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    estimator: str | None,
    limits: WeightLimits = DEFAULT_LIMITS,
) -> MixOfRanks:
    """Put the ranks of a file that `save_ranks` wrote into a model; it is changed only if all of them fit.

    Args:
        model: the network that they were learned in, without ranks in the same layers.
        path: the file.
        estimator: identity of the one whose scores will be given; None: whichever, at the caller's risk.
        limits: the largest file to accept.

    Returns:
        The ranks, with their card.

    Raises:
        ModelError: there is no such file, it is damaged or holds no ranks, they learned with another estimator, or do
            not fit the model.
        ArgumentError: the model has ranks that read another number of scores.
        LimitError: the file is larger than `limits` allows.
    """
    if not is_a(model, nn.Module):
        raise ArgumentError(f"model is a torch module, not {type(model).__name__}")
    weights, card = read_weights(path, limits=limits)
    if card.architecture != ARCHITECTURE:
        raise ModelError(f"{path}: it holds a {card.architecture}, not ranks; read it with moesaic.load")
    learned = card.options.get("estimator")
    if estimator is not None and estimator != learned:
        raise ModelError(
            f"{path}: its ranks learned with scores of the estimator {learned}, and those of {estimator} mean other "
            "things: use that estimator, or ranks that learned with this one"
        )
    plans, scores = _plans(card, path)
    layers = dict(model.named_modules(remove_duplicate=False))
    objection = objections(layers, objection_to_ranks)
    unread = set(weights)
    for name, plan in plans.items():
        reason = objection(layers[name]) if name in layers else "the model has no such layer"
        if reason:
            raise ModelError(f"{path}: its ranks do not fit this model, the layer {name!r}: {reason}")
        for key, shape in _shapes(plan, layers[name], scores).items():
            found = weights.get(_full(name, key))
            unread.discard(_full(name, key))
            if (
                found is None
                or found.numel() != shape.numel()
                or (not key.startswith("router") and found.shape != shape)
            ):
                got = "are missing" if found is None else f"are {tuple(found.shape)}"
                raise ModelError(
                    f"{path}: its ranks do not fit this model: {_full(name, key)} {got}, not {tuple(shape)}"
                )
    if unread:
        raise ModelError(f"{path}: it holds {min(unread)}, of no layer that its card names; it is damaged")
    with torch.random.fork_rng(devices=[]):  # numbers that are replaced at once must not cost the caller's any
        mix = put_ranks(model, plans, scores)
    for name, plan in plans.items():
        own = _own(mix.layers[name])
        with torch.no_grad():
            for key in _shapes(plan, mix.layers[name], scores):
                own[key].copy_(weights[_full(name, key)].reshape(own[key].shape))
    mix.card = card
    return mix


def typical_of(card: Card) -> Typical | None:
    """The typical scores by severity that a file of ranks came with, if any.

    Raises:
        ModelError: they are damaged.
    """
    held = card.options.get("typical")
    if held is None:
        return None
    try:
        return Typical(tuple(held["names"]), tuple(tuple(row) for row in held["rows"]))
    except (ArgumentError, KeyError, TypeError, ValueError) as cause:
        raise ModelError(f"{card.name}: its table of typical scores is damaged: {cause}") from None


def export_lora(
    mix: MixOfRanks,
    scores: Tensor | None,  # (1, S)
    path: str | os.PathLike[str],
    *,
    layout: Layout = "peft",
    prefix: str | None = None,
    dtype: torch.dtype = torch.float32,
    force: bool = False,
) -> None:
    """Write the ranks that are on for one picture as plain LoRA, which other programs load; the gates are within A.

    Layers share one rank, that of the layer with the most that are on, and others have rows of zeros up to there: with
    ranks of their own they would need factors of their own, which programs and their versions read differently. The
    scale, alpha over rank, is 1.

    Layouts:
        peft: a folder for `peft.PeftModel.from_pretrained(model, folder)`.
        diffusers: a file for `pipe.load_lora_weights(file)` and `model.load_lora_adapter(file, prefix=prefix)`.
        kohya: a file for ComfyUI and others, with underscores for dots in the names of diffusers' layers.

    PEFT, which diffusers uses too, leaves the dilation and padding mode of a convolution out of its own; such layers
    are right there once the LoRA is merged, and a warning is logged.

    Args:
        mix: the ranks.
        scores: how degraded the picture is; None where nothing depends on it.
        path: a folder or file; see there.
        layout: "peft", "diffusers" or "kohya".
        prefix: of the names, "unet" or "lora_unet" unless given, and not twice where names begin with "unet." already,
            as those of a `DiffusionUpscaler` do; "" for none. Not of "peft". Programs that load LoRA into a UNet pass
            over what is in its "vae."; "kohya" has no names for it and leaves it out. A warning is logged.
        dtype: of what is written, float32, float16 or bfloat16.
        force: replace files that are there.

    Raises:
        ArgumentError: another layout or dtype, a prefix with "peft", scores as `MixOfRanks.gates` refuses them, ranks
            that are not finite, no layer that the layout has names for, the path cannot be written, or the model is a
            single layer, which has no name.
        OutputExistsError: a file is there and `force` is False.
    """
    if layout not in get_args(Layout):
        raise ArgumentError(f"layout is 'peft', 'diffusers' or 'kohya', not {layout!r}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ArgumentError(f"dtype is torch.float32, torch.float16 or torch.bfloat16, not {dtype!r}")
    if prefix is not None and not is_a(prefix, str):
        raise ArgumentError(f"prefix is a text or None, not {prefix!r}")
    if layout == "peft" and prefix is not None:
        raise ArgumentError("layout='peft' has its own prefix; leave prefix out")
    if "" in mix.layers:
        raise ArgumentError(
            "the model is a single layer, which has no name in a file; put it into a torch.nn.Sequential"
        )
    folder = Path(path)
    files = [folder / "adapter_model.safetensors", folder / "adapter_config.json"] if layout == "peft" else [folder]
    if layout != "peft" and folder.suffix != ".safetensors":
        raise ArgumentError(f"{folder}: with layout={layout!r} the name ends in .safetensors")
    factors, rank = _factors(mix, scores, dtype)
    if layout != "peft" and prefix is None:
        factors = _for_a_unet(factors, layout)
    weights = _named(factors, rank, layout, prefix)
    if layout != "kohya":
        _warn_of_peft(mix)
    if layout == "peft":
        _make(folder)
    for file in files:
        refuse_existing(file, force=force)
    from safetensors.torch import save

    atomic_write(files[0], save(weights, {"format": "pt"}), force=force)
    if layout == "peft":
        config = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "r": rank,
            "lora_alpha": rank,
            # a list would also mean every layer whose name ends like one of its names
            "target_modules": "|".join(re.escape(name) for name in factors),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        }
        atomic_write(files[1], (json.dumps(config, indent=2) + "\n").encode(), force=force)


def _factors(
    mix: MixOfRanks, scores: Tensor | None, dtype: torch.dtype
) -> tuple[dict[str, tuple[Tensor, Tensor]], int]:
    """A with its rows times the gates and B of each layer, for the ranks that are on, and how many these are."""
    gates = {name: gate[0] for name, gate in mix.gates(scores).items()}
    rank = max(1, *(int(gate.count_nonzero()) for gate in gates.values()))
    made = {}
    for name, gate in gates.items():
        layer = mix.layers[name]
        on = gate.nonzero()[:, 0]
        down = layer.down.detach()[on] * gate[on].view(-1, *[1] * (layer.down.ndim - 1))
        a = torch.zeros(rank, *down.shape[1:], dtype=dtype)
        b = torch.zeros(len(layer.up), rank, dtype=dtype)
        a[: len(on)] = widened(down).cpu().to(dtype)
        b[:, : len(on)] = widened(layer.up.detach()[:, on]).cpu().to(dtype)
        if not bool(a.isfinite().all() and b.isfinite().all()):
            if all(bool(factor.float().isfinite().all()) for factor in (down, layer.up[:, on])):
                raise ArgumentError(f"the ranks of {name} are too large for {dtype}; export them as torch.float32")
            raise ArgumentError(f"the ranks of {name}, or their gates, are not finite numbers; load or train them anew")
        made[name] = (a, b if down.ndim == 2 else b[..., None, None])
    return made, rank


def _for_a_unet(factors: dict[str, tuple[Tensor, Tensor]], layout: Layout) -> dict[str, tuple[Tensor, Tensor]]:
    """What of them a file for a UNet holds; the log tells what such a file does nothing for."""
    own = {name: pair for name, pair in factors.items() if not name.startswith("vae.")}
    apart = len(factors) - len(own)
    if apart and layout == "diffusers":
        _log.warning("%d layers of the vae are exported, which programs that load into a UNet pass over", apart)
    if not apart or layout == "diffusers":
        return factors
    if not own:
        raise ArgumentError("layout='kohya' has no names for layers of a vae; pass a prefix, or take another layout")
    # With one name that it does not know, diffusers takes nothing from the whole file.
    _log.warning("%d layers of the vae are left out, for which layout='kohya' has no names", apart)
    return own


def _named(
    factors: Mapping[str, tuple[Tensor, Tensor]], rank: int, layout: Layout, prefix: str | None
) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for name, (a, b) in factors.items():
        if layout == "kohya":
            before = "lora" if _of_pipeline(name) else _PREFIXES[layout]
            base = "_".join(part for part in (before if prefix is None else prefix, name.replace(".", "_")) if part)
            if f"{base}.alpha" in made:
                raise ArgumentError(f"two layers are called {base} once dots are underscores; take another layout")
            made |= {f"{base}.lora_down.weight": a, f"{base}.lora_up.weight": b}
            made[f"{base}.alpha"] = torch.tensor(float(rank), dtype=a.dtype)
        else:
            before = "base_model.model" if layout == "peft" else "" if _of_pipeline(name) else _PREFIXES[layout]
            base = _full(before if prefix is None else prefix, name)
            made |= {f"{base}.lora_A.weight": a, f"{base}.lora_B.weight": b}
    return made


def _of_pipeline(name: str) -> bool:
    """Whether a layer's name says already which part of a diffusion model it is in."""
    return name.startswith(("unet.", "vae."))


def _warn_of_peft(mix: MixOfRanks) -> None:
    odd = [
        name
        for name, layer in mix.layers.items()
        if isinstance(layer, nn.Conv2d) and (layer.padding_mode != "zeros" or set(layer.dilation) != {1})
    ]
    if odd:
        _log.warning(
            "%d exported convolutions have a dilation or a padding mode, which PEFT leaves out of its own; merge the "
            "LoRA there (the first is %s)",
            len(odd),
            odd[0],
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as cause:
        raise ArgumentError(f"cannot make the folder {folder}: {cause.strerror or cause}") from cause


def _full(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _own(layer: nn.Module) -> dict[str, Tensor]:
    """What a layer with ranks has beside what was there."""
    return {key: value for key, value in layer.state_dict().items() if key not in _BASE}


def _shapes(plan: Ranks, layer: nn.Module, scores: int) -> dict[str, torch.Size]:
    """The shapes of what a layer gets from such a plan."""
    weight = cast("Tensor", layer.weight)
    shapes = {"down": (plan.total, *weight.shape[1:]), "up": (len(weight), plan.total)}
    if plan.routed:
        shapes["router.last"] = (plan.experts, plan.hidden or scores + 1)
        shapes["router.shares"] = (plan.experts,)
        if plan.hidden:
            shapes["router.first"] = (plan.hidden, scores + 1)
    return {key: torch.Size(shape) for key, shape in shapes.items()}


def _plans(card: Card, path: str | os.PathLike[str]) -> tuple[dict[str, Ranks], int]:
    """How many ranks each layer has, and how many scores they read."""
    layers, scores = card.options.get("layers"), card.options.get("scores")
    try:
        if not isinstance(layers, Mapping) or not layers:
            raise ArgumentError("it names no layers")
        plans = {str(name): Ranks(**plan) for name, plan in layers.items()}
    except (ArgumentError, TypeError) as cause:
        raise ModelError(f"{path}: its card does not say what ranks these are: {cause}") from None
    if scores is not None and not is_whole(scores, 1):
        raise ModelError(
            f"{path}: its card says that its ranks read {scores!r} scores, which is no whole number from 1"
        )
    return plans, 1 if scores is None else int(scores)
