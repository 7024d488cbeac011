"""Upscaling beside bicubic, Lanczos and the steered mixture's enlarging: clean shrinks, three severities, a camera.

PSNR and SSIM are of Y, without as many border pixels as the scale; HaarPSI is of Y, too. Means are over pictures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.haar_psi import haar_psi
from benchmarks.record import RESULTS, Record, Row
from benchmarks.super_resolution import SETS, Eight, eight_bits, luma, resized, score
from benchmarks.upscale_sets import CAMERA, SORTS, Case, cases

CLASSIC = ("bicubic", "lanczos")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="compact_upscale", help="a name, or a weights file")
    options.add_argument("--sets", default=",".join((*SETS, CAMERA)), metavar="NAME,...")
    options.add_argument("--every", type=int, default=1, metavar="N", help="each so many-th picture of a set")
    options.add_argument(
        "--mixtures", type=int, default=0, metavar="N", help="and of these, by steered mixtures; 0: no"
    )
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    asked = options.parse_args(arguments)
    settings = {"model": identity(asked.model), "every": asked.every, "mixtures": asked.mixtures}
    record = Record("upscale", settings=settings, folder=asked.results, resume=asked.resume)
    for name in asked.sets.split(","):
        for sort, scale in _kinds(name):
            for place, case in enumerate(cases(name, sort, scale, asked.every)):
                key = f"{name}/{sort}/x{scale}/{case.picture}"
                if record.has("pictures", key):
                    continue
                mixtures = bool(asked.mixtures) and place % asked.mixtures == 0
                row = {"set": name, "sort": sort, "scale": scale, "picture": case.picture}
                record.put("pictures", key, row | scored(case, asked.model, mixtures=mixtures))
        _tell(record, name)


def _kinds(name: str) -> list[tuple[str, int]]:
    if name == CAMERA:
        return [("camera", 2), ("camera", 4)]
    return [("bicubic", 2), *((sort, 4) for sort in SORTS)]


def scored(case: Case, model: str, *, mixtures: bool) -> Row:
    """Scores of each method, and what the model said of the picture."""
    height, width = case.large.shape[:2]
    methods: dict[str, Callable[[], Eight]] = {
        kernel: lambda kernel=kernel: resized(case.small, (width, height), kernel) for kernel in CLASSIC
    }
    if mixtures:
        from moesaic import enlarge

        methods["mixtures"] = lambda: eight_bits(enlarge(case.small, scale=case.scale).pixels)
    found: Row = {"methods": {}}
    for name, work in methods.items():
        began = time.perf_counter()
        made = work()
        found["methods"][name] = _scores(made, case) | {"seconds": round(time.perf_counter() - began, 3)}
    began = time.perf_counter()
    upscaled = ours(case, model)
    seconds = time.perf_counter() - began
    found["methods"]["moesaic"] = _scores(eight_bits(upscaled.picture.pixels), case) | {"seconds": round(seconds, 3)}
    if upscaled.severity is not None:
        found["severity"] = round(upscaled.severity, 4)
        found["scores"] = {name: round(value, 4) for name, value in upscaled.scores.items()}
        found["ranks"] = sum(used.active for used in upscaled.ranks.values())
    return found


def ours(case: Case, model: str) -> Any:
    """The small picture as the model enlarges it, an `Upscaled`."""
    from moesaic.upscale.use import upscale

    return upscale(case.small, case.scale, network(model))


@lru_cache(maxsize=2)
def network(model: str) -> Any:
    """Loaded once."""
    from moesaic.upscale.use import load_network

    return load_network(model, device="cpu")


def identity(model: str) -> Row:
    """Name, hash and size of what is measured."""
    from moesaic.weights_file import card_of

    card = card_of(network(model))
    return {} if card is None else {"name": card.name, "sha256": card.sha256, "parameters": card.parameters}


def _scores(made: Eight, case: Case) -> Row:
    found = score(made, case.large, case.scale)
    inner = (slice(case.scale, -case.scale), slice(case.scale, -case.scale))
    return found | {"haar_psi": round(haar_psi(luma(made[inner]), luma(case.large[inner])), 5)}


def _tell(record: Record, name: str) -> None:
    rows = [row for row in record.content["results"]["pictures"].values() if row["set"] == name]
    for sort, scale in _kinds(name):
        mine = [row["methods"] for row in rows if (row["sort"], row["scale"]) == (sort, scale)]
        means = {method: statistics.fmean(row[method]["psnr_y"] for row in mine) for method in (*CLASSIC, "moesaic")}
        told = ", ".join(f"{method} {value:.2f}" for method, value in means.items())
        print(f"{name} {sort} x{scale} ({len(mine)}): {told} dB", flush=True)


if __name__ == "__main__":
    main()
