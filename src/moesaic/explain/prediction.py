"""The picture of a prediction: what each stage of the network adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from moesaic.explain.ellipses import Region, crop, drawn
from moesaic.explain.explained import Explained
from moesaic.explain.panels import Panel, fitting, placed, room, sheet
from moesaic.explain.pixels import alike, drawing, error_colours, error_scale, levels_off, shown, top_of
from moesaic.metrics import psnr
from moesaic.mixture.backends.threads import default_threads
from moesaic.picture import Picture
from moesaic.predict.kernels import begun
from moesaic.predict.stages import coloured
from moesaic.predict.use import COLOURS, STAGES, count_of, mixture_of, predict_pixels
from moesaic.sheet import ORANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture
    from moesaic.predict.network import MixturePredictor

SHOWN = (0, 1, 2, 4, STAGES)
"""Stages after which the kernels are shown."""

TOLD_APART = 60
"""Kernels in a crop, whose panels are small."""

_HIGHEST = 240  # px, of a panel's picture


def explain_prediction(
    source: Picture, model: MixturePredictor, *, name: str = "", experts: int | None = None
) -> Explained:
    """A sheet, 1200 px wide, about a picture's way to a mixture: its kernels before, between and after the stages.

    Args:
        source: the picture.
        model: what predicts.
        name: of the picture, for the title.
        experts: number of kernels; one for every 40 pixels unless given.

    Raises:
        ArgumentError: the number of kernels is out of range.
        ModelError: the model gives no finite mixture.
    """
    pixels = np.ascontiguousarray(source.premultiplied().transpose(2, 0, 1), dtype=np.float32)
    made = {0: _start(pixels, experts)}
    made |= {stages: predict_pixels(pixels, experts=experts, model=model, stages=stages) for stages in SHOWN[1:]}
    compared = {stages: alike(drawing(mixture, depth=source.depth), source) for stages, mixture in made.items()}
    quality = {stages: psnr(*both) for stages, both in compared.items()}
    errors = {stages: levels_off(*both) for stages, both in compared.items()}
    last = made[STAGES]
    region = crop(last, TOLD_APART)
    box = room(len(made) + 1, _HIGHEST)
    part = fitting(region[2] - region[0], region[3] - region[1], box)
    whole = fitting(source.width, source.height, box)
    top = top_of(errors[2])
    framed = "in the frame" if len(last) > TOLD_APART else ""
    near, below, off = [], [], []
    for stages, mixture in made.items():
        after = f"After {stages} stage{'s' * (stages > 1)}" if stages else "Before"
        under = shown(drawing(mixture, size=part, region=region))
        ellipses, _ = drawn(mixture, under, region)
        near.append(Panel(title=after, told=_decibels(quality[stages]), image=Image.fromarray(under)))
        below.append(Panel(told="" if stages else f"Kernels {framed}".strip(), image=ellipses))
        off.append(
            Panel(
                told="" if stages else "Error, all of the picture",
                image=placed(error_colours(errors[stages], top), whole),
            )
        )
    off[0] = Panel(told=off[0].told, image=off[0].image, scale=error_scale(top))
    near.append(Panel(title="The picture", told=framed, image=_cut(source, region, part)))
    below.append(Panel(told="all of it" if framed else "", image=_framed(source, region, whole, bool(framed))))
    figures = {
        "width": source.width,
        "height": source.height,
        "kernels": len(last),
        "stages": STAGES,
        "psnr": {str(stages): value for stages, value in quality.items()},
    }
    told = (
        f"{source.width} x {source.height} px, {len(last):,} {'kernel' if len(last) == 1 else 'kernels'} that a network"
        f" moves in {STAGES} stages: what they draw before and after some of these, each kernel as an ellipse at one"
        " standard deviation, and how far the drawn picture is from the one that came."
    )
    title = f"{name}: " * bool(name) + f"predicted, from {_decibels(quality[0])} to {_decibels(quality[STAGES])}"
    image = sheet(title, [told], [near, below, off], columns=len(near))
    sheet_pixels = np.asarray(image, np.float32) / np.float32(255)
    return Explained(
        kind="prediction",
        title=name,
        picture=Picture(pixels=sheet_pixels, icc=source.icc if source.channels >= 3 else None),
        figures=figures,
    )


def _start(pixels: NDArray[np.float32], experts: int | None) -> Mixture:  # (C, H, W)
    """The kernels before the first stage, with the colours that suit them best: where `predict_pixels` begins."""
    colour = np.ascontiguousarray(pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0))
    with torch.no_grad():
        kernels = begun(colour, count_of(experts, pixels.shape[1] * pixels.shape[2]), np.random.default_rng(0))
    if len(pixels) == 3:
        kernels = coloured(kernels, colour, COLOURS, default_threads())
    return mixture_of(kernels, pixels, COLOURS)


def _decibels(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "no error"


def _cut(source: Picture, region: Region, size: tuple[int, int]) -> Image.Image:
    """A part of the picture, in sharp pixels."""
    return Image.fromarray(shown(source)).resize(size, Image.Resampling.NEAREST, box=region)


def _framed(source: Picture, region: Region, size: tuple[int, int], framed: bool) -> Image.Image:
    """All of the picture, with the part marked."""
    image = placed(shown(source), size)
    if framed:
        across, down = size[0] / source.width, size[1] / source.height
        left, top, right, bottom = region[0] * across, region[1] * down, region[2] * across, region[3] * down
        pen = ImageDraw.Draw(image)
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), outline="white", width=5)
        pen.rectangle((left, top, right, bottom), outline=ORANGE, width=2)
    return image
