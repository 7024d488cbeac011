"""How long upscaling takes and how much memory it holds, and whether tiles show.

A Kodak crop of 256x256 in one piece, beside `moesaic enlarge` in turns, in a process of their own for each number of
threads; medians count. A picture of 12 megapixels goes in tiles, as in `moesaic.upscale`, to x4, once after a warm-up;
peaks are those of the whole process, which holds the result, too. Seams are the largest difference of a picture in
tiles to the same in one piece.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.memory import apart, forget_peak, peak_mib
from benchmarks.pictures import KODAK, numbers
from benchmarks.record import RESULTS, Record, Row
from benchmarks.restore_speed import large as enlarged_kodak
from benchmarks.timing import alternate
from benchmarks.upscale import identity, network
from moesaic import enlarge, read_picture
from moesaic.upscale.tiled import upscale_tiled
from moesaic.upscale.use import upscale

THREADS = (1, 2)
SIDE = 256  # px
SCALES = (2, 4)
TILES = (192, 256, 320)  # px


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default="compact_upscale", help="a name, or a weights file")
    options.add_argument("--threads", type=numbers, default=THREADS, metavar="1,2")
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--megapixels", type=float, default=12.0, help="of the large picture; 0: none")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    asked = options.parse_args(arguments)
    settings = {"model": identity(asked.model), "turns": asked.turns}
    settings |= {"megapixels": asked.megapixels, "shared_machine": True}
    record = Record("upscale_speed", settings=settings, folder=asked.results)
    for threads in asked.threads:
        for scale in SCALES:
            record.put("small", f"x{scale}, {threads}", apart(small, asked.model, scale, threads, asked.turns))
            print(record.content["results"]["small"][f"x{scale}, {threads}"], flush=True)
    for tile in TILES:
        record.put("seams", str(tile), {"tile": tile, "difference": seam(asked.model, tile)})
        print(record.content["results"]["seams"][str(tile)], flush=True)
    for scale in SCALES[-1:] if asked.megapixels else ():
        row = apart(peak, asked.model, scale, asked.megapixels, asked.threads[-1])
        record.put("large", f"x{scale}", row)
        print(row, flush=True)


def small(model: str, scale: int, threads: int, turns: int) -> Row:
    """Medians of seconds on the crop."""
    torch.set_num_threads(threads)
    pixels, found = _crop(), network(model)
    rivals: dict[str, Any] = {
        "mixtures": lambda: enlarge(pixels, scale=scale),
        "moesaic": lambda: upscale(pixels, scale, found),
    }
    spent = alternate(rivals, turns=turns, budget=120.0)
    return {
        "size": f"{SIDE}x{SIDE}",
        "scale": scale,
        "threads": threads,
        "seconds": {name: round(statistics.median(mine) / 1e3, 3) for name, mine in spent.items()},
    }


def peak(model: str, scale: int, megapixels: float, threads: int) -> Row:
    """One picture of that many megapixels, and the most memory that was held."""
    torch.set_num_threads(threads)
    pixels, found = enlarged_kodak(megapixels), network(model)
    upscale(pixels[:SIDE, :SIDE], scale, found)
    forget_peak()
    before, began = peak_mib(), time.perf_counter()
    upscale(pixels, scale, found)
    return {
        "size": "x".join(map(str, reversed(pixels.shape[:2]))),
        "scale": scale,
        "threads": threads,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_mib": peak_mib(),
        "before_mib": before,
    }


def seam(model: str, tile: int) -> float:
    """The largest difference of a Kodak picture in tiles to one piece, at x4."""
    pixels = read_picture(KODAK / "kodim23.png").pixels
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    found = network(model)
    scores = torch.full((1, 4), 0.5)
    with found.mix.merged(scores):
        whole, parts = (upscale_tiled(found, x, 4, tile=side) for side in (10**4, tile))
    return float((whole - parts).abs().max())


def _crop() -> Any:
    pixels = read_picture(KODAK / "kodim23.png").pixels
    return np.ascontiguousarray(pixels[:SIDE, :SIDE])


if __name__ == "__main__":
    main()
