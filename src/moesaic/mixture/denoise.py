"""denoise(): several mixtures that are too small to hold the noise, averaged, and what they miss given back."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture import colours
from moesaic.mixture.backends.threads import MOST_THREADS, default_threads
from moesaic.mixture.fitting import FitConfig, Progress
from moesaic.mixture.leftover import give_back, weigh_cosines
from moesaic.mixture.noise import clipped_moments, estimate_noise
from moesaic.mixture.noisy_fit import NoisyConfig, NoisyFit
from moesaic.mixture.observed import Pixels

if TYPE_CHECKING:
    from moesaic.image import PictureSource
    from moesaic.mixture.fitting import Callback
    from moesaic.mixture.model import Mixture
    from moesaic.picture import Picture

MODELS = 8
MOST_MODELS = 4096
LEAST_SIGMA = 0.5  # on the 0-255 scale; below it 8-bit rounding is the larger noise, and nothing is done
MOST_SIGMA = 255.0
AT_BOUND = 0.002  # share of the pixels at exactly 0, or 1, from which noise counts as clipped there
Finish = Literal["full", "mixtures"]
_FINISHES = ("full", "mixtures")
_ROUNDS = 12  # of a fit, until one has shown its number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denoised:
    """A picture without its noise, and how it was made."""

    picture: Picture
    sigma: float  # of the noise that was assumed, on the 0-255 scale
    estimated: bool  # whether sigma was told from the picture
    mixtures: tuple[Mixture, ...]  # whose average the picture is, before anything is given back

    @property
    def models(self) -> int:
        """How many mixtures were averaged."""
        return len(self.mixtures)

    @property
    def experts(self) -> int:
        """How many experts a mixture has on average; 0 where there was nothing to do."""
        return round(sum(map(len, self.mixtures)) / max(len(self.mixtures), 1))


def denoise(
    picture: PictureSource,
    *,
    sigma: float | None = None,
    models: int = MODELS,
    experts: int | None = None,
    seconds: float | None = None,
    finish: Finish = "full",
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    config: NoisyConfig | None = None,
    pixel_limit: int | None = None,
) -> Denoised:
    """Take white noise out of a picture.

    Alpha is kept as it is, and colours are denoised as they show, multiplied by it. Where the noise was clipped to the
    range of the pixels, the darkening and brightening that this caused is undone as well.

    Args:
        picture: a path, Pillow image, array or tensor; whatever `moesaic.read_picture` takes.
        sigma: standard deviation of the noise on the 0-255 scale, whatever the depth; estimated when None. Below 0.5
            there is nothing to do.
        models: mixtures that are fitted from different starts and averaged.
        experts: kernels of each mixture; as many as the noise lets stand when None.
        seconds: time after which no further mixture is begun or finished; one is always finished.
        finish: "full" gives back the texture that the mixtures miss; "mixtures" is their plain average.
        seed: of the random starts; the same seed and machine give the same bytes, unless seconds are given.
        threads: as many as the process may use when None. Does not change the result.
        progress: told after each round of a fit; returning True ends with the mixtures finished by then, or one.
        config: thresholds and rhythm of the fits.
        pixel_limit: largest W * H to accept; that of `read_picture` when None.

    Raises:
        ArgumentError: a number is out of range.
        PictureError: the picture cannot be read.
        LimitError: the picture has too many pixels.

    Source: fusion of several mixtures after R-SMoE (arXiv 2510.05814); pruning by the noise is our own, and the finish
    is that of `moesaic.mixture.leftover`. See docs/denoising.md.
    """
    from moesaic.image import PIXEL_LIMIT, read_picture
    from moesaic.picture import Picture

    _check(sigma, models, experts, seconds, finish, seed, threads)
    read = read_picture(picture, pixel_limit=PIXEL_LIMIT if pixel_limit is None else pixel_limit)
    pixels = np.ascontiguousarray(read.premultiplied().transpose(2, 0, 1), dtype=np.float32)
    shown = pixels[:-1] if read.has_alpha else pixels
    estimated = sigma is None
    level = estimate_noise(shown) if sigma is None else float(sigma)
    clean, mixtures = denoise_pixels(
        shown,
        level,
        models=models,
        experts=experts,
        seconds=seconds,
        finish=finish,
        seed=seed,
        threads=threads,
        progress=progress,
        config=config,
    )
    whole = np.concatenate([clean, pixels[-1:]]) if read.has_alpha else clean
    if mixtures:
        read = Picture.from_premultiplied(
            np.ascontiguousarray(whole.transpose(1, 2, 0)),
            depth=read.depth,
            icc=read.icc,
            exif=read.exif,
            xmp=read.xmp,
        )
    return Denoised(picture=read, sigma=level, estimated=estimated, mixtures=mixtures)


def denoise_pixels(
    noisy: NDArray[np.float32],  # (C, H, W), nominally in [0, 1], values beyond it allowed
    sigma: float,  # on the 0-255 scale
    *,
    models: int = MODELS,
    experts: int | None = None,
    seconds: float | None = None,
    finish: Finish = "full",
    seed: int = 0,
    threads: int | None = None,
    progress: Callback | None = None,
    config: NoisyConfig | None = None,
) -> tuple[NDArray[np.float32], tuple[Mixture, ...]]:
    """`denoise` for pixels without alpha, also such as noise has carried beyond [0, 1]; see there.

    Returns:
        The clean pixels (C, H, W), not clipped, and the mixtures; the noisy pixels and none where sigma is below 0.5.

    Raises:
        ShapeError: the array is not (C, H, W) with 1 to 4 channels and at least one pixel.
        ArgumentError: a pixel is not a finite number, or an option is out of range.
    """
    _check(sigma, models, experts, seconds, finish, seed, threads)
    if noisy.ndim != 3 or not 1 <= noisy.shape[0] <= 4 or 0 in noisy.shape:
        raise ShapeError(f"pixels are (1 to 4 channels, height, width) with at least one pixel, not {noisy.shape}")
    if not np.isfinite(noisy).all():
        raise ArgumentError("the picture holds values that are no finite numbers: replace them before denoising")
    if sigma < LEAST_SIGMA:
        return noisy, ()
    noisy = np.ascontiguousarray(noisy, dtype=np.float32)
    height, width = noisy.shape[1:]
    if experts is not None and not 1 <= experts <= height * width:
        raise ArgumentError(f"experts ({experts}) must lie between 1 and {height * width}, the number of pixels")
    run = _Models(noisy, sigma, experts, seconds, seed, models, progress, config or NoisyConfig())
    fits = run.finished(threads or default_threads())
    total = np.zeros(noisy.shape)
    for fit in fits:  # one picture at a time, since there may be many and they may be large
        total += fit.render()
    clean = (total / len(fits)).astype(np.float32)
    if finish == "full":
        level = sigma / 255.0
        clean = weigh_cosines(give_back(clean, noisy, level), noisy, level)
    clean = unclip(clean, noisy, sigma)
    return clean, tuple(colours.unpack(fit.packed, width, height) for fit in fits)


def unclip(
    clean: NDArray[np.float32],  # (C, H, W), what is left of noisy pixels when the noise is averaged out
    noisy: NDArray[np.float32],  # (C, H, W)
    sigma: float,  # before clipping, on the 0-255 scale
) -> NDArray[np.float32]:  # (C, H, W)
    """Undo the shift of the mean that clipping noise to [0, 1] causes; nothing where no noise was clipped.

    Source: Foi, "Clipped noisy images: heteroskedastic modeling and practical denoising" (Signal Processing 89, 2009).
    """
    low = noisy.min() >= 0.0 and float(np.mean(noisy <= 0.0)) > AT_BOUND
    high = noisy.max() <= 1.0 and float(np.mean(noisy >= 1.0)) > AT_BOUND
    if not (low or high):
        return clean
    level = sigma / 255.0
    true = np.linspace(0.0, 1.0, 1025)
    seen, _ = clipped_moments(true, level, (low, high))
    return np.interp(clean, seen, true).astype(np.float32) if low and high else _half(clean, seen, true, low)


def _half(
    clean: NDArray[np.float32], seen: NDArray[np.float64], true: NDArray[np.float64], low: bool
) -> NDArray[np.float32]:
    """The same where noise was clipped on one side only, and values beyond the other stay what they are."""
    mended = np.interp(clean, seen, true)
    beyond = clean > seen[-1] if low else clean < seen[0]
    return np.where(beyond, clean, mended).astype(np.float32)


@dataclass(slots=True)
class _Models:
    """Fits from different starts, side by side on the threads."""

    noisy: NDArray[np.float32]
    sigma: float
    experts: int | None
    seconds: float | None
    seed: int
    models: int
    progress: Callback | None
    config: NoisyConfig

    def finished(self, threads: int) -> list[NoisyFit]:
        """The fits that were finished, in the order of their seeds; at least one."""
        seeds = [int(s) for s in np.random.SeedSequence(self.seed).generate_state(self.models)]
        watch = _Watch(self.models, self.seconds, self.progress)
        side_by_side = min(threads, self.models)
        each = max(1, threads // side_by_side)

        def fit(number: int) -> NoisyFit | None:
            if number and watch.over():
                return None
            one = NoisyFit(self.noisy, 0, seeds[number], each, None, FitConfig(), Pixels(self.noisy))
            done = one.settle(self.sigma, self.config, experts=self.experts, go_on=partial(watch.go_on, number))
            watch.finished(done)
            return one if done else None

        if side_by_side == 1:
            found = [fit(number) for number in range(self.models)]
        else:
            with ThreadPoolExecutor(side_by_side, "moesaic-denoise") as pool:
                found = list(pool.map(fit, range(self.models)))
        return [one for one in found if one is not None]


@dataclass(slots=True)
class _Watch:
    """The clock of all fits, and what their progress is told; fits on several threads share it."""

    models: int
    seconds: float | None
    progress: Callback | None
    began: float = field(default_factory=time.perf_counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    rounds: int = 0  # in all fits
    done: int = 0  # fits
    stopped: bool = False
    first: tuple[float, float] | None = None  # seconds and share when progress was told first

    def over(self) -> bool:
        """Whether no further mixture is wanted."""
        return self.stopped or (self.seconds is not None and time.perf_counter() - self.began >= self.seconds)

    def finished(self, whole: bool) -> None:
        """A fit ended, whole or not."""
        with self.lock:
            self.done += whole

    def go_on(self, number: int) -> bool:
        """Tell of a round, and say whether fit `number` should go on; the first one always does."""
        with self.lock:
            self.rounds += 1
            if self.progress is not None and not self.stopped:
                self._tell(self.progress)
        return number == 0 or not self.over()

    def _tell(self, progress: Callback) -> None:
        spent = time.perf_counter() - self.began
        each = self.rounds / self.done if self.done else _ROUNDS  # rounds of a fit
        share = min(max(self.done / self.models, self.rounds / (each * self.models)), 0.99)
        left = spent * (1.0 - share) / share
        if self.first is None:
            self.first = (spent, share)
        elif share > self.first[1]:  # the first round compiles the loops, which says nothing of the others
            left = (spent - self.first[0]) * (1.0 - share) / (share - self.first[1])
        if self.seconds is not None:
            left = min(left, max(self.seconds - spent, 0.0))
        told = Progress(
            step=round(1000 * share),
            steps=1000,
            seconds=spent,
            seconds_left=left,
            psnr=math.nan,
            experts=0,
            phase="denoise",
        )
        self.stopped = bool(progress(told))


def _check(
    sigma: float | None,
    models: int,
    experts: int | None,
    seconds: float | None,
    finish: str,
    seed: int,
    threads: int | None,
) -> None:
    """Refuse options that mean nothing.

    Raises:
        ArgumentError: see there.
    """
    wholes = {
        "models": (models, 1, MOST_MODELS),
        "experts": (experts, 1, math.inf),
        "seed": (seed, 0, math.inf),
        "threads": (threads, 1, MOST_THREADS),
    }
    for name, (whole, least, most) in wholes.items():
        if whole is None and name in ("experts", "threads"):
            continue
        if not isinstance(whole, int | np.integer) or isinstance(whole, bool):
            raise ArgumentError(f"{name} ({whole!r}) must be a whole number")
        if not least <= whole <= most:
            bounds = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise ArgumentError(f"{name} ({whole}) must be {bounds}")
    numbers = {"sigma": (sigma, 0.0, MOST_SIGMA), "seconds": (seconds, 1e-3, 1e9)}
    for name, (number, low, high) in numbers.items():
        if number is not None and not _lies(number, low, high):
            raise ArgumentError(f"{name} ({number!r}) must be a number from {low:g} to {high:g}")
    if finish not in _FINISHES:
        raise ArgumentError(f"finish ({finish!r}) is one of {', '.join(_FINISHES)}")


def _lies(number: object, least: float, most: float) -> bool:
    """Whether this is a number in that range; NaN is in none."""
    return isinstance(number, int | float | np.number) and bool(least <= number <= most)
