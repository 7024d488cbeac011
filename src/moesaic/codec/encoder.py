"""encode(): a picture to a `.moe` file of so many experts, so many bits per pixel, or so many decibels."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from moesaic.codec.container import Info
from moesaic.codec.file import write_plan
from moesaic.codec.plan import plan
from moesaic.codec.quantise import Steps
from moesaic.codec.refit import refit
from moesaic.errors import ArgumentError, LimitError
from moesaic.files import atomic_write, refuse_existing
from moesaic.image import Picture, PictureSource, read_picture
from moesaic.metrics import bits_per_pixel, psnr, ssim
from moesaic.mixture.backends.threads import default_threads, run
from moesaic.mixture.fit import PIXELS_PER_EXPERT, fit_pixels
from moesaic.mixture.fitting import Progress
from moesaic.mixture.guess import Guess
from moesaic.mixture.model import Mixture
from moesaic.mixture.render import render
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.predict.network import MixturePredictor

_BITS = {1: 34.0, 2: 38.0, 3: 41.0, 4: 45.0}  # a kernel, by channels, with the default steps; only a first guess
_SLOPE_BITS = 5.0  # a channel, for experts of order 1
_OVERHEAD = 90 * 8  # bits of a file's frame
_COARSEST, _FINEST = 1.8, 0.5  # factors on the default steps; beyond them, another number of kernels is the better way
_BPP_ERROR, _PSNR_ERROR = 0.01, 0.05  # what a search is content with; the promises are 0.03 and 0.1
_ROUNDS = 30  # gradient steps of the quantiser; none for what a network alone has predicted, which is done by then
_ROUNDED = 0.15  # share of the squared error of what is rounded that its rounding should add
_TRIES = 6  # numbers of kernels that a search for a quality tries
_NOTHING = 1e-10  # a squared error that no 8 bits tell from none
_DENSEST = 2.0  # pixels per kernel, beyond which no target is chased


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A picture as a `.moe` file, and how close it comes."""

    data: bytes = field(repr=False)  # the whole file
    mixture: Mixture  # as decoded from data
    psnr: float  # dB, of the decoded picture, clipped and rounded to the container's depth, against the source
    ssim: float  # of the same pictures; NaN for a side below 11 px
    bpp: float  # bits per pixel of the real file
    seconds: float  # spent


def encode(
    picture: PictureSource,
    path: str | os.PathLike[str] | None = None,
    *,
    experts: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    seconds: float | None = None,
    order: int = 0,
    seed: int = 0,
    steps: int | None = None,
    fast: bool = False,
    refine: int = 0,
    model: MixturePredictor | str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], bool | None] | None = None,
    force: bool = False,
    metadata: Literal["keep", "strip"] = "keep",
) -> Encoded:
    """Fit a mixture to a picture and turn it into a `.moe` file.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        path: where the file is written, all of it or nothing; None for bytes alone.
        experts: number of kernels; one for every 40 pixels when nothing else is asked for.
        bpp: bits per pixel of the whole file, hit within 3 %.
        psnr: dB of the decoded picture, hit within 0.1 dB; a picture that one expert does better gets that expert.
        seconds: time to spend on the fit, about; the result then depends on the machine's speed.
        order: 0 for constant experts, 1 for linear ones.
        seed: of the random start.
        steps: gradient steps of each fit instead of a time.
        fast: predict the mixture with a network instead of fitting it (`moesaic.predict`), in a fraction of
            the time.
        refine: with `fast`: steps of a fit that goes on from the prediction.
        model: with `fast`: a predictor, or its weights, instead of those that ship.
        progress: told about each step; returning True goes on with what has been fitted by then.
        force: replace a file at `path`.
        metadata: "keep" carries ICC profile, EXIF and XMP into the file; "strip" leaves them out.

    Raises:
        ArgumentError: a number is out of range, more than one of experts, bpp and psnr is given, or options that do not
            go together.
        ModelError: `model` is unknown, missing or damaged.
        LimitError: the target cannot be reached.
        PictureError: the picture cannot be read.
        OutputExistsError: the file is there and `force` is False.
    """
    if sum(asked is not None for asked in (experts, bpp, psnr)) > 1:
        raise ArgumentError("give only one of experts, bpp and psnr")
    if metadata not in ("keep", "strip"):
        raise ArgumentError(f"metadata is 'keep' or 'strip', not {metadata!r}")
    for name, number in {"bpp": bpp, "psnr": psnr}.items():
        if number is not None and not isinstance(number, int | float | np.number):
            raise ArgumentError(f"{name} ({number!r}) must be a number")
    if bpp is not None and not (math.isfinite(bpp) and 0.0 < bpp <= 64.0):
        raise ArgumentError(f"bpp ({bpp}) must lie above 0 and at most at 64")
    if psnr is not None and not 0.0 < psnr <= 100.0:
        raise ArgumentError(f"psnr ({psnr}) must lie between 0 and 100 dB")
    _check_fast(fast, refine, model, seconds=seconds, steps=steps, order=order)
    if path is not None:
        refuse_existing(path, force=force)
    read = read_picture(picture)
    kept = read if metadata == "keep" else read.without_metadata()
    predicted = _predicting(refine, model) if fast else None
    work = _Encoding(kept, order, seed, seconds, steps, progress, predicted, _ROUNDS if refine or not fast else 0)
    if bpp is not None:
        made = work.to_rate(bpp)
    elif psnr is not None:
        made = work.to_quality(psnr)
    else:
        fitted = work.fit(max(1, round(work.pixels / PIXELS_PER_EXPERT)) if experts is None else experts, 0.8)
        made = work.attempt(fitted, work.adapted(fitted) if fast and not refine else 1.0)
    if path is not None:
        atomic_write(path, made.data, force=force)
    return Encoded(
        data=made.data,
        mixture=made.mixture,
        psnr=made.psnr,
        ssim=work.similarity(made.mixture),
        bpp=bits_per_pixel(len(made.data), read.width, read.height),
        seconds=time.perf_counter() - work.began,
    )


def _check_fast(
    fast: bool,
    refine: int,
    model: MixturePredictor | str | os.PathLike[str] | None,
    *,
    seconds: float | None,
    steps: int | None,
    order: int,
) -> None:
    if not is_a(fast, bool):
        raise ArgumentError(f"fast is True or False, not {fast!r}")
    if not is_whole(refine, 0):
        raise ArgumentError(f"refine is a whole number from 0, not {refine!r}")
    if not fast:
        if refine or model is not None:
            raise ArgumentError("refine and model go with fast: they are about a prediction")
        return
    for name, asked in (("seconds", seconds), ("steps", steps)):
        if asked is not None:
            raise ArgumentError(f"{name} and fast exclude each other: refine says how many steps follow a prediction")
    if order:
        raise ArgumentError("fast and order=1 exclude each other: experts are predicted with constant colours")


def _predicting(refine: int, model: MixturePredictor | str | os.PathLike[str] | None) -> Callable[..., Mixture]:
    from moesaic.predict.use import load_network, predict_pixels

    return partial(predict_pixels, model=load_network(model), refine=refine)


@dataclass(frozen=True, slots=True)
class _Made:
    data: bytes
    mixture: Mixture
    psnr: float


@dataclass(slots=True)
class _Encoding:
    """One picture on its way into a file."""

    picture: Picture
    order: int
    seed: int
    seconds: float | None
    steps: int | None
    progress: Callable[[Progress], bool | None] | None
    predicted: Callable[..., Mixture] | None = None  # what makes a mixture, instead of a fit
    rounds: int = _ROUNDS  # see `refit`
    stopped: bool = False
    began: float = field(default_factory=time.perf_counter)
    target: NDArray[np.float32] = field(init=False)  # (C, H, W), premultiplied
    last: tuple[Mixture, NDArray[np.float32]] | None = field(default=None, init=False)  # that was shown, and how

    def __post_init__(self) -> None:
        self.target = np.ascontiguousarray(self.picture.premultiplied().transpose(2, 0, 1))

    @property
    def pixels(self) -> int:
        """Of the picture."""
        return self.picture.width * self.picture.height

    def fit(self, experts: int, share: float) -> Mixture:
        """A mixture before it is quantised, for a share of the time."""
        if self.predicted is not None:
            return self.predicted(self.target, experts=experts, seed=self.seed, progress=self._told)
        return fit_pixels(
            self.target,
            experts=experts,
            seconds=None if self.seconds is None else share * self.seconds,
            steps=self.steps,
            order=self.order,
            seed=self.seed,
            progress=self._told,
        )

    def _told(self, step: Progress) -> bool:
        self.stopped = self.stopped or bool(self.progress is not None and self.progress(step))
        return self.stopped

    def attempt(self, fitted: Mixture, scale: float) -> _Made:
        """The file of a fit, with the default steps times `scale`."""
        wide = Steps().scaled(scale)
        rounds = 0 if self.stopped else self.rounds
        planned = refit(fitted, torch.from_numpy(self.target), wide, rounds=rounds).finished()
        source = self.picture
        info = Info(icc=source.icc, exif=source.exif, xmp=source.xmp)
        data, mixture = write_plan(planned, info=info, depth=source.depth), planned.mixture()
        return _Made(data, mixture, psnr(self._shown(mixture), self._rounded(self.target)))

    def adapted(self, fitted: Mixture) -> float:
        """The factor on the default steps by which rounding costs its share of the error.

        Where a bit gains as much in finer steps as in more kernels, rounding adds about 15 % to the squared error,
        whatever the picture; the default steps add 2 to 30 %.
        """
        rounded = refit(fitted, torch.from_numpy(self.target), Steps(), rounds=0).mixture()
        before, after = (float(np.mean((self._drawn(m) - self.target) ** 2)) for m in (fitted, rounded))
        if before < _NOTHING:
            return 1.0
        return float(min(max(math.sqrt(_ROUNDED * before / max(after - before, _NOTHING)), _FINEST), _COARSEST))

    def similarity(self, mixture: Mixture) -> float:
        """SSIM of a mixture's picture against the source."""
        if min(self.picture.width, self.picture.height) < 11:
            return math.nan
        pairs = zip(self._shown(mixture), self._rounded(self.target), strict=True)
        return float(np.mean(run([partial(ssim, shown, wanted) for shown, wanted in pairs], default_threads())))

    def _shown(self, mixture: Mixture) -> NDArray[np.float32]:
        if self.last is None or self.last[0] is not mixture:
            self.last = mixture, self._rounded(self._drawn(mixture))
        return self.last[1]

    def _drawn(self, mixture: Mixture) -> NDArray[np.float32]:
        return np.asarray(render(mixture).numpy().clip(0.0, 1.0))

    def _rounded(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        most = float(2**self.picture.depth - 1)
        return np.asarray(np.rint(np.clip(pixels, 0.0, 1.0) * most) / most, np.float32)

    def to_rate(self, bpp: float) -> _Made:
        """A file of so many bits per pixel: a number of kernels first, then the width of the steps."""
        goal = bpp * self.pixels
        frame = _OVERHEAD + 8 * sum(len(x or b"") for x in (self.picture.icc, self.picture.exif, self.picture.xmp))
        channels = self.picture.channels
        per_kernel = _BITS[channels] + (2 * _SLOPE_BITS * channels if self.order else 0.0)
        most = int(self.pixels / _DENSEST) or 1
        experts = min(max(1, round((goal - frame) / per_kernel)), most)
        tried: list[_Made] = []
        for _ in range(4):
            made, scale = self._fill(self.fit(experts, 0.6), goal)
            tried.append(made)
            best = min(tried, key=lambda m: abs(8 * len(m.data) - goal))
            if abs(8 * len(best.data) / goal - 1.0) <= 0.03 or self.stopped:
                return best
            bits_here = (8 * len(made.data) - frame) / experts
            wanted = min(max(1, round((goal - frame) / max(bits_here, 8.0) * scale**0.1)), most)
            if wanted == experts:
                break
            experts = wanted
        nearest = 8 * len(best.data) / self.pixels
        raise LimitError(f"{bpp:g} bpp cannot be hit: the nearest file of this picture has {nearest:.3f} bpp")

    def _fill(self, fitted: Mixture, goal: float) -> tuple[_Made, float]:
        """The file of a fit whose steps are chosen so that it comes to `goal` bits, as far as steps should go."""
        scale = 1.0
        for _ in range(4):  # on plain rounding, which costs little and takes nearly the same bits
            bits = 8 * len(write_plan(plan(fitted, Steps().scaled(scale))))
            scale = self._scaled(scale, bits - goal, len(fitted))
        best, best_scale = self.attempt(fitted, scale), scale
        for _ in range(3):
            off = 8 * len(best.data) - goal
            wanted = self._scaled(best_scale, off, len(fitted))
            if abs(off / goal) <= _BPP_ERROR or wanted == best_scale or self.stopped:
                break
            made = self.attempt(fitted, wanted)
            if abs(8 * len(made.data) - goal) < abs(off):
                best, best_scale = made, wanted
            else:
                break
        return best, best_scale

    def _scaled(self, scale: float, excess: float, kernels: int) -> float:
        """Steps that take away `excess` bits: each number of a kernel gives one bit an octave."""
        numbers = 6 + self.picture.channels * (3 if self.order else 1)
        octaves = min(max(excess / (kernels * numbers), -1.0), 1.0)
        return float(min(max(scale * 2.0**octaves, _FINEST), _COARSEST))

    def to_quality(self, goal: float) -> _Made:
        """A file of so many decibels: a number of kernels first, then the width of the steps."""
        most = int(self.pixels / _DENSEST) or 1
        guess = Guess(goal, most)
        experts = min(most, max(4, self.pixels // 100))
        tried: list[_Made] = []
        above: tuple[float, Mixture] | None = None  # the fit that is the least too good: its steps can be made coarser
        for _ in range(_TRIES):
            fitted = self.fit(experts, 0.25)
            made, scale = self.attempt(fitted, 1.0), 1.0
            if made.psnr > goal and (above is None or made.psnr < above[0]):
                above = made.psnr, fitted
            for _ in range(6):  # half a decibel up or down is the steps' to give
                tried.append(made)
                off = made.psnr - goal
                if abs(off) <= _PSNR_ERROR or abs(off) > 0.5 or self.stopped:
                    break
                scale = min(max(scale * 2.0 ** (1.2 * off), _FINEST), _COARSEST)
                made = self.attempt(fitted, scale)
            best = min(tried, key=lambda m: abs(m.psnr - goal))
            if abs(best.psnr - goal) <= 2 * _PSNR_ERROR or self.stopped:
                return best
            if experts == 1 and made.psnr > goal:  # nothing is smaller
                return made
            wanted = guess.after(experts, made.psnr)
            if wanted == experts and (experts == most or experts == 1):
                break
            experts = wanted if wanted != experts else experts + (1 if made.psnr < goal else -1)
        if above is not None:
            best = min(best, self._coarser(above[1], goal), key=lambda m: abs(m.psnr - goal))
            if abs(best.psnr - goal) <= 2 * _PSNR_ERROR:
                return best
        raise LimitError(f"{goal:g} dB cannot be hit with this picture: the nearest file has {best.psnr:.2f} dB")

    def _coarser(self, fitted: Mixture, goal: float) -> _Made:
        """The file of a fit that is too good, with coarser steps, found by bisection."""
        fine, coarse = 1.0, 2.0 * _COARSEST
        best = self.attempt(fitted, coarse)
        for _ in range(10):
            scale = math.sqrt(fine * coarse)
            made = self.attempt(fitted, scale)
            best = min(best, made, key=lambda m: abs(m.psnr - goal))
            if abs(made.psnr - goal) <= _PSNR_ERROR or self.stopped:
                break
            fine, coarse = (scale, coarse) if made.psnr > goal else (fine, scale)
        return best
