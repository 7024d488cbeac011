"""Predicted mixtures beside fitted ones: quality against time, files, stages, and pictures of other kinds.

Every point of a curve is a call of its own on a picture that has been read, after calls that compile the loops. Rivals
take turns on a picture, so that what else a machine does meets all of them; times are medians over turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import moesaic
from benchmarks import quality
from benchmarks.pictures import Source, gallery, numbers, parser
from benchmarks.record import ROOT, Record, Row
from moesaic.codec.file import decode_bytes, write_plan
from moesaic.codec.quantise import Steps
from moesaic.codec.refit import refit
from moesaic.mixture import colours
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.fit import fit
from moesaic.mixture.fitting import FitConfig
from moesaic.mixture.render import render
from moesaic.mixture.start import begin as begun_by_hand
from moesaic.predict.use import load_network, predict, surplus_of

if TYPE_CHECKING:
    from moesaic.image import Picture
    from moesaic.mixture.model import Mixture

PARTS = ("curve", "long", "rates", "kinds", "large")
FIT_STEPS = (1, 3, 5, 10, 15, 20, 30, 50, 80, 120, 200)
STAGES = (1, 2, 3, 4, 6, 8, 10, 12)
REFINED = (8, 16, 20, 24, 32, 40, 52, 64, 80, 100, 120, 160, 200)  # steps after as many stages as they leave
EARLY = ((1, 4), (1, 8), (1, 16), (2, 8), (2, 16))  # stages and steps, fewer than those
BENT = (4, *REFINED)  # the same steps from the start of a fit, without a network
OTHERS = {"segments": (1, 5, 10, 20, 30, 50, 80, 120, 200), "even": (1, 10, 50, 200)}  # starts, and steps from them
LONG = (3.0, 10.0, 60.0)  # seconds of fitting
SPARSE = (20, 30, 40, 60, 100, 160)  # px for each kernel, of the files
TURNS = 3
HIRES = ROOT.parent / "shared" / "data" / "hires"
KINDS = ("text", "page", "rocket", "retina", "moon", "brick", "astronaut")  # of scikit-image: what training never saw

Maker = Callable[[], "Mixture"]


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=int, default=10_000)
    options.add_argument("--parts", default=",".join(PARTS), metavar=",".join(PARTS))
    options.add_argument("--few", type=numbers, default=(5, 8, 23), metavar="5,8,23", help="pictures of the long fits")
    options.add_argument("--turns", type=int, default=TURNS)
    options.add_argument("--model", default=None, help="a predictor instead of the one that ships")
    asked = options.parse_args(arguments)
    parts = asked.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise SystemExit(f"--parts takes {', '.join(PARTS)}")
    shown, threads = gallery(asked.pictures), asked.threads or default_threads()
    settings = {"pictures": shown.name, "threads": threads, "experts": asked.experts, "seed": 0, "turns": asked.turns}
    record = Record("predict", settings=settings, folder=asked.results, resume=asked.resume)
    bench = _Bench(record, load_network(asked.model), asked.experts, threads, asked.turns)
    bench.warm_up()
    if "curve" in parts:
        for source in shown.only(asked.only):
            bench.curve(source)
    if "long" in parts:
        for source in shown.only(asked.few):
            bench.long(source)
    if "rates" in parts:
        for source in shown.only(asked.only):
            bench.rates(source)
    if "kinds" in parts:
        for name in KINDS:
            bench.kind(Source(name=name, path=None))
    if "large" in parts and HIRES.is_dir():
        for path in sorted(HIRES.glob("*.png")):
            bench.large(Source(name=path.stem.split("_")[0], path=path))


class _Bench:
    def __init__(self, record: Record, network: Any, experts: int, threads: int, turns: int) -> None:
        self.record, self.network, self.experts = record, network, experts
        self.threads, self.turns = threads, turns

    def warm_up(self) -> None:
        picture = np.random.default_rng(0).random((40, 56, 3), dtype=np.float32)
        fitted = [self.fitted(picture, 40, steps, start) for start in ("gradient", *OTHERS) for steps in (2, 120)]
        for make in (*fitted, *(self.predicted(picture, 40, 2, steps) for steps in (20, 120))):
            make()

    def fitted(self, picture: Any, experts: int, steps: int, start: str = "gradient") -> Maker:
        config = FitConfig(start=start)
        return lambda: fit(
            picture, experts=experts, steps=steps, config=config, threads=self.threads, device="cpu", seed=0
        )

    def bent(self, picture: Picture, experts: int, steps: int) -> Maker:
        """The steps of a refinement from the places where a prediction begins too, without its stages."""

        def make() -> Mixture:
            pixels = np.ascontiguousarray(picture.pixels.transpose(2, 0, 1))
            several = round(surplus_of(steps) * experts)
            begun = colours.unpack(begun_by_hand(pixels, several, 0, np.random.default_rng(0)), *pixels.shape[:0:-1])
            return fit(picture, experts=experts, steps=steps, begin=begun, threads=self.threads)

        return make

    def predicted(self, picture: Any, experts: int, stages: int | None, refine: int = 0) -> Maker:
        return lambda: predict(
            picture, experts=experts, model=self.network, stages=stages, refine=refine, threads=self.threads
        )

    def curve(self, source: Source) -> None:
        """Quality against time at equal kernels, by all ways."""
        if self.record.has("curve", source.name):
            return
        picture = source.read()
        ways: dict[str, Maker] = {}
        for steps in FIT_STEPS:
            ways[f"fit/{steps}"] = self.fitted(picture, self.experts, steps)
        for start, counts in OTHERS.items():
            ways |= {f"{start}/{steps}": self.fitted(picture, self.experts, steps, start) for steps in counts}
        for stages in STAGES:
            ways[f"predict/{stages}"] = self.predicted(picture, self.experts, stages)
        for steps in REFINED:
            ways[f"refine/{steps}"] = self.predicted(picture, self.experts, None, steps)
        for stages, steps in EARLY:
            ways[f"early/{stages}+{steps}"] = self.predicted(picture, self.experts, stages, steps)
        for steps in BENT:
            ways[f"bent/{steps}"] = self.bent(picture, self.experts, steps)
        self.record.put("curve", source.name, {"picture": source.name, "points": self._points(picture, ways)})

    def long(self, source: Source) -> None:
        """Fits of many seconds, from the start that a fit takes and from a prediction."""
        if self.record.has("long", source.name):
            return
        picture = source.read()
        points = []
        for seconds in LONG:
            began = time.perf_counter()
            made = fit(picture, experts=self.experts, seconds=seconds, threads=self.threads, device="cpu")
            points.append(_scored(f"fit/{seconds:g} s", made, picture, time.perf_counter() - began))
            began = time.perf_counter()
            start = predict(picture, experts=int(1.5 * self.experts), model=self.network, threads=self.threads)
            left = seconds - (time.perf_counter() - began)
            made = fit(picture, experts=self.experts, seconds=left, begin=start, threads=self.threads)
            points.append(_scored(f"refine/{seconds:g} s", made, picture, time.perf_counter() - began))
        self.record.put("long", source.name, {"picture": source.name, "points": points})
        print(f"long: {source.name}", flush=True)

    def rates(self, source: Source) -> None:
        """Whole files: bytes, quality, and seconds from pixels to a file."""
        if self.record.has("rates", source.name):
            return
        picture = source.read()
        files = []
        for sparse in SPARSE:
            experts = max(1, picture.width * picture.height // sparse)
            for refine in (0, 50, 200):
                began = time.perf_counter()
                encoded = moesaic.encode(picture, experts=experts, fast=True, refine=refine)
                row = {"experts": experts, "refine": refine, "seconds": round(time.perf_counter() - began, 4)}
                figures = {"bpp": round(encoded.bpp, 5), "psnr": round(encoded.psnr, 4), "ssim": round(encoded.ssim, 5)}
                files.append(row | {"bytes": len(encoded.data)} | figures)
        fixed = [self._plain_file(picture, picture.width * picture.height // sparse) for sparse in SPARSE]
        self.record.put("rates", source.name, {"picture": source.name, "files": files, "default_steps": fixed})
        print(f"rates: {source.name}", flush=True)

    def _plain_file(self, picture: Picture, experts: int) -> Row:
        """The file of a prediction with the quantiser's default steps, whatever the picture."""
        target = torch.from_numpy(np.ascontiguousarray(picture.pixels.transpose(2, 0, 1)))
        made = predict(picture, experts=experts, model=self.network, threads=self.threads)
        data = write_plan(refit(made, target, Steps(), rounds=0, threads=self.threads).finished())
        drawn = render(decode_bytes(data).mixture).numpy().transpose(1, 2, 0)
        bits = 8 * len(data) / (picture.width * picture.height)
        return {"bpp": round(bits, 5), **quality.score(drawn, picture.pixels)}

    def kind(self, source: Source) -> None:
        """Pictures that no training saw the like of: what a network makes of them, and what steps of a fit repair."""
        if self.record.has("kinds", source.name):
            return
        picture = _colour(source)
        experts = max(1, picture.width * picture.height // 40)
        ways = {f"fit/{steps}": self.fitted(picture, experts, steps) for steps in (10, 50, 200)}
        ways["predict/8"] = self.predicted(picture, experts, 8)
        ways |= {f"refine/{steps}": self.predicted(picture, experts, None, steps) for steps in (50, 200)}
        row = {"picture": source.name, "width": picture.width, "height": picture.height, "experts": experts}
        self.record.put("kinds", source.name, row | {"points": self._points(picture, ways)})

    def large(self, source: Source) -> None:
        """A picture of many pixels, from pixels to a mixture."""
        if self.record.has("large", source.name):
            return
        picture = source.read()
        experts = max(1, picture.width * picture.height // 40)
        ways = {f"fit/{steps}": self.fitted(picture, experts, steps) for steps in (10, 30, 100)}
        ways["predict/8"] = self.predicted(picture, experts, 8)
        ways["refine/50"] = self.predicted(picture, experts, None, 50)
        row = {"picture": source.name, "width": picture.width, "height": picture.height, "experts": experts}
        self.record.put("large", source.name, row | {"points": self._points(picture, ways)})

    def _points(self, picture: Picture, ways: dict[str, Maker]) -> list[Row]:
        spent: dict[str, list[float]] = {name: [] for name in ways}
        made: dict[str, Mixture] = {}
        for _ in range(self.turns):
            for name, make in ways.items():
                began = time.perf_counter()
                made[name] = make()
                spent[name].append(time.perf_counter() - began)
        points = [_scored(name, made[name], picture, statistics.median(spent[name])) for name in ways]
        print(", ".join(f"{p['way']} {p['seconds']:.3f} s {p['psnr']:.2f} dB" for p in points), flush=True)
        return points


def _scored(way: str, made: Mixture, picture: Picture, seconds: float) -> Row:
    drawn = render(made).numpy().transpose(1, 2, 0)
    return {"way": way, "seconds": round(seconds, 4), "experts": len(made), **quality.score(drawn, picture.pixels)}


def _colour(source: Source) -> Picture:
    """A picture of scikit-image in colour, at most 768 px wide."""
    from PIL import Image
    from skimage import data

    pixels = np.asarray(getattr(data, source.name)())
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((768, 768), Image.Resampling.LANCZOS)
    return moesaic.read_picture(image)


if __name__ == "__main__":
    main()
