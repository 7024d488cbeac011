"""The estimate of noise against the noise that was added, on Kodak and CBSD68, beside scikit-image's estimate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks.pictures import KODAK, Source, gallery, numbers
from benchmarks.record import RESULTS, Record, Row
from moesaic.mixture.noise import estimate_noise

SIGMAS = (5, 10, 15, 25, 50, 75)
CBSD68 = KODAK.parent / "cbsd68" / "CBSD68.tsv"


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sigmas", type=numbers, default=SIGMAS, metavar="5,25")
    options.add_argument("--first", type=int, default=None, help="pictures of each set, for smoke tests")
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON goes")
    asked = options.parse_args(arguments)
    try:
        wavelets = metadata.version("PyWavelets")
    except metadata.PackageNotFoundError:
        raise SystemExit("scikit-image's estimate needs PyWavelets: pip install PyWavelets") from None
    from skimage.restoration import estimate_sigma

    methods: dict[str, Callable[[np.ndarray], float]] = {
        "moesaic": estimate_noise,
        "scikit-image": lambda noisy: 255.0 * root_mean_square(estimate_sigma(noisy, channel_axis=0)),
    }
    settings = {"noise": "default_rng(place of the picture in its set)", "pywavelets": wavelets}
    record = Record("noise_estimate", settings=settings, folder=asked.results)
    for name, sources in sets():
        pictures = [s.read().pixels.transpose(2, 0, 1) for s in sources[: asked.first]]
        for sigma in asked.sigmas:
            for kind in ("unclipped", "clipped"):
                ratios: dict[str, list[float]] = {method: [] for method in methods}
                seconds = dict.fromkeys(methods, 0.0)
                for seed, picture in enumerate(pictures):
                    noisy = with_noise(picture, sigma, seed, clipped=kind == "clipped")
                    for method, estimate in methods.items():
                        began = time.perf_counter()
                        ratios[method].append(estimate(noisy) / sigma)
                        seconds[method] += time.perf_counter() - began
                for method, found in ratios.items():
                    row = {"set": name, "pictures": len(pictures), "noise": kind, "sigma": sigma, "method": method}
                    row |= summary(found) | {"seconds": round(seconds[method] / len(pictures), 4)}
                    record.put("ratios", f"{name}/{kind}/{sigma}/{method}", row)
                    print(
                        f"{name} {kind} {sigma} {method}: {row['mean']} ({row['least']} to {row['most']}), "
                        f"{row['beyond']} beyond 10 %",
                        flush=True,
                    )


def sets() -> Iterator[tuple[str, list[Source]]]:
    """Kodak and CBSD68, or the photographs of scikit-image where they are not there."""
    shown = gallery()
    yield shown.name, list(shown.sources)
    if CBSD68.is_file():
        lines = CBSD68.read_text(encoding="utf-8").splitlines()[1:]
        paths = [CBSD68.parents[1] / line.split("\t")[1] for line in lines]
        yield "cbsd68", [Source(name=path.stem, path=path) for path in paths]


def with_noise(picture: np.ndarray, sigma: float, seed: int, *, clipped: bool) -> np.ndarray:
    """White Gaussian noise in float32, or clipped and rounded to 8 bits as a file would hold it."""
    noisy = picture + np.random.default_rng(seed).normal(0.0, sigma / 255.0, picture.shape)
    if clipped:
        noisy = np.rint(255.0 * np.clip(noisy, 0.0, 1.0)) / 255.0
    return noisy.astype(np.float32)


def summary(ratios: list[float]) -> Row:
    """Estimate over truth: the mean, the extremes, and how many are more than 10 % off."""
    return {
        "mean": round(float(np.mean(ratios)), 4),
        "least": round(min(ratios), 4),
        "most": round(max(ratios), 4),
        "beyond": sum(abs(ratio - 1.0) > 0.1 for ratio in ratios),
    }


def root_mean_square(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
