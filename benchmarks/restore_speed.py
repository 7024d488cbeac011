"""How long restoration takes and how much memory it holds, beside non-local means in the same run.

A picture of 481x321 (the first of CBSD68 with noise) in one piece: rivals take turns, in a process of their own for
each number of threads, and medians count; routes are the chosen one and those of the cheapest and the dearest expert
everywhere. A picture of 12 megapixels (a Kodak picture, enlarged) goes in tiles under one decision, as in
`moesaic.restore`, once after a warm-up. Non-local means has one thread whatever it is given. Peaks are those of the
whole process. Seconds are those of a machine that had other work, too: ratios within a row say more.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import restore_sets
from benchmarks.classic import nlm
from benchmarks.memory import apart, forget_peak, peak_mib
from benchmarks.pictures import KODAK, numbers
from benchmarks.record import Record, Row
from benchmarks.restore import thawed
from benchmarks.restore_network import Pixels, as_batch, identity, network, parser
from benchmarks.timing import alternate
from moesaic import read_picture

SIGMA = 25.0
THREADS = (1, 2)


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--threads", type=numbers, default=THREADS, metavar="1,2")
    options.add_argument("--turns", type=int, default=9, help="of each rival on the small picture")
    options.add_argument("--megapixels", type=float, default=12.0, help="of the large picture; 0: none")
    asked = options.parse_args(arguments)
    settings = {"model": identity(asked.model), "turns": asked.turns}
    settings |= {"megapixels": asked.megapixels, "shared_machine": True}
    record = Record("restore_speed", settings=settings, folder=asked.results, resume=asked.resume)
    for threads in asked.threads:
        key = f"{threads} thread{'s' * (threads > 1)}"
        if not record.has("small", key):
            row = apart(small, asked.model, threads, asked.turns)
            if threads == asked.threads[0]:
                row["peak_mib"] = {name: apart(peak, asked.model, name, 0.0, threads)["peak_mib"] for name in WORKS}
            record.put("small", key, row)
            print(key, row, flush=True)
    for name, threads in itertools.product(WORKS if asked.megapixels else (), asked.threads):
        key = f"{name}, {threads} thread{'s' * (threads > 1)}"
        if not record.has("large", key) and not (name == "NLM" and threads > 1):
            record.put("large", key, apart(peak, asked.model, name, asked.megapixels, threads))
            print(key, record.content["results"]["large"][key], flush=True)


def small(model: str, threads: int, turns: int) -> Row:
    """Medians of milliseconds, and ratios to non-local means in the same turn."""
    import torch

    torch.set_num_threads(threads)
    pixels = thawed(restore_sets.entries("noise_25")[0])[0]
    x, found = as_batch(pixels), network(model)
    gates = list(found.gates())
    rivals: dict[str, Callable[[], Any]] = {
        "NLM": lambda: nlm(pixels, SIGMA),
        "chosen": lambda: found(x),
        "cheapest": lambda: found.decoded(found.encoded(x), [torch.tensor([0]) for _ in gates]),
        "dearest": lambda: found.decoded(found.encoded(x), [torch.tensor([gate.experts - 1]) for gate in gates]),
    }
    with torch.inference_mode():
        spent = alternate(rivals, turns=turns, budget=20.0)
    return {
        "threads": threads,
        "size": "x".join(map(str, reversed(pixels.shape[:2]))),
        "milliseconds": {name: round(statistics.median(mine), 1) for name, mine in spent.items()},
        "times_nlm": {
            name: round(statistics.median(a / b for a, b in zip(mine, spent["NLM"], strict=True)), 3)
            for name, mine in spent.items()
        },
    }


def peak(model: str, name: str, megapixels: float, threads: int) -> Row:
    """One run of a method on a picture of that many megapixels, or on the small one, and the most memory it held."""
    import torch

    torch.set_num_threads(threads)
    pixels = large(megapixels) if megapixels else thawed(restore_sets.entries("noise_25")[0])[0]
    work = functools.partial(WORKS[name], model)
    work(pixels[:256, :256])
    forget_peak()
    before, began, processor = peak_mib(), time.perf_counter(), time.process_time()
    work(pixels)
    return {
        "method": name,
        "threads": threads,
        "size": "x".join(map(str, reversed(pixels.shape[:2]))),
        "seconds": round(time.perf_counter() - began, 2),
        "core_seconds": round(time.process_time() - processor, 2),
        "peak_mib": peak_mib(),
        "before_mib": before,
    }


def tiled(model: str, pixels: Pixels) -> Pixels:
    """A picture restored as `moesaic.restore` does it: under one decision, in tiles if it is large."""
    from moesaic.restore.tiled import restore_tiled

    restored = restore_tiled(network(model), as_batch(pixels))[0]
    return restored[0].permute(1, 2, 0).numpy()


def large(megapixels: float) -> Pixels:
    """A Kodak picture enlarged to that many megapixels, 4 to 3, with noise."""
    from PIL import Image

    paths = sorted(KODAK.glob("*.png"))
    if not paths:
        raise SystemExit("the Kodak pictures are not there: they belong into the data folder beside the project")
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    source = np.round(read_picture(paths[0]).pixels * 255).astype(np.uint8)
    enlarged = Image.fromarray(source).resize((round(height * 4 / 3), height), Image.Resampling.BICUBIC)
    pixels = np.asarray(enlarged, dtype=np.float32) / 255
    noise = np.random.default_rng(0).standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels + noise * np.float32(SIGMA / 255), 0, 1)


def non_local_means(model: str, pixels: Pixels) -> Pixels:  # noqa: ARG001
    """The rival, told sigma."""
    return nlm(pixels, SIGMA)


WORKS: dict[str, Callable[[str, Pixels], Pixels]] = {"network": tiled, "NLM": non_local_means}


if __name__ == "__main__":
    main()
