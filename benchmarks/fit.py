"""Quality of moesaic.fit against time, steps and number of experts, with the spread over seeds and the memory held.

Times are those of the call on a picture that has been read, after one small fit that compiles or loads the loops.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import memory, quality
from benchmarks.pictures import FOUR, Source, gallery, numbers, parser
from benchmarks.record import ROOT, Record
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.fit import STEPS, fit
from moesaic.mixture.render import render

if TYPE_CHECKING:
    from moesaic.image import Picture
    from moesaic.mixture.model import Mixture

PARTS = ("pictures", "curve", "seeds", "orders", "large")
CURVE = (50, 100, 200, 400, 700)  # steps
SEEDS = (0, 1, 2)
LARGE = (2048, 1365)  # px
LARGE_EXPERTS, LARGE_STEPS = 50_000, 20  # memory does not grow with the steps
HIRES = ROOT.parent / "shared" / "data" / "hires"


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=numbers, default=(10_000, 2_000), metavar="10000,2000")
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--steps", type=int, default=None, help="in place of the default of fit, for smoke tests")
    options.add_argument("--curve", type=numbers, default=CURVE, metavar="50,100", help="steps of the curve")
    asked = options.parse_args(arguments)
    parts = asked.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise SystemExit(f"--parts takes {', '.join(PARTS)}")
    shown = gallery(asked.pictures)
    threads = asked.threads or default_threads()
    settings = {"pictures": shown.name, "threads": threads, "steps": asked.steps or STEPS, "seed": 0}
    record = Record("fit", settings=settings, folder=asked.results, resume=asked.resume)
    few = shown.only(asked.only or FOUR)
    plain = {"order": 0, "seed": 0, "steps": asked.steps}
    runs: list[tuple[str, Source, dict[str, Any]]] = []
    if "pictures" in parts:
        pairs = itertools.product(shown.only(asked.only), asked.experts)
        runs += [("pictures", source, plain | {"experts": n}) for source, n in pairs]
    if "curve" in parts:
        triples = itertools.product(few, asked.experts, asked.curve)
        runs += [("curve", source, plain | {"experts": n, "steps": steps}) for source, n, steps in triples]
    if "seeds" in parts:
        triples = itertools.product(few, asked.experts, SEEDS)
        runs += [("seeds", source, plain | {"experts": n, "seed": seed}) for source, n, seed in triples]
    if "orders" in parts:
        for source, n in itertools.product(few, asked.experts):
            runs.append(("orders", source, plain | {"experts": equal_size(n), "order": 1}))
    for order in sorted({how["order"] for _, _, how in runs}):
        warm_up(order, threads)
    pictures: dict[str, Picture] = {}
    for section, source, how in runs:
        key = "/".join([source.name, *(f"{name} {value}" for name, value in how.items() if value is not None)])
        if record.has(section, key):
            continue
        if source.name not in pictures:
            pictures = {source.name: source.read()}
        row = {"picture": source.name} | measure(pictures[source.name], threads, **how)
        record.put(section, key, row)
        print(f"{section}: {key}: {row['psnr']:.2f} dB, SSIM {row['ssim']:.4f}, {row['seconds']:.1f} s", flush=True)
    if "large" in parts and not record.has("large", "large"):
        row = memory.apart(large, threads)
        record.put("large", "large", row)
        print(f"large: {row['width']}x{row['height']}: {row['seconds']:.1f} s, {row['peak_mib']} MiB", flush=True)


def equal_size(experts: int) -> int:
    """How many linear experts have as many numbers as so many constant ones: 15 each against 9, prior included."""
    return max(1, round(experts * 9 / 15))


def warm_up(order: int, threads: int) -> None:
    """Compile, or load from the cache, all that a fit of RGB pictures runs."""
    noise = np.random.default_rng(0).random((96, 96, 3), dtype=np.float32)
    render(fit(noise, experts=150, steps=80, order=order, threads=threads))


def measure(
    picture: Picture, threads: int, *, experts: int, steps: int | None, order: int, seed: int
) -> dict[str, Any]:
    """One fit: seconds, quality, and the most memory that the process held in it."""
    counted = memory.forget_peak()
    start = time.perf_counter()
    mixture = fit(picture, experts=experts, steps=steps, order=order, seed=seed, threads=threads)
    seconds = time.perf_counter() - start
    peak = memory.peak_mib() if counted else None
    return {
        "experts": experts,
        "order": order,
        "seed": seed,
        "steps": steps or STEPS,
        "seconds": round(seconds, 3),
        "peak_mib": peak,
        **quality.score(pixels(mixture), picture.pixels),
    }


def pixels(mixture: Mixture) -> np.ndarray:  # (H, W, C)
    """The mixture drawn at its canvas's size."""
    return np.ascontiguousarray(render(mixture).numpy().transpose(1, 2, 0))


def large(threads: int) -> dict[str, Any]:
    """A short fit of a large picture with many experts, meant for a process of its own."""
    name, picture = large_picture()
    start = time.perf_counter()
    mixture = fit(picture, experts=LARGE_EXPERTS, steps=LARGE_STEPS, threads=threads)
    seconds = time.perf_counter() - start
    peak = memory.peak_mib()
    return {
        "picture": name,
        "width": picture.width,
        "height": picture.height,
        "experts": LARGE_EXPERTS,
        "steps": LARGE_STEPS,
        "seconds": round(seconds, 3),
        "peak_mib": peak,
        **quality.score(pixels(mixture), picture.pixels),
    }


def large_picture() -> tuple[str, Picture]:
    """A photograph of about LARGE size, turned, cropped or its edge mirrored to it; or else a small one repeated."""
    from moesaic import read_picture

    width, height = LARGE
    for path in sorted(HIRES.glob("*.png")) if HIRES.is_dir() else []:
        image = read_picture(path).pixels[..., :3]
        if image.shape[0] > image.shape[1]:
            image = np.rot90(image)
        missing = max(0, height - image.shape[0]), max(0, width - image.shape[1])
        if max(missing) <= 16:
            whole = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
            return "a photograph", read_picture(np.ascontiguousarray(whole[:height, :width]))
    from skimage import data

    one = data.astronaut()
    times = (-(-height // one.shape[0]), -(-width // one.shape[1]), 1)
    return "a repeated photograph", read_picture(np.ascontiguousarray(np.tile(one, times)[:height, :width]))


if __name__ == "__main__":
    main()
