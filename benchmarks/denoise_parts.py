"""What each part of moesaic.denoise is worth: PSNR on crops of training pictures, one thing changed at a time.

The settings of the denoiser were chosen on such crops; the test sets had no part in it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.pictures import KODAK, numbers
from benchmarks.quality import rounded
from benchmarks.record import RESULTS, Record
from moesaic import metrics
from moesaic.mixture.fitting import FitConfig
from moesaic.mixture.leftover import give_back, weigh_cosines
from moesaic.mixture.noisy_fit import NoisyConfig, NoisyFit
from moesaic.mixture.observed import Pixels

Floats = NDArray[np.float32]
TRAINING = KODAK.parent / "train.txt"
SIGMAS = (15, 25, 50)
SIDE = 256  # px
MODELS = 8
MOST = 16
SHIFT = 8  # px, at most


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sigmas", type=numbers, default=SIGMAS, metavar="15,25")
    options.add_argument("--crops", type=int, default=8)
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON goes")
    asked = options.parse_args(arguments)
    pictures = list(crops(asked.crops))
    settings = {"pictures": f"{asked.crops} crops of {SIDE} px from training pictures", "models": MODELS}
    record = Record("denoise_parts", settings=settings, folder=asked.results)
    for sigma in asked.sigmas:
        pairs = [(clean, with_noise(clean, sigma, seed)) for seed, clean in enumerate(pictures)]
        for name, (found, experts) in variants(pairs, sigma):
            scores = [decibels(one, clean) for one, (clean, _) in zip(found, pairs, strict=True)]
            row = {"sigma": sigma, "what": name, "psnr": round(statistics.fmean(scores), 3)}
            row |= {"experts": experts, "each": " ".join(f"{score:.2f}" for score in scores)}
            record.put("parts", f"{sigma}/{name}", row)
            print(f"{sigma} {name}: {row['psnr']} dB, {experts} experts", flush=True)


def variants(pairs: list[tuple[Floats, Floats]], sigma: int) -> Iterator[tuple[str, tuple[list[Floats], int]]]:
    """Results for all crops by what was changed, with the mean number of experts."""
    noisy = [z for _, z in pairs]
    level = sigma / 255.0
    fits = [[one(z, sigma, seed) for seed in range(MOST)] for z in noisy]
    shown = [np.stack([fit.render() for fit in mine]) for mine in fits]
    experts = round(statistics.fmean(len(fit.packed.centres) for mine in fits for fit in mine))
    for count in (1, 2, 4, 8, 16):
        yield f"{count} models", ([pictures[:count].mean(axis=0) for pictures in shown], experts)
    eight = [pictures[:MODELS] for pictures in shown]
    plain = [pictures.mean(axis=0) for pictures in eight]
    returned = [give_back(mean, z, level) for mean, z in zip(plain, noisy, strict=True)]
    yield "8 models, texture given back", (returned, experts)
    full = [weigh_cosines(mean, z, level) for mean, z in zip(returned, noisy, strict=True)]
    yield "8 models, texture given back, cosines weighed (as shipped)", (full, experts)
    direct = [weigh_cosines(mean, z, level) for mean, z in zip(plain, noisy, strict=True)]
    yield "8 models, cosines weighed alone", (direct, experts)
    for name, weigh in WEIGHTS.items():
        yield name, ([weigh(pictures, z, level) for pictures, z in zip(eight, noisy, strict=True)], experts)
    same = partial(fused, noisy, sigma)
    yield "8 models, one seed and 8 shifts", same(seeds=[0] * MODELS, shifted=True)
    yield "8 models, 8 seeds and 8 shifts", same(seeds=list(range(MODELS)), shifted=True)
    for worth in (15.0, 30.0, 120.0, 240.0):
        yield f"8 models, threshold {worth:g} instead of 60", same(config=NoisyConfig(worth=worth))
    for share in (0.5, 1.0, 2.0):
        number = round(share * experts)
        yield f"8 models, {share:g} times the mean number of experts in each crop", same(experts=number)
    yield (
        "8 models, half as many kernels at the start",
        same(config=NoisyConfig(densest=12.0, sparsest=40.0, spacing=1.6)),
    )
    yield (
        "8 models, twice as many kernels at the start",
        same(config=NoisyConfig(densest=3.0, sparsest=10.0, spacing=0.4)),
    )
    yield "8 models, rounds and rest of twice the steps", same(config=NoisyConfig(between=20, rest=48))
    yield "8 models, linear experts", same(order=1)


def one(
    noisy: Floats,
    sigma: float,
    seed: int,
    *,
    config: NoisyConfig | None = None,
    experts: int | None = None,
    order: int = 0,
) -> NoisyFit:
    """One noise-aware fit on one thread."""
    fit = NoisyFit(noisy, order, seed, 1, None, FitConfig(), Pixels(noisy))
    fit.settle(sigma, config or NoisyConfig(), experts=experts)
    return fit


def fused(
    noisy: list[Floats],
    sigma: float,
    *,
    seeds: list[int] | None = None,
    shifted: bool = False,
    config: NoisyConfig | None = None,
    experts: int | None = None,
    order: int = 0,
) -> tuple[list[Floats], int]:
    """The plain average of several fits of each crop; shifted ones see it with mirrored margins, which are cut off."""
    results, counts = [], []
    for z in noisy:
        pictures = []
        for place, seed in enumerate(seeds or range(MODELS)):
            down, right = np.random.default_rng(place).integers(0, SHIFT, 2) if shifted else (0, 0)
            seen = np.ascontiguousarray(np.pad(z, ((0, 0), (down, 0), (right, 0)), mode="symmetric"))
            fit = one(seen, sigma, seed, config=config, experts=experts, order=order)
            pictures.append(fit.render()[:, down:, right:])
            counts.append(len(fit.packed.centres))
        results.append(np.stack(pictures).mean(axis=0))
    return results, round(statistics.fmean(counts))


def by_residual(window: int, pictures: Floats, noisy: Floats, level: float) -> Floats:
    """Weights of one over a model's squared residual, averaged over a window."""
    energy = np.stack([_window((one - noisy) ** 2, window) for one in pictures])  # (M, H, W)
    weights = 1.0 / np.maximum(energy, 1e-3 * level * level)
    return np.asarray(((weights / weights.sum(axis=0))[:, None] * pictures).sum(axis=0), np.float32)


def by_likelihood(window: int, pictures: Floats, noisy: Floats, level: float) -> Floats:
    """Weights of exp(-residual / (2 sigma^2)), the residual summed over a window, as Bayes would weigh them."""
    energy = np.stack([_window((one - noisy) ** 2, window) for one in pictures])
    logits = -0.5 * energy * 3 * window * window / (level * level)
    weights = np.exp(logits - logits.max(axis=0))
    return np.asarray(((weights / weights.sum(axis=0))[:, None] * pictures).sum(axis=0), np.float32)


def median(pictures: Floats, noisy: Floats, level: float) -> Floats:  # noqa: ARG001
    return np.asarray(np.median(pictures, axis=0), np.float32)


WEIGHTS: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "8 models, weights from residuals in 7 px": partial(by_residual, 7),
    "8 models, weights from residuals in 21 px": partial(by_residual, 21),
    "8 models, weights by likelihood in 7 px": partial(by_likelihood, 7),
    "8 models, median instead of mean": median,
}


def _window(errors: Floats, side: int) -> Floats:  # (C, H, W) -> (H, W), means over channels and a square window
    total = errors.mean(axis=0)
    half = side // 2
    for axis in (0, 1):
        margins = [(half, half) if k == axis else (0, 0) for k in (0, 1)]
        padded = np.pad(total, margins, mode="symmetric")
        total = np.stack([np.take(padded, range(k, k + total.shape[axis]), axis=axis) for k in range(side)]).mean(
            axis=0
        )
    return total


def crops(count: int) -> Iterator[Floats]:
    """Squares from training pictures, the same ones each time."""
    if not TRAINING.is_file():
        raise SystemExit("the training pictures are not there: this benchmark needs the data folder beside the project")
    names = [line.strip() for line in TRAINING.read_text(encoding="utf-8").splitlines() if line.strip()]
    random = np.random.default_rng(11)
    for place in random.choice(len(names), count, replace=False):
        with Image.open(TRAINING.parent / names[place]) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        top, left = (int(random.integers(0, size - SIDE + 1)) for size in pixels.shape[:2])
        part = pixels[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
        yield np.ascontiguousarray(part, dtype=np.float32) / np.float32(255)


def with_noise(clean: Floats, sigma: float, seed: int) -> Floats:
    return (clean + np.random.default_rng(seed).normal(0.0, sigma / 255.0, clean.shape)).astype(np.float32)


def decibels(found: Floats, clean: Floats) -> float:
    return metrics.psnr(rounded(found.transpose(1, 2, 0)), clean.transpose(1, 2, 0))


if __name__ == "__main__":
    main()
