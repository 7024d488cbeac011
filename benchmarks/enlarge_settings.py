"""What each part of an enlargement is worth, on crops of training pictures: what the defaults were chosen by."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.enlarge import CLASSIC, eight, warm_up
from benchmarks.record import RESULTS, Record, Row
from benchmarks.super_resolution import RESIZES, SCALES, Eight, made_small, resized, score, training_crops
from moesaic.mixture.enlarge import SAMPLINGS, EnlargeConfig, filled, fit_sampled, mean_picture
from moesaic.mixture.sampling import resize

SHIPPED = EnlargeConfig()
LONG = replace(SHIPPED, fits=1, steps=240, pixels_per_expert=(3.0,), sharpest=100.0)
CHANGES = {
    "as shipped": SHIPPED,
    "one mixture": replace(SHIPPED, fits=1, pixels_per_expert=(5.0,)),
    "three mixtures": replace(SHIPPED, fits=3, pixels_per_expert=(3.0, 5.0, 8.0)),
    "twelve mixtures": replace(SHIPPED, fits=12),
    "all of one size, 5 pixels an expert": replace(SHIPPED, pixels_per_expert=(5.0,)),
    "twice as many experts": replace(SHIPPED, pixels_per_expert=tuple(p / 2 for p in SHIPPED.pixels_per_expert)),
    "half as many experts": replace(SHIPPED, pixels_per_expert=tuple(p * 2 for p in SHIPPED.pixels_per_expert)),
    "half the steps": replace(SHIPPED, steps=SHIPPED.steps // 2),
    "twice the steps": replace(SHIPPED, steps=SHIPPED.steps * 2),
    "four times the steps": replace(SHIPPED, steps=SHIPPED.steps * 4),
    "no bound on sharpness": replace(SHIPPED, sharpest=100.0),
    "sharpness up to 6 per px": replace(SHIPPED, sharpest=6.0),
    "sharpness up to 2 per px": replace(SHIPPED, sharpest=2.0),
    "sharpness up to 1 per px": replace(SHIPPED, sharpest=1.0),
    "total variation, weight 0.001": replace(SHIPPED, variation=0.001),
    "total variation, weight 0.003": replace(SHIPPED, variation=0.003),
    "total variation, weight 0.01": replace(SHIPPED, variation=0.01),
    "no filling": replace(SHIPPED, filling=0),
    "filled once": replace(SHIPPED, filling=1),
    "filled 16 times": replace(SHIPPED, filling=16),
    "one long fit, no bound": LONG,
    "one long fit, no bound, no filling": replace(LONG, filling=0),
    "one long fit, no bound, variation 0.003, no filling": replace(LONG, variation=0.003, filling=0),
    "one long fit, sharpness up to 3 per px, no filling": replace(LONG, sharpest=3.0, filling=0),
}


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--parts", default="settings,samplings", metavar="settings,samplings")
    options.add_argument("--crops", type=int, default=None, help="the first so many, for smoke tests")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    asked = options.parse_args(arguments)
    crops = list(training_crops())[: asked.crops]
    settings = {"crops": len(crops), "side": len(crops[0]), "threads": asked.threads, "seed": 0}
    record = Record("enlarge_settings", settings=settings, folder=asked.results, resume=asked.resume)
    warm_up(asked.threads)
    if "settings" in asked.parts:
        for scale in SCALES:
            for name in (*CLASSIC, "lanczos, back-projected"):
                _put(record, "settings", name, scale, [_classic(crop, scale, name) for crop in crops])
        for name, config in CHANGES.items():
            for scale in SCALES:
                if record.has("settings", f"{name}/x{scale}"):
                    continue
                rows = [_ours(crop, scale, config, "bicubic", "bicubic", asked.threads) for crop in crops]
                _put(record, "settings", name, scale, rows)
    if "samplings" in asked.parts:
        for made, sampling in ((made, sampling) for made in RESIZES for sampling in (*SAMPLINGS, "by lanczos")):
            if record.has("samplings", f"{made} as {sampling}/x2"):
                continue
            if sampling == "by lanczos":
                rows = [_classic(crop, 2, "lanczos", made) for crop in crops]
            else:
                rows = [_ours(crop, 2, SHIPPED, made, sampling, asked.threads) for crop in crops]
            _put(record, "samplings", f"{made} as {sampling}", 2, rows)


def _put(record: Record, section: str, name: str, scale: int, rows: list[Row]) -> None:
    means = {what: round(statistics.fmean(row[what] for row in rows), 4) for what in rows[0]}
    record.put(section, f"{name}/x{scale}", {"what": name, "scale": scale, **means})
    print(f"{section}: {name}, x{scale}: {means['psnr_y']:.3f} dB, {means['seconds']:.2f} s", flush=True)


def _classic(crop: Eight, scale: int, name: str, made: str = "bicubic") -> Row:
    large, small = made_small(crop, scale, made)
    size = (large.shape[1], large.shape[0])
    began = time.perf_counter()
    if name in CLASSIC:
        found = resized(small, size, name)
    else:
        seen = _channels_first(small)
        first = resize("lanczos", (small.shape[1], small.shape[0]), size)(seen)
        found = eight(filled(first, [], seen, "bicubic", SHIPPED.filling))
    return score(found, large, scale) | {"seconds": time.perf_counter() - began}


def _ours(crop: Eight, scale: int, config: EnlargeConfig, made: str, sampling: str, threads: int) -> Row:
    large, small = made_small(crop, scale, made)
    seen = _channels_first(small)
    began = time.perf_counter()
    mixtures = fit_sampled(seen, sampling=sampling, threads=threads, config=config)
    mean = mean_picture(mixtures, (large.shape[1], large.shape[0]))
    found = eight(filled(mean, mixtures, seen, sampling, config.filling))
    return score(found, large, scale) | {"seconds": time.perf_counter() - began}


def _channels_first(picture: Eight) -> np.ndarray:  # (H, W, C) -> (C, H, W) float32 in [0, 1]
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)


if __name__ == "__main__":
    main()
