"""predict(): the mixture of a picture by a network, in one pass of a few stages."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.errors import ArgumentError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.mixture.colours import solve_colours
from moesaic.mixture.fit import PIXELS_PER_EXPERT
from moesaic.mixture.model import Mixture
from moesaic.predict.models import DEFAULT_MODEL
from moesaic.predict.models import registry as _registry
from moesaic.predict.network import MixturePredictor
from moesaic.predict.stages import SHARES, checked_shares, stages
from moesaic.training.device import channels_last, pick_device
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from moesaic.image import PictureSource
    from moesaic.predict.stages import Kernels
    from moesaic.registry import Registry

COLOURS = 4
"""Steps of conjugate gradients on the colours after each stage."""


def predict(
    picture: PictureSource,
    *,
    experts: int | None = None,
    model: MixturePredictor | str | os.PathLike[str] | None = None,
    colours: int = COLOURS,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    device: str = "auto",
    pixel_limit: int = PIXEL_LIMIT,
    registry: Registry = _registry,
) -> Mixture:
    """The mixture of a picture, by a network: no optimisation.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        experts: number of kernels; one for every 40 pixels unless given.
        model: the name of trained weights, a file that a training run wrote or its folder, or a network, which stays
            on its device. The shipped model unless given.
        colours: steps of conjugate gradients on the colours after each stage; 0: colours as the network says.
        shares: of all kernels, how many there are after each stage.
        seed: of the places of kernels.
        device: for a named model: "auto" (CUDA where it works), "cpu", "cuda", ...
        pixel_limit: largest W * H to accept.
        registry: what to look names and architectures up in.

    Returns:
        The mixture on the picture's canvas, on the CPU; with alpha its colours are premultiplied.

    Raises:
        PictureError: the picture cannot be read.
        ArgumentError: an option is out of range, or the model is no predictor.
        ModelError: the model is unknown, missing or damaged.
        BackendError: the device cannot be used here.
        LimitError: the picture has more than `pixel_limit` pixels.
    """
    read = read_picture(picture, pixel_limit=pixel_limit)
    pixels = torch.from_numpy(np.ascontiguousarray(read.premultiplied().transpose(2, 0, 1), dtype=np.float32))
    count = len_of(experts, read.width * read.height)
    for name, value in (("colours", colours), ("seed", seed)):
        if not is_whole(value, 0):
            raise ArgumentError(f"{name} is a whole number from 0, not {value!r}")
    network = model if isinstance(model, MixturePredictor) else load_network(model, device=device, registry=registry)
    shares = checked_shares(shares)
    if len(shares) > network.stages:
        raise ArgumentError(f"shares {shares!r} are more stages than the {network.stages} of this network")
    place = next(network.parameters()).device
    colour = pixels[:3] if read.channels >= 3 else pixels[:1].expand(3, -1, -1)
    with torch.no_grad():
        random = np.random.default_rng(seed)
        made = stages(network, colour.contiguous().to(place), count, random, shares=shares, colours=colours)
        kernels = [found for found, _ in made][-1]
    return mixture_of(kernels, pixels, colours)


def len_of(experts: int | None, pixels: int) -> int:
    """How many kernels are asked for.

    Raises:
        ArgumentError: it is no whole number, or more than a fit would take.
    """
    if experts is None:
        return max(1, round(pixels / PIXELS_PER_EXPERT))
    most = max(64, 4 * pixels)
    if not is_whole(experts, 1) or experts > most:
        raise ArgumentError(f"experts ({experts!r}) must be a whole number from 1 to {most} for {pixels} pixels")
    return int(experts)


def load_network(
    model: str | os.PathLike[str] | None = None, *, device: str = "auto", registry: Registry = _registry
) -> MixturePredictor:
    """A trained network; `predict` takes it for as many pictures as there are.

    Args:
        model: as `predict` takes it, but for a network.
        device: as there.
        registry: what to look names and architectures up in.

    Raises:
        ModelError: the model is unknown, missing or damaged.
        ArgumentError: the model is no predictor, or the device is unknown.
        BackendError: the device cannot be used here.
    """
    model = DEFAULT_MODEL if model is None else model
    if not is_a(model, str, os.PathLike):
        raise ArgumentError(f"a model is a name, a path or a predictor, not {type(model).__name__}")
    network = registry.load(model, device=str(pick_device(device)))
    if not isinstance(network, MixturePredictor):
        raise ArgumentError(f"{os.fspath(model)} is a {type(network).__name__}, no predictor; see `moesaic models`")
    channels_last(network)
    return network


def mixture_of(
    kernels: Kernels,
    pixels: Tensor,  # (C, H, W), premultiplied
    colours: int,
) -> Mixture:
    """The kernels as a mixture of the picture's own channels.

    Args:
        kernels: of three colours.
        pixels: what it is a mixture of.
        colours: steps of conjugate gradients, where there are other channels than three.
    """
    centres, factors, log_priors = (value.detach().cpu() for value in kernels.geometry)
    found = kernels.colours.detach().cpu()
    height, width = pixels.shape[1:]
    made = Mixture(centres=centres, factors=factors, log_priors=log_priors, colours=found, width=width, height=height)
    channels = len(pixels)
    if channels == 3:
        return made
    if channels == 1:
        return replace(made, colours=found.mean(1, keepdim=True))
    veil = torch.ones(len(found), 1)
    base = found.mean(1, keepdim=True) if channels == 2 else found
    return solve_colours(replace(made, colours=torch.cat([base, veil], dim=1)), pixels, steps=max(colours, 4))
