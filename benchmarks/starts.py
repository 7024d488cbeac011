"""Where kernels begin: by the gradient, from superpixels, or evenly; fits of clean pictures, and of noisy ones.

How many experts and steps a noisy picture is given is chosen for each start on training pictures, and then kept. The
part `pruned`, on the fits of `moesaic.denoise` as they are, has a record of its own, `starts_pruned`.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from benchmarks.noise_estimate import with_noise
from benchmarks.pictures import FOUR, KODAK, gallery, numbers, parser
from benchmarks.record import Record, Row, rows
from moesaic.image import read_picture
from moesaic.mixture.fit import fit_pixels
from moesaic.mixture.fitting import STARTS, FitConfig
from moesaic.mixture.noisy_fit import NoisyConfig, NoisyFit
from moesaic.mixture.observed import Pixels
from moesaic.mixture.render import render

MODULE = "benchmarks.starts"
PARTS = ("choice", "regression", "denoising", "pruned")
EXPERTS, CURVE = (10_000, 2_000), (50, 100, 200, 400)  # of the fits of clean pictures
SIGMAS = (25, 50)
SHARES, STEPS = (300, 150, 75, 40, 20), (50, 100, 200, 400)  # pixels for each expert, and steps, to choose from
MODELS = 3  # fits of each noisy picture, from different seeds: scored one by one, and as their mean
SEEDS = (0, 1)  # of the fits of clean pictures
TRAINING = ("12074", "138032", "299091")  # of bsds500/train
CROP = 240  # px, side of what is taken from the middle of the training pictures


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--seeds", type=numbers, default=SEEDS, metavar="0,1")
    options.add_argument("--curve", type=numbers, default=CURVE, metavar="50,100", help="steps on clean pictures")
    options.add_argument("--experts", type=numbers, default=EXPERTS, metavar="10000,2000", help="on clean pictures")
    options.add_argument("--shares", type=numbers, default=SHARES, metavar="300,150", help="pixels for each expert")
    options.add_argument("--steps", type=numbers, default=STEPS, metavar="25,50", help="steps on noisy pictures")
    asked = options.parse_args(arguments)
    shown = gallery(asked.pictures)
    settings = {"pictures": shown.name, "threads": asked.threads or 1, "noise": "unclipped, default_rng(seed)"}
    few = {source.name: pixels_of(source.read().pixels) for source in shown.only(asked.only or FOUR)}
    parts = asked.parts.split(",")
    if "pruned" in parts:
        kept = Record("starts_pruned", settings=settings, folder=asked.results, resume=asked.resume, module=MODULE)
        bench = Bench(kept, asked.threads or 1)
        bench.warm_up()
        for sigma, how in itertools.product(SIGMAS, STARTS):
            for name, picture in few.items():
                bench.prune(name, picture, sigma, how)
    if parts == ["pruned"]:
        return
    record = Record("starts", settings=settings, folder=asked.results, resume=asked.resume)
    bench = Bench(record, asked.threads or 1)
    if "choice" in parts:
        grid = itertools.product(SIGMAS, asked.shares, asked.steps, STARTS)
        training = training_pictures()
        for sigma, share, steps, how in grid:
            for name, picture in training.items():
                bench.denoise("choice", name, picture, sigma, share, steps, how)
    if "regression" in parts:
        for experts, steps, seed, how in itertools.product(asked.experts, asked.curve, asked.seeds, STARTS):
            for name, picture in few.items():
                bench.regress(name, picture, experts, steps, how, seed)
    if "denoising" in parts:
        for sigma, what, how in itertools.product(SIGMAS, ("single", "mean"), STARTS):
            share, steps = chosen(rows(record.content, "choice"), what, sigma, how)
            for name, picture in few.items():
                bench.denoise("denoising", name, picture, sigma, share, steps, how)


class Bench:
    """Fits that are recorded, unless they are already."""

    def __init__(self, record: Record, threads: int) -> None:
        self.record, self.threads = record, threads

    def regress(self, name: str, picture: np.ndarray, experts: int, steps: int, how: str, seed: int) -> None:
        """A clean picture against itself."""
        row = {"picture": name, "experts": experts, "steps": steps, "start": how, "seed": seed}
        key = key_of(row)
        if not self.record.has("regression", key):
            began = time.perf_counter()
            fitted = self._fit(picture, row, seed)
            row |= {"psnr": decibels(fitted, picture), "seconds": round(time.perf_counter() - began, 3)}
            self.record.put("regression", key, row)
            print(f"regression: {key}: {row['psnr']:.2f} dB", flush=True)

    def denoise(self, section: str, name: str, clean: np.ndarray, sigma: int, share: int, steps: int, how: str) -> None:
        """Several fits of a noisy picture against the clean one, and their mean."""
        row = {"picture": name, "sigma": sigma, "share": share, "steps": steps, "start": how}
        key = key_of(row)
        if not self.record.has(section, key):
            noisy = with_noise(clean, sigma, 0, clipped=False)
            row["experts"] = round(clean[0].size / share)
            began = time.perf_counter()
            fitted = [self._fit(noisy, row, seed) for seed in range(MODELS)]
            seconds = (time.perf_counter() - began) / MODELS
            row["single"] = round(float(np.mean([decibels(one, clean) for one in fitted])), 3)
            row["mean"] = decibels(np.mean(fitted, axis=0), clean)
            row["seconds"] = round(seconds, 3)
            self.record.put(section, key, row)
            print(f"{section}: {key}: {row['single']:.2f} dB, mean of {MODELS} {row['mean']:.2f} dB", flush=True)

    def prune(self, name: str, clean: np.ndarray, sigma: int, how: str) -> None:
        """The same with the fits of `moesaic.denoise`, which begin with too many kernels and drop what is noise."""
        row: Row = {"picture": name, "sigma": sigma, "start": how}
        key = key_of(row)
        if not self.record.has("pruned", key):
            noisy = with_noise(clean, sigma, 0, clipped=False)
            fits = [self._pruned(noisy, seed, how) for seed in range(MODELS)]
            began = time.perf_counter()
            for one in fits:
                one.settle(sigma, NoisyConfig())
            row["seconds"] = round((time.perf_counter() - began) / MODELS, 3)
            row["experts"] = round(np.mean([len(one.packed.centres) for one in fits]))
            found = [one.render() for one in fits]
            row["single"] = round(float(np.mean([decibels(one, clean) for one in found])), 3)
            row["mean"] = decibels(np.mean(found, axis=0), clean)
            self.record.put("pruned", key, row)
            print(f"pruned: {key}: {row['single']:.2f} dB, mean of {MODELS} {row['mean']:.2f} dB", flush=True)

    def warm_up(self) -> None:
        """Compile, or load from the cache, all that those fits run."""
        noise = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
        for how in STARTS:
            fit = self._pruned(noise, 0, how)
            fit.settle(SIGMAS[0], NoisyConfig())
            fit.render()

    def _pruned(self, noisy: np.ndarray, seed: int, how: str) -> NoisyFit:
        return NoisyFit(noisy, 0, seed, self.threads, None, FitConfig(start=how), Pixels(noisy))

    def _fit(self, target: np.ndarray, row: Row, seed: int) -> np.ndarray:
        config = FitConfig(start=row["start"])
        how = {"experts": row["experts"], "steps": row["steps"], "seed": seed}
        return render(fit_pixels(target, threads=self.threads, config=config, **how)).numpy()


def key_of(row: Row) -> str:
    return "/".join(f"{name} {value}" for name, value in row.items())


def decibels(found: np.ndarray, clean: np.ndarray) -> float:
    error = np.mean((np.clip(found, 0.0, 1.0) - clean) ** 2, dtype=np.float64)
    return round(-10.0 * float(np.log10(error)), 3)


def chosen(found: list[Row], what: str, sigma: int, how: str) -> tuple[int, int]:
    """The pixels for each expert and the steps with the largest mean PSNR over the training pictures."""
    groups: dict[tuple[int, int], list[float]] = {}
    for row in found:
        if (row["sigma"], row["start"]) == (sigma, how):
            groups.setdefault((row["share"], row["steps"]), []).append(row[what])
    if not groups:
        raise SystemExit("the part `denoising` needs the part `choice`")
    return max(groups, key=lambda group: np.mean(groups[group]))


def training_pictures() -> dict[str, np.ndarray]:
    folder = KODAK.parent / "bsds500" / "train"
    if not folder.is_dir():
        raise SystemExit("the training pictures of BSDS500 are not beside the repository")
    return {name: middle(pixels_of(read_picture(folder / f"{name}.jpg").pixels)) for name in TRAINING}


def middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((side - CROP) // 2 for side in picture.shape[1:])
    return np.ascontiguousarray(picture[:, top : top + CROP, left : left + CROP])


def pixels_of(picture: np.ndarray) -> np.ndarray:  # (H, W, C) -> (C, H, W)
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


if __name__ == "__main__":
    main()
