"""What is true of a degraded picture, from the steps that made it: how much of each damage is left to be seen.

A step's own numbers say little about the last picture: noise that came before a shrink by four is gone. So each trace
is followed to the end under one model, in which everything is a Gaussian. A point of the scene, a grain of noise and
an error of JPEG are blobs of a width, px; a blur adds its squared width to all that came before it, a size changes all
widths with it, and nothing is narrower than a pixel. The width of a blur's kernel is that of the Gaussian which leaves
as much of white noise, `1 / (4 pi sum k^2) - 1 / (4 pi)` squared px: so rings, plateaus and heavy tails have one, too.
An ideal low-pass filter leaves the share of frequencies below its cutoff, so its width needs no kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.degrade.bases import jpeg_tables
from moesaic.degrade.told import Told
from moesaic.degrade.wild import COUNTS, Step, draw_steps, step_amount, step_kernel, step_quality, step_size
from moesaic.errors import ArgumentError
from moesaic.upscale.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

NAMES = ("noise", "blur", "jpeg", "resolution")
"""What is scored, in this order, by every estimator that is trained on truth."""

NOISE_MOST = 36.0
"""Levels of 255, the deviation of luma at which the score of noise is 1: noise of sigma 54 in each colour has it."""
BLUR_MOST = 3.0
"""px of the last picture by which a point is wider than a pixel at a blur score of 1: a Gaussian of sigma 3.3 px."""
QUALITY_BEST, QUALITY_WORST = 95, 10
"""Of JPEG, where its score is 0 and 1."""
LIGHT = 0.4
"""The mean of a picture whose light is not told, on which the strength of Poisson noise depends."""

PIXEL = 1 / (4 * math.pi)
"""px^2, the squared width of a pixel: white noise is blobs of this."""
COLOURED = math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
"""The deviation of luma where each colour has noise of its own, of deviation 1."""

_STEPS = ("blur", "sinc", "resize", "noise", "poisson", "jpeg")


@dataclass(slots=True)
class _Trace:
    """Of noise or of JPEG, on its way to the last picture."""

    strength: float  # of noise its deviation in levels of 255, of JPEG its score
    width: float  # squared px

    def blurred(self, by: float) -> None:
        """Blobs that grow wider keep their sum, so their deviation falls with their width."""
        self.strength *= math.sqrt(self.width / (self.width + by))
        self.width += by

    def resized(self, scale: float) -> None:
        """A shrink is a blur as wide as the new pixel; an enlargement only widens."""
        wide = self.width * scale**2
        self.width = wide + PIXEL * max(0.0, 1 - scale**2)
        self.strength *= math.sqrt(wide / self.width)


def scores_of_steps(
    steps: Sequence[Step], height: int, width: int, *, light: float = LIGHT
) -> tuple[float, float, float, float]:
    """How much noise, blur, JPEG and loss of resolution is left in a picture after the steps, each in [0, 1].

    - noise: the deviation of luma that is left of all noise, as `sqrt(levels / NOISE_MOST)`, at most 1.
    - blur: how much wider than a pixel a point has become, as `sqrt(px / BLUR_MOST)`, at most 1; enlargements on the
      way widen it, too. A Gaussian of sigma 0.5, 1 and 2 px has 0.23, 0.49 and 0.76.
    - jpeg: `(95 - quality) / 85` times the share of the traces that is left; of several the one that is left most.
    - resolution: 1 less the smallest size on the way as a share of the last one, by sides.

    Args:
        steps: as of `moesaic.degrade.wild.draw_steps`; a single damage is a list of one or two of them.
        height: of the picture before the first step, px.
        width: the same to the right, px.
        light: the mean of the picture in [0, 1], on which Poisson noise depends.

    Raises:
        ArgumentError: a step is none of the chain's, or the picture has no pixel.
    """
    if height < 1 or width < 1:
        raise ArgumentError(f"a picture has at least 1x1 px, not {width}x{height}")
    side = math.sqrt(height * width)
    smallest, point = math.inf, PIXEL
    noises: list[_Trace] = []
    traces: list[_Trace] = []
    for step in steps:
        told = Told("wild", step)
        name = told.one_of("step", _STEPS)
        if name in ("blur", "sinc"):
            by = _kernel_width(name, told)
            point += by
            for trace in (*noises, *traces):
                trace.blurred(by)
        elif name == "resize":
            rows, columns, _ = step_size(told)
            now = math.sqrt(rows * columns)
            for trace in (*noises, *traces):
                trace.resized(now / side)
            point = point * (now / side) ** 2 + PIXEL * max(0.0, 1 - (now / side) ** 2)
            side, smallest = now, min(smallest, now)
        elif name == "jpeg":
            quality = step_quality(told)
            _quantise(noises, quality)
            share = (QUALITY_BEST - quality) / (QUALITY_BEST - QUALITY_WORST)
            traces.append(_Trace(strength=min(1.0, max(0.0, share)), width=PIXEL))
        else:
            deviation = 255 * step_amount(name, told)
            if name == "poisson":
                deviation *= math.sqrt(light / COUNTS)
            noises.append(_Trace(strength=deviation * (1.0 if told.flag("grey") else COLOURED), width=PIXEL))
    noise = math.sqrt(sum(trace.strength**2 for trace in noises))
    blur = math.sqrt(point) - math.sqrt(PIXEL)
    return (
        min(1.0, math.sqrt(noise / NOISE_MOST)),
        min(1.0, math.sqrt(max(0.0, blur) / BLUR_MOST)),
        max((trace.strength for trace in traces), default=0.0),
        max(0.0, 1 - smallest / side),
    )


def true_scores(
    chains: Sequence[Sequence[Step]],  # B
    severity: Sequence[float | None],  # B, None: the largest of its scores
    height: int,
    width: int,
    *,
    light: Sequence[float] | None = None,  # B
) -> Scores:
    """The true scores of B pictures of one size before their steps, on the CPU.

    The severity of a second-order chain is the one that it was drawn with; a single damage has none of its own, and is
    as severe as its largest score.

    Raises:
        ArgumentError: the sequences differ in length, or as from `scores_of_steps`.
    """
    lights = [LIGHT] * len(chains) if light is None else list(light)
    if not len(chains) == len(severity) == len(lights):
        raise ArgumentError(f"{len(chains)} chains, {len(severity)} severities and {len(lights)} lights do not pair")
    values = torch.tensor(
        [scores_of_steps(steps, height, width, light=one) for steps, one in zip(chains, lights, strict=True)]
    ).reshape(-1, len(NAMES))
    told = torch.tensor([math.nan if one is None else one for one in severity], dtype=torch.float32)
    return Scores(names=NAMES, values=values, severity=torch.where(told.isnan(), values.amax(1), told))


@lru_cache(maxsize=1)
def typical_scores() -> Array:  # (11, S)
    """The mean true scores of chains of severity 0, 0.1, ... 1 that shrink by four; from a fixed seed."""
    size = 512
    rows = []
    for place in range(11):
        rng = np.random.default_rng([2021, place])
        chains = [draw_steps(rng, size, size, place / 10, 4) for _ in range(32)]
        rows.append(np.mean([scores_of_steps(steps, size, size) for steps in chains], axis=0))
    rows[0] *= 0  # nothing is left of a picture that nothing was done to, whatever the mildest chain does
    typical: Array = np.maximum.accumulate(np.array(rows), axis=0)
    return typical


def _kernel_width(name: str, told: Told) -> float:
    """The squared width of a blur's kernel, px^2, 0 for one that changes nothing."""
    if name == "sinc":
        return max(0.0, 1 / told.number("cutoff", 0.01, math.pi) ** 2 - PIXEL)
    kernel = step_kernel(name, told)
    return max(0.0, PIXEL / float((kernel**2).sum()) - PIXEL)


def _quantise(noises: list[_Trace], quality: int) -> None:
    """JPEG drops what noise adds to frequencies whose steps are much larger: what is left of its power, in luma."""
    total = sum(trace.strength**2 for trace in noises)
    if total == 0:
        return
    wide = sum(trace.strength**2 * trace.width for trace in noises) / total - PIXEL
    power = total * _spectrum(wide)  # of each coefficient; all have the variance of a pixel for white noise
    ratio = jpeg_tables(quality)[0] / np.sqrt(power)
    left = math.sqrt(float((power * np.interp(ratio, *_kept())).mean()) / total)
    for trace in noises:
        trace.strength *= left


def _spectrum(wide: float) -> Array:  # (64,), mean 1
    """Powers of the frequencies of an 8 x 8 block of noise whose blobs are wider than a pixel by `wide`, px^2."""
    angles = np.pi / 8 * np.arange(8)
    power: Array = np.exp(-wide * (angles[:, None] ** 2 + angles**2)).ravel() + 1e-9
    mean_one: Array = power / power.mean()
    return mean_one


@lru_cache(maxsize=1)
def _kept() -> tuple[Array, Array]:
    """Steps over deviations, and the share of a Gaussian's power that rounding to multiples of the step leaves."""
    ratios = np.linspace(0.05, 12, 240)
    value = np.linspace(-8, 8, 4001)
    weight = np.exp(-(value**2) / 2)
    rounded = np.round(value / ratios[:, None]) * ratios[:, None]
    shares: Array = np.minimum(1.0, (rounded**2 * weight).sum(1) / (value**2 * weight).sum())
    return ratios, np.minimum.accumulate(shares)
