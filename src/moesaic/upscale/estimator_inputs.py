"""What estimators learn from and are judged on: inputs of an upscaler, damaged in known ways, with the truth of each.

Every input is a list of steps of the second-order chain, single damages as well: a shrink, and one damage after it, so
that noise, blur and JPEG are also met apart from each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.degrade.bases import smaller
from moesaic.degrade.batched.wild import apply_steps
from moesaic.degrade.mix import check_mix, draw_sorts
from moesaic.degrade.told import MAX_SEED, rounded
from moesaic.degrade.wild import COUNTS, METHODS, Step, draw_steps
from moesaic.errors import ShapeError
from moesaic.upscale.truth import BLUR_MOST, COLOURED, LIGHT, NOISE_MOST, PIXEL, QUALITY_WORST, true_scores

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.upscale.scores import Scores

SHRINKS = (1, 2, 3, 4)
"""By which clean pictures shrink before, or within, their damage."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Inputs of one size, and what is true of them."""

    pictures: Tensor  # (B, 3, h, w) float32 in [0, 1], on the levels of 8 bits
    truth: Scores  # on the CPU
    sorts: list[str]  # B


def draw_inputs(
    clean: Tensor,  # (B, 3, H, W) float32 in [0, 1]
    generator: torch.Generator,
    shrink: int,
    mix: Mapping[str, float],
    strength: Tensor | None = None,  # (B,) in [0, 1]
) -> Inputs:
    """Shrink each picture, and damage it in a way drawn from the mix.

    Args:
        clean: on any device; sides are multiples of the shrink.
        generator: on the CPU; the same draws on every device.
        shrink: by which the sides shrink.
        mix: shares of sorts: "clean", "noise", "blur", "jpeg", "resolution", and "wild", the second-order chain.
        strength: of each damage, the severity of a chain; drawn evenly unless given.

    Raises:
        ShapeError: `clean` has another shape, or sides that are no multiples of the shrink.
        ArgumentError: the mix is none of these sorts, see `moesaic.degrade.mix.check_mix`.
    """
    check_mix(mix, SORTS)
    if clean.ndim != 4 or clean.shape[1] != 3 or not clean.numel():
        raise ShapeError(f"clean pictures have the shape (B, 3, H, W), not {tuple(clean.shape)}")
    count, _, height, width = clean.shape
    if height % shrink or width % shrink:
        raise ShapeError(f"sides of {width}x{height} px are no multiples of the shrink {shrink}")
    names = list(mix)
    sorts = [names[place] for place in draw_sorts(mix.values(), count, generator).tolist()]
    drawn = torch.rand(count, generator=generator)
    strengths = (drawn if strength is None else strength).tolist()
    seed = int(torch.randint(2**62, (), generator=generator))
    fields = torch.Generator(clean.device).manual_seed(seed)
    chains: list[list[Step]] = []
    severities: list[float | None] = []
    pictures = []
    for row, (sort, one) in enumerate(zip(sorts, strengths, strict=True)):
        rng = np.random.default_rng([seed, row])
        if sort == "wild":
            steps = draw_steps(rng, height, width, one, shrink)
        else:
            steps = [*_shrunk(height, width, shrink), *_SINGLE[sort](rng, height // shrink, width // shrink, one)]
        chains.append(steps)
        severities.append({"wild": one, "clean": 0.0}.get(sort))
        pictures.append(apply_steps(clean[row : row + 1], steps, fields))
    light = clean.mean((1, 2, 3)).tolist()
    truth = true_scores(chains, severities, height, width, light=light)
    return Inputs(pictures=torch.cat(pictures), truth=truth, sorts=sorts)


def _shrunk(height: int, width: int, shrink: int) -> list[Step]:
    if shrink == 1:
        return []
    return [{"step": "resize", "height": height // shrink, "width": width // shrink, "method": "bicubic"}]


def _clean(rng: np.random.Generator, height: int, width: int, strength: float) -> list[Step]:  # noqa: ARG001
    return []


def _noise(rng: np.random.Generator, height: int, width: int, strength: float) -> list[Step]:  # noqa: ARG001
    """Gaussian noise of the strength as its score, or Poisson noise that has it in a picture of the usual light."""
    levels = NOISE_MOST * strength**2
    seed, grey = int(rng.integers(MAX_SEED, endpoint=True)), bool(rng.random() < 0.25)
    levels = levels if grey else levels / COLOURED
    if rng.random() < 0.75:
        return [{"step": "noise", "sigma": rounded(levels), "grey": grey, "seed": seed}]
    by = rounded(levels / 255 / math.sqrt(LIGHT / COUNTS))
    return [{"step": "poisson", "strength": by, "grey": grey, "seed": seed}]


def _blur(rng: np.random.Generator, height: int, width: int, strength: float) -> list[Step]:  # noqa: ARG001
    """Mostly a Gaussian, of the strength as its score; else a longish or a flat one that is about as wide."""
    wide = BLUR_MOST * strength**2 + math.sqrt(PIXEL)
    sigma = max(0.01, rounded(math.sqrt(max(0.0, wide**2 - PIXEL))))
    size = min(2 * math.ceil(3 * sigma) + 1, 21)
    sigmas, power, shape = [sigma, sigma], 1.0, "bell"
    chance = rng.random()
    if chance < 0.15:
        sigmas = [sigma, max(0.01, rounded(sigma * rng.uniform(0.4, 1)))]
    elif chance < 0.3:
        power = rounded(rng.uniform(1, 4))
        shape = "generalised"
    turn = rounded(rng.uniform(-math.pi, math.pi))
    return [{"step": "blur", "shape": shape, "size": size, "sigmas": sigmas, "turn": turn, "power": power}]


def _jpeg(rng: np.random.Generator, height: int, width: int, strength: float) -> list[Step]:  # noqa: ARG001
    return [{"step": "jpeg", "quality": round(100 - strength * (100 - QUALITY_WORST))}]


def _resolution(rng: np.random.Generator, height: int, width: int, strength: float) -> list[Step]:
    scale = 1 + 3 * strength
    ways = [METHODS[int(rng.integers(len(METHODS)))] for _ in range(2)]
    small = {"step": "resize", "height": smaller(height, scale), "width": smaller(width, scale), "method": ways[0]}
    return [small, {"step": "resize", "height": height, "width": width, "method": ways[1]}]


_SINGLE: dict[str, Callable[[np.random.Generator, int, int, float], list[Step]]] = {
    "clean": _clean,
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "resolution": _resolution,
}

SORTS = (*_SINGLE, "wild")
"""What `draw_inputs` makes."""
