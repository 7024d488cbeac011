"""enlarge(): a picture at more pixels, drawn from mixtures that were fitted to what a camera or a resize kept of it.

The mixtures live on the small picture's canvas and know no resolution. An ordinary fit meets each pixel at a point; a
fit through a sampling looks at the mixture on a canvas of two samples for each pixel and side, takes the weighted sums
that the camera or the resize would have taken, and compares those with the pixels. What several such mixtures have in
common is their mean; what they miss of the small picture is enlarged by Lanczos and added at the end.
"""

from __future__ import annotations

import math
import operator
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moesaic.errors import ArgumentError, LimitError
from moesaic.mixture import colours
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.threads import MOST_THREADS, default_threads
from moesaic.mixture.fitting import Callback, FitConfig, Fitting, Progress
from moesaic.mixture.model import Mixture
from moesaic.mixture.observed import Pixels, Sampled
from moesaic.mixture.render import PIXEL_LIMIT, render
from moesaic.mixture.sampling import KERNELS, resize
from moesaic.picture import Picture
from moesaic.values import is_number, is_whole

if TYPE_CHECKING:
    from moesaic.image import PictureSource

SAMPLINGS = ("point", *KERNELS)
FINER = 2  # samples for each pixel and side of the canvas that a sampled fit looks at
FILLING = "lanczos"  # what enlarges the part that no mixture explains

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargeConfig:
    """How the mixtures of an enlargement are fitted; the defaults are those of docs/enlarging.md."""

    fits: int = 6  # mixtures whose pictures are averaged
    pixels_per_expert: tuple[float, ...] = (
        3.0,
        4.0,
        6.0,
        8.0,
        10.0,
        12.0,
    )  # of the small picture, taken in turn by the fits
    opening: int = 30  # steps of each fit to the small pixels as points: cheap, and a good place to start from
    steps: int = 80  # of each fit through the sampling, after that
    sharpest: float = 3.0  # 1/px of the small picture: no edge is steeper, since no pixel could tell
    variation: float = 0.0  # weight of the total variation against the squared error of the pixels
    rounds: int = 8  # of moves in each fit
    apart: int = 10  # steps between them at least
    filling: int = 4  # times that what is still missing of the small picture is enlarged and added


def enlarge(
    picture: PictureSource,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    sampling: str = "bicubic",
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    pixel_limit: int = PIXEL_LIMIT,
    config: EnlargeConfig | None = None,
) -> Picture:
    """A picture at more pixels.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        scale: output pixels for each pixel, above 1, whole or not; 2 when neither scale nor size is given.
        size: (width, height) of the output in pixels instead, no side shorter than it was.
        sampling: how the small picture's pixels came about. "point": each is the value at its centre, so kernels are
            drawn larger as they are. "area": each is the mean over its square, as in a camera. "bilinear", "bicubic"
            and "lanczos": the picture was made smaller by a resize that avoids aliases, as most on the web were.
        seed: of the first mixture's start; the same seed and machine give the same bytes.
        threads: as many as the process may use when None. Does not change the result.
        progress: called after each step; returning True ends the fits early with what there is.
        pixel_limit: the largest output accepted, in pixels.
        config: how the mixtures are fitted.

    Returns:
        The picture with the depth, ICC profile, EXIF and XMP of the small one. Alpha is enlarged with the colours
        premultiplied.

    Raises:
        ArgumentError: the picture would not become larger, or another number is out of range.
        LimitError: the output has more than pixel_limit pixels.
        PictureError: the picture cannot be read.

    Source: docs/enlarging.md; the mixture of arXiv 2510.05814, which claims enlarging by rendering alone, with a fit
    through the sampling and a fusion of our own. The filling is back-projection: Irani and Peleg, "Improving resolution
    by image registration", CVGIP 53(3), 1991.
    """
    from moesaic.image import read_picture

    c = config or EnlargeConfig()
    read = read_picture(picture)
    wanted = output_size((read.width, read.height), scale, size, pixel_limit)
    small = np.ascontiguousarray(read.premultiplied().transpose(2, 0, 1), dtype=np.float32)
    mixtures = fit_sampled(small, sampling=sampling, seed=seed, threads=threads, progress=progress, config=c)
    large = filled(mean_picture(mixtures, wanted), mixtures, small, sampling, c.filling)
    pixels = np.ascontiguousarray(large.transpose(1, 2, 0))
    return Picture.from_premultiplied(pixels, depth=read.depth, icc=read.icc, exif=read.exif, xmp=read.xmp)


def fit_sampled(
    small: Floats,  # (C, H, W), premultiplied
    *,
    sampling: str = "bicubic",
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    config: EnlargeConfig | None = None,
) -> list[Mixture]:
    """The mixtures behind `enlarge`, on the small picture's canvas: `mixture.render(scale=3)` draws one at any size."""
    c = config or EnlargeConfig()
    _check(sampling, seed, threads, c)
    told = _Together(c.fits * (c.opening + c.steps), progress)
    mixtures: list[Mixture] = []
    for index in range(c.fits):
        if told.stopped and mixtures:
            break
        told.done = index * (c.opening + c.steps)
        per_expert = c.pixels_per_expert[index % len(c.pixels_per_expert)]
        experts = max(1, round(small.shape[1] * small.shape[2] / per_expert))
        mixtures.append(_fit_one(small, sampling, experts, seed + index, threads or default_threads(), told, c))
    return mixtures


def _fit_one(
    small: Floats,  # (C, H, W)
    sampling: str,
    experts: int,
    seed: int,
    threads: int,
    told: _Together,
    c: EnlargeConfig,
) -> Mixture:
    _, height, width = small.shape
    progress = None if told.progress is None else told
    rhythm = FitConfig(sharpest=c.sharpest, rounds=c.rounds, apart=c.apart)
    if sampling == "point":
        whole = Fitting(small, 0, seed, threads, progress, rhythm, Pixels(small))
        whole.fit(experts, steps=c.opening + c.steps, seconds=None)
        return whole.mixture()
    fine = (FINER * width, FINER * height)
    guide = resize(FILLING, (width, height), fine)(small)  # where kernels start, and with which colours
    observed = Sampled.through(resize(sampling, fine, (width, height)), small, c.variation)
    sharpest = c.sharpest / FINER
    one = Fitting(guide, 0, seed, threads, progress, replace(rhythm, sharpest=sharpest), observed)
    if c.opening:
        first = Fitting(small, 0, seed, threads, progress, replace(rhythm, solve=0), Pixels(small))
        first.fit(experts, steps=c.opening, seconds=None)
        one.packed, one.stopped = _stretched(first.packed, FINER), first.stopped
        told.done += c.opening
        one.descend(experts, steps=c.steps, seconds=None)
    else:
        one.fit(experts, steps=c.steps, seconds=None)
    return colours.unpack(_stretched(one.packed, 1 / FINER), width, height)


def _stretched(packed: cpu.Packed, factor: float) -> cpu.Packed:
    """The same kernels on a canvas whose sides are `factor` times as long; experts of order 0."""
    geometry = packed.geometry.copy()
    geometry[:, :3] /= factor
    return replace(packed, centres=packed.centres * factor, geometry=geometry)


def mean_picture(mixtures: list[Mixture], size: tuple[int, int]) -> Floats:  # (C, H, W)
    """The mean of what mixtures on the same canvas show at a size (width, height)."""
    total = render(mixtures[0], size=size, pixel_limit=size[0] * size[1]).numpy()
    for mixture in mixtures[1:]:
        total += render(mixture, size=size, pixel_limit=size[0] * size[1]).numpy()
    total /= len(mixtures)
    return np.asarray(total)


def filled(
    large: Floats,  # (C, H, W)
    mixtures: list[Mixture],
    small: Floats,  # (C, h, w)
    sampling: str,
    times: int,
) -> Floats:  # (C, H, W)
    """The large picture with what it misses of the small one enlarged and added, so that it would become that again."""
    now, before = (large.shape[2], large.shape[1]), (small.shape[2], small.shape[1])
    up = resize(FILLING, before, now)
    if sampling == "point":  # the mixtures themselves are what points are taken from
        return large + up(small - mean_picture(mixtures, before)) if times else large
    down = resize(sampling, now, before)
    for _ in range(times):
        large = large + up(small - down(large))
    return large


def output_size(
    before: tuple[int, int], scale: float | None, size: tuple[int, int] | None, pixel_limit: int
) -> tuple[int, int]:
    """The size (width, height) that an enlargement of a picture of size `before` has, checked; see `enlarge`."""
    width, height = before
    if scale is not None and size is not None:
        raise ArgumentError("give either scale or size, not both")
    try:
        factor = 2.0 if scale is None else float(scale)
        sides = None if size is None else tuple(operator.index(side) for side in size)
    except (TypeError, ValueError, OverflowError) as cause:
        raise ArgumentError(f"scale {scale!r} must be a number and size {size!r} two whole numbers") from cause
    if sides is None:
        if not (math.isfinite(factor) and factor > 1.0):
            raise ArgumentError(f"scale {scale} must be a number above 1: enlarging makes pictures larger")
        if max(width, height) * factor > pixel_limit:
            longest = max(width, height) * factor
            raise LimitError(f"scale {factor:g} asks for a side of {longest:.3g} pixels: raise pixel_limit")
        sides = (round(width * factor), round(height * factor))
        if sides == before:
            raise ArgumentError(f"scale {factor:g} leaves the picture at {width}x{height}: ask for a larger one")
    elif len(sides) != 2:
        raise ArgumentError(f"size {size} must be two whole numbers, width and height")
    elif sides[0] < width or sides[1] < height or sides == before:
        raise ArgumentError(f"size {sides[0]}x{sides[1]} must be larger than the picture's {width}x{height}")
    if not sides[0] * sides[1] <= pixel_limit:  # true for NaN, too
        raise LimitError(f"{sides[0]}x{sides[1]} output pixels exceed the limit of {pixel_limit}: raise pixel_limit")
    return sides[0], sides[1]


@dataclass(slots=True)
class _Together:
    """A progress callback of one fit that tells of all fits."""

    steps: int  # of all
    progress: Callback | None
    done: int = 0  # steps of the fits before
    stopped: bool = False
    began: float = field(default_factory=time.perf_counter)

    def __call__(self, now: Progress) -> bool:
        step = self.done + now.step
        seconds = time.perf_counter() - self.began
        left = seconds * (self.steps - step) / step
        told = replace(now, step=step, steps=self.steps, seconds=seconds, seconds_left=left)
        self.stopped = self.progress is not None and bool(self.progress(told))
        return self.stopped


def _check(sampling: str, seed: int, threads: int | None, c: EnlargeConfig) -> None:
    if sampling not in SAMPLINGS:
        raise ArgumentError(f"sampling {sampling!r} is unknown; choose one of {', '.join(SAMPLINGS)}")
    if not is_whole(seed, 0):
        raise ArgumentError(f"seed ({seed!r}) must be a whole number of at least 0")
    if threads is not None and not (is_whole(threads, 1) and threads <= MOST_THREADS):
        raise ArgumentError(f"threads ({threads!r}) must be a whole number from 1 to {MOST_THREADS}")
    for name, least in {"fits": 1, "opening": 0, "steps": 1, "rounds": 1, "apart": 1, "filling": 0}.items():
        if not is_whole(getattr(c, name), least):
            raise ArgumentError(f"{name} ({getattr(c, name)!r}) must be a whole number of at least {least}")
    if not c.pixels_per_expert or not all(is_number(p) and 0.25 <= p < math.inf for p in c.pixels_per_expert):
        raise ArgumentError(f"pixels_per_expert {c.pixels_per_expert!r} must be numbers of at least 0.25")
    if not (is_number(c.sharpest) and 0.1 <= c.sharpest <= 100.0):
        raise ArgumentError(f"sharpest ({c.sharpest!r}) must lie between 0.1 and 100 per px")
    if not (is_number(c.variation) and 0.0 <= c.variation < math.inf):
        raise ArgumentError(f"variation ({c.variation!r}) must be a number of at least 0")
