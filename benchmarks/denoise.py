"""moesaic.denoise beside non-local means, total variation, wavelets and BM3D: same noise, same measures, one run.

Synthetic noise is `default_rng(place of the picture in its set).normal(0, sigma / 255)` on the float picture, as it is
or clipped and rounded to 8 bits; everyone is told sigma. On real noise everyone is told moesaic's own estimate. Rivals'
strengths were tuned on training pictures. BM3D, which takes long, sees a few of the unclipped pictures. Means are over
pictures, seconds the median of a picture: by the clock, and of all cores together.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.noise_estimate import CBSD68, sets
from benchmarks.pictures import Source, numbers, parser
from benchmarks.quality import rounded
from benchmarks.record import Record, Row
from moesaic import metrics, read_picture
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.denoise import MODELS, denoise_pixels, unclip
from moesaic.mixture.noise import estimate_noise

Pixels = NDArray[np.float32]  # (H, W, 3)
Method = Callable[[Pixels, float], dict[str, Pixels]]  # a noisy picture and sigma to results by name

SIGMAS = (25, 50, 15)
NOISES = ("unclipped", "clipped")
PARTS = ("synthetic", "real")
EVERY = {"kodak": {"unclipped": 1, "clipped": 2}, "cbsd68": {"unclipped": 2, "clipped": 4}}  # pictures of a set
EVERY_REAL = {"PolyU": 5, "CC15": 1}
FEW = {"kodak": (1, 5, 9, 13, 17, 21), "cbsd68": (1, 14, 27, 40, 53, 66)}  # where BM3D's half minute a picture is spent
REAL = CBSD68.parents[1] / "real_noise"
NLM = {15: 0.65, 25: 0.55, 50: 0.48}  # times sigma: the strength tuned on training pictures
TV = {15: 0.6, 25: 0.7, 50: 0.85}  # times sigma / 255


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--sigmas", type=numbers, default=SIGMAS, metavar="15,25")
    options.add_argument("--noises", default=",".join(NOISES), metavar=",".join(NOISES))
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--models", type=int, default=MODELS)
    asked = options.parse_args(arguments)
    threads = asked.threads or default_threads()
    versions = {name: _version(name) for name in ("PyWavelets", "bm3d")}
    settings = {"threads": threads, "models": asked.models, "sigmas": list(asked.sigmas)} | versions
    record = Record("denoise", settings=settings, folder=asked.results, resume=asked.resume)
    ours = partial(mixtures, models=asked.models, threads=threads)
    if versions["PyWavelets"] == "not installed":
        raise SystemExit("scikit-image's wavelets need PyWavelets: pip install PyWavelets (and bm3d for BM3D)")
    warm_up(ours)
    if "synthetic" in asked.parts:
        for (name, sources), noise, sigma in itertools.product(sets(), asked.noises.split(","), asked.sigmas):
            if not record.has("synthetic", f"{name}/{noise}/{sigma}"):
                row = synthetic(name, sources, noise, sigma, ours, asked.only)
                record.put("synthetic", f"{name}/{noise}/{sigma}", row)
                print(describe(row), flush=True)
    if "real" in asked.parts and REAL.is_dir():
        for name, pairs in real().items():
            if not record.has("real", name):
                row = measured(name, pairs if asked.only is None else pairs[: len(asked.only)], ours)
                record.put("real", name, row)
                print(describe(row), flush=True)


def mixtures(noisy: Pixels, sigma: float, *, models: int, threads: int) -> dict[str, Pixels]:
    """The result, and beside it the plain average of the mixtures and the first mixture by itself."""
    pixels = np.ascontiguousarray(noisy.transpose(2, 0, 1))
    clean, fitted = denoise_pixels(pixels, sigma, models=models, threads=threads)
    shown = [mixture.render().numpy() for mixture in fitted] or [clean]
    mean = np.mean(shown, axis=0, dtype=np.float64).astype(np.float32)
    found = {"moesaic": clean, f"fusion of {models}": unclip(mean, pixels, sigma)}
    found["one mixture"] = unclip(shown[0], pixels, sigma)
    return {name: result.transpose(1, 2, 0) for name, result in found.items()}


def untouched(noisy: Pixels, sigma: float) -> dict[str, Pixels]:  # noqa: ARG001
    return {"noisy": noisy}


def non_local_means(noisy: Pixels, sigma: float) -> dict[str, Pixels]:
    from skimage.restoration import denoise_nl_means

    level = sigma / 255.0
    how = {"patch_size": 5, "patch_distance": 6, "fast_mode": True, "sigma": level, "channel_axis": 2}
    return {"NLM": denoise_nl_means(noisy, h=_between(NLM, sigma) * level, **how)}


def total_variation(noisy: Pixels, sigma: float) -> dict[str, Pixels]:
    from skimage.restoration import denoise_tv_chambolle

    return {"TV": denoise_tv_chambolle(noisy, weight=_between(TV, sigma) * sigma / 255.0, channel_axis=2)}


def wavelets(noisy: Pixels, sigma: float) -> dict[str, Pixels]:
    from skimage.restoration import denoise_wavelet

    how = {"convert2ycbcr": True, "channel_axis": 2, "method": "BayesShrink", "rescale_sigma": True}
    return {"wavelets": denoise_wavelet(noisy, sigma=sigma / 255.0, **how)}


def bm3d(noisy: Pixels, sigma: float) -> dict[str, Pixels]:
    from bm3d import bm3d_rgb

    return {"BM3D": bm3d_rgb(noisy, sigma / 255.0)}


def _between(strengths: dict[int, float], sigma: float) -> float:
    return float(np.interp(sigma, list(strengths), list(strengths.values())))


def methods(ours: Method, with_bm3d: bool) -> list[Method]:
    chosen: list[Method] = [untouched, ours, non_local_means, total_variation, wavelets]
    return [*chosen, bm3d] if with_bm3d and _version("bm3d") != "not installed" else chosen


def synthetic(
    name: str, sources: list[Source], noise: str, sigma: int, ours: Method, only: tuple[int, ...] | None
) -> Row:
    """All methods on one set at one level, and all of them on the few pictures that BM3D has seen, too."""
    everyone, few = Scores(), Scores()
    for number, source in enumerate(sources, start=1):
        if (only is not None and number not in only) or (number - 1) % EVERY.get(name, {}).get(noise, 1):
            continue
        clean = source.read().pixels
        noisy = (clean + np.random.default_rng(number - 1).normal(0.0, sigma / 255.0, clean.shape)).astype(np.float32)
        if noise == "clipped":
            noisy = rounded(noisy)
        among = noise == "unclipped" and number in FEW.get(name, (1,))
        for method in methods(ours, among):
            for result in run(method, noisy, sigma, clean):
                if result["method"] != "BM3D":
                    everyone.add(result)
                if among:
                    few.add(result)
    return {
        "set": name,
        "noise": noise,
        "sigma": sigma,
        "all": everyone.summary(),
        "few": few.summary(),
    }


def real() -> dict[str, list[tuple[Path, Path]]]:
    """Noisy photographs and their references, the mean of many exposures."""
    found = {}
    for name, folder, end in (("PolyU", "polyu_cropped", "JPG"), ("CC15", "cc15_part", "png")):
        noisy = sorted((REAL / folder).glob(f"*real.{end}"))
        noisy = noisy[:: EVERY_REAL[name]]
        found[name] = [(path, path.with_name(path.name.replace(f"real.{end}", f"mean.{end}"))) for path in noisy]
    return found


def measured(name: str, pairs: list[tuple[Path, Path]], ours: Method) -> Row:
    """All methods on real noise, told moesaic's estimate; BM3D on the smaller set alone."""
    scores, sigmas = Scores(), []
    for noisy_path, clean_path in pairs:
        noisy, clean = read_picture(noisy_path).pixels, read_picture(clean_path).pixels
        sigma = estimate_noise(np.ascontiguousarray(noisy.transpose(2, 0, 1)))
        sigmas.append(sigma)
        for method in methods(ours, with_bm3d=name == "CC15"):
            for result in run(method, noisy, sigma, clean):
                scores.add(result)
    told = [round(min(sigmas), 2), round(statistics.median(sigmas), 2), round(max(sigmas), 2)]
    return {"set": name, "sigma_least_median_most": told, "all": scores.summary()}


def run(method: Method, noisy: Pixels, sigma: float, clean: Pixels) -> Iterator[Row]:
    """What a method makes of a picture, measured."""
    wall, processor = time.perf_counter(), time.process_time()
    results = method(noisy, float(sigma))
    spent = {"seconds": time.perf_counter() - wall, "core_seconds": time.process_time() - processor}
    for name, result in results.items():
        eight = rounded(result)
        yield {"method": name, "psnr": metrics.psnr(eight, clean), "ssim": metrics.ssim(eight, clean)} | spent


class Scores:
    """Figures of several methods over several pictures."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}

    def add(self, row: Row) -> None:
        """Take in one result of `run`."""
        self.rows.setdefault(row["method"], []).append(row)

    def summary(self) -> dict[str, Row]:
        """Means and medians by method."""
        return {
            name: {
                "pictures": len(rows),
                "psnr": round(statistics.fmean(r["psnr"] for r in rows), 3),
                "ssim": round(statistics.fmean(r["ssim"] for r in rows), 4),
                "seconds": round(statistics.median(r["seconds"] for r in rows), 3),
                "core_seconds": round(statistics.median(r["core_seconds"] for r in rows), 3),
                "each": " ".join(f"{r['psnr']:.2f}" for r in rows),  # dB, in the order of the pictures
            }
            for name, rows in self.rows.items()
        }


def describe(row: Row) -> str:
    """One line of progress."""
    told = " ".join(str(row[key]) for key in ("set", "noise", "sigma") if key in row)
    return f"{told}: " + ", ".join(f"{name} {found['psnr']:.2f}" for name, found in row["all"].items())


def warm_up(ours: Method) -> None:
    """Compile the loops before anything is timed."""
    ours(np.random.default_rng(0).uniform(size=(48, 48, 3)).astype(np.float32), 25.0)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
