"""predict(): the mixture of a picture by a network, in one pass of a few stages."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.errors import ArgumentError, ModelError
from moesaic.image import PIXEL_LIMIT, read_picture
from moesaic.mixture.backends.threads import MOST_THREADS, default_threads
from moesaic.mixture.colours import solve_colours
from moesaic.mixture.fit import PIXELS_PER_EXPERT, fit_pixels
from moesaic.mixture.fitting import BRIEF
from moesaic.mixture.model import Mixture
from moesaic.predict.kernels import begun
from moesaic.predict.models import DEFAULT_MODEL
from moesaic.predict.models import registry as _registry
from moesaic.predict.network import MOST_STAGES, MixturePredictor
from moesaic.predict.stages import advanced, coloured, compared
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.image import PictureSource
    from moesaic.mixture.fitting import Callback
    from moesaic.predict.kernels import Kernels
    from moesaic.registry import Registry

STAGES, FEWEST = 8, 2
"""Stages of a prediction unless another number is asked for; and of one that a fit goes on from, which is faster."""

_WORTH = 3  # steps of a fit that take the place of a stage

SURPLUS = {32: 1.2, BRIEF: 1.5}
"""Kernels that are predicted for each one asked for, from so many steps of a fit on; the least useful go."""

COLOURS = 4
"""Steps of conjugate gradients on the colours in the end."""


def predict(
    picture: PictureSource,
    *,
    experts: int | None = None,
    model: MixturePredictor | str | os.PathLike[str] | None = None,
    stages: int | None = None,
    colours: int = COLOURS,
    refine: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    pixel_limit: int = PIXEL_LIMIT,
    registry: Registry = _registry,
) -> Mixture:
    """The mixture of a picture, by a network in a few stages.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        experts: number of kernels; one for every 40 pixels unless given.
        model: the name of trained weights, a file that a training run wrote or its folder, or a network on the CPU. The
            shipped model unless given.
        stages: how often the kernels move. 8 unless given; one less for every three steps of `refine`, and at least 2,
            as those steps get further in the same time.
        colours: steps of conjugate gradients on the colours after the stages; 0: as the network says.
        refine: steps of a fit that goes on from the prediction (`moesaic.fit` with `begin`); 0: the network alone.
        seed: of the places where kernels begin.
        threads: of the loops over pixels; as many as the process may use when None. Does not change the result; torch's
            own number of threads, for the network, can change its last bits.
        progress: called after each step of the fit; returning True ends it early with what there is, which is worth
            less than no refinement while kernels predicted beyond those asked for are still there.
        pixel_limit: largest W * H to accept.
        registry: what to look names and architectures up in.

    Returns:
        The mixture on the picture's canvas, on the CPU; with alpha its colours are premultiplied.

    Raises:
        PictureError: the picture cannot be read.
        ArgumentError: an option is out of range, or the model is no predictor.
        ModelError: the model is unknown, missing or damaged, or gives no finite mixture.
        LimitError: the picture has more than `pixel_limit` pixels.
    """
    read = read_picture(picture, pixel_limit=pixel_limit)
    pixels = np.ascontiguousarray(read.premultiplied().transpose(2, 0, 1), dtype=np.float32)
    return predict_pixels(
        pixels,
        experts=experts,
        model=model,
        stages=stages,
        colours=colours,
        refine=refine,
        seed=seed,
        threads=threads,
        progress=progress,
        registry=registry,
    )


def predict_pixels(
    pixels: NDArray[np.float32],  # (C, H, W), premultiplied
    *,
    experts: int | None = None,
    model: MixturePredictor | str | os.PathLike[str] | None = None,
    stages: int | None = None,
    colours: int = COLOURS,
    refine: int = 0,
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    registry: Registry = _registry,
) -> Mixture:
    """`predict` for pixels that have been read already; see there."""
    count = count_of(experts, pixels.shape[1] * pixels.shape[2])
    for name, value in (("colours", colours), ("refine", refine), ("seed", seed)):
        if not is_whole(value, 0):
            raise ArgumentError(f"{name} is a whole number from 0, not {value!r}")
    if stages is None:
        stages = max(FEWEST, STAGES - refine // _WORTH)
    if not is_whole(stages, 1, MOST_STAGES):
        raise ArgumentError(f"stages is a whole number from 1 to {MOST_STAGES}, not {stages!r}")
    if threads is not None and not is_whole(threads, 1, MOST_THREADS):
        raise ArgumentError(f"threads is a whole number from 1 to {MOST_THREADS}, not {threads!r}")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is a function, not {type(progress).__name__}")
    network = load_network(model, registry=registry)
    colour = pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0)
    colour, busy = np.ascontiguousarray(colour), threads or default_threads()
    with torch.no_grad():
        several = min(round(surplus_of(refine) * count), most_of(colour.shape[1] * colour.shape[2]))
        kernels = begun(colour, several, np.random.default_rng(seed))
        for stage in range(stages):
            kernels = advanced(network, kernels, colour, compared(kernels, colour, busy), stage, busy)
    if colours and len(pixels) == 3 and not refine:  # a fit sees to them itself
        kernels = coloured(kernels, colour, colours, busy)
    numbers = (kernels.centres, kernels.factors, kernels.log_priors, kernels.colours)
    if not all(bool(value.isfinite().all()) for value in numbers):
        raise ModelError("the weights of this model give no finite mixture; train it anew, or take another")
    found = mixture_of(kernels, pixels, colours)
    if not refine:
        return found
    return fit_pixels(pixels, experts=count, steps=refine, seed=seed, threads=busy, progress=progress, begin=found)


def surplus_of(refine: int) -> float:
    """How many kernels are predicted for each one asked for, before so many steps of a fit."""
    return max((more for least, more in SURPLUS.items() if refine >= least), default=1.0)


def count_of(experts: int | None, pixels: int) -> int:
    """How many kernels are asked for.

    Raises:
        ArgumentError: it is no whole number, or more than a fit would take.
    """
    if experts is None:
        return max(1, round(pixels / PIXELS_PER_EXPERT))
    most = most_of(pixels)
    if not is_a(experts, int, np.integer) or is_a(experts, bool) or not 1 <= experts <= most:
        raise ArgumentError(f"experts ({experts!r}) must be a whole number from 1 to {most} for {pixels} pixels")
    return int(experts)


def most_of(pixels: int) -> int:
    """The most kernels of a picture of so many pixels; as in a fit."""
    return max(64, 4 * pixels)


def load_network(
    model: MixturePredictor | str | os.PathLike[str] | None = None, *, registry: Registry = _registry
) -> MixturePredictor:
    """A trained network; `predict` takes it for as many pictures as there are.

    Args:
        model: as `predict` takes it.
        registry: what to look names and architectures up in.

    Raises:
        ModelError: the model is unknown, missing or damaged.
        ArgumentError: the model is no predictor.
    """
    if isinstance(model, MixturePredictor):
        if next(model.parameters()).device.type != "cpu":
            raise ArgumentError("the stages of a prediction are computed on the CPU; move the network there")
        if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
            raise ArgumentError("the weights of a predictor are float32; call .float() on the network")
        return model
    model = DEFAULT_MODEL if model is None else model
    if not is_a(model, str, os.PathLike):
        raise ArgumentError(f"a model is a name, a path or a predictor, not {type(model).__name__}")
    network = registry.load(model, device="cpu")
    if not isinstance(network, MixturePredictor):
        raise ArgumentError(f"{os.fspath(model)} is a {type(network).__name__}, no predictor; see `moesaic models`")
    return network.float()


def mixture_of(
    kernels: Kernels,
    pixels: NDArray[np.float32],  # (C, H, W), premultiplied
    colours: int,
) -> Mixture:
    """The kernels as a mixture of the picture's own channels."""
    height, width = pixels.shape[1:]
    made = Mixture(
        centres=kernels.centres,
        factors=kernels.factors,
        log_priors=kernels.log_priors,
        colours=kernels.colours,
        width=width,
        height=height,
    )
    channels = len(pixels)
    if channels == 3:
        return made
    base = made.colours if channels == 4 else made.colours.mean(1, keepdim=True)
    if channels in (2, 4):
        place = made.centres.long().clamp(min=0)
        columns, rows = place[:, 0].clamp(max=width - 1), place[:, 1].clamp(max=height - 1)
        base = torch.cat([base, torch.from_numpy(pixels[-1])[rows, columns, None]], dim=1)
    return solve_colours(replace(made, colours=base), torch.from_numpy(pixels), steps=max(colours, 4))
