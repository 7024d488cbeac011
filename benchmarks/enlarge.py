"""Enlarging on Set5, Set14, Urban100 and Kodak at x2, x3 and x4, beside what Pillow offers, and crops to look at."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.record import RESULTS, ROOT, Record, Row
from benchmarks.super_resolution import SCALES, SETS, Eight, eight_bits, made_small, pictures, read, resized, score
from moesaic.image import read_picture
from moesaic.mixture.enlarge import EnlargeConfig, enlarge, filled, fit_sampled, mean_picture

CLASSIC = ("nearest", "bicubic", "lanczos")
SHOWN = (  # of Kodak, which may be shown: picture, scale, left, top
    ("kodim19", 3, 396, 330),
    ("kodim08", 3, 330, 170),
    ("kodim23", 4, 440, 110),
    ("kodim05", 2, 330, 130),
)
SIDE, LARGER = 72, 3  # px of a crop, and how many times larger it is shown
Floats = NDArray[np.float32]


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--sets", default=",".join(SETS), metavar=",".join(SETS))
    options.add_argument("--scales", default="2,3,4", metavar="2,3,4")
    options.add_argument("--only", type=int, default=None, metavar="N", help="the first pictures of each set")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--images", type=Path, metavar="DIR", default=None, help="draw crops of Kodak there, no more")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    asked = options.parse_args(arguments)
    if asked.images is not None:
        draw(asked.images, asked.threads)
        return
    config = EnlargeConfig()
    settings = {"threads": asked.threads, "seed": 0, "config": {n: getattr(config, n) for n in config.__slots__}}
    record = Record("enlarge", settings=settings, folder=asked.results, resume=asked.resume)
    warm_up(asked.threads)
    for name in asked.sets.split(","):
        for path in pictures(name)[: asked.only]:
            for scale in [int(text) for text in asked.scales.split(",")]:
                key = f"{name}/{path.stem}/x{scale}"
                if scale not in SCALES or record.has("pictures", key):
                    continue
                large, small = made_small(read(path), scale)
                row: Row = {"set": name, "picture": path.stem, "scale": scale}
                row |= {"width": large.shape[1], "height": large.shape[0]}
                row["methods"] = {
                    method: score(picture, large, scale) | {"seconds": round(seconds, 3)}
                    for method, (picture, seconds) in everything(small, scale, asked.threads).items()
                }
                record.put("pictures", key, row)
                told = ", ".join(f"{method} {found['psnr_y']:.2f}" for method, found in row["methods"].items())
                print(f"{key}: {told} dB; {row['methods']['moesaic']['seconds']:.1f} s", flush=True)


def warm_up(threads: int) -> None:
    """Compile, or load from the cache, all that is timed."""
    noise = np.random.default_rng(0).random((24, 24, 3), dtype=np.float32)
    for sampling in ("point", "bicubic"):
        enlarge(noise, sampling=sampling, threads=threads)


def everything(small: Eight, scale: int, threads: int) -> dict[str, tuple[Eight, float]]:
    """The small picture enlarged by each method, and the seconds that it took."""
    height, width = small.shape[0] * scale, small.shape[1] * scale
    size = (width, height)
    found = {kernel: timed(lambda kernel=kernel: resized(small, size, kernel)) for kernel in CLASSIC}
    seen = np.ascontiguousarray(read_picture(small).pixels.transpose(2, 0, 1))
    rounds = EnlargeConfig().filling
    found["lanczos, back-projected"] = timed(lambda: eight(filled(_lanczos(seen, size), [], seen, "bicubic", rounds)))
    found["mixtures as they are"] = timed(
        lambda: eight_bits(enlarge(small, scale=scale, sampling="point", threads=threads).pixels)
    )
    began = time.perf_counter()
    mixtures = fit_sampled(seen, threads=threads)
    mean = mean_picture(mixtures, size)
    alone = time.perf_counter() - began
    found["mixtures alone"] = eight(mean), alone
    ours, seconds = timed(lambda: eight(filled(mean, mixtures, seen, "bicubic", rounds)))
    found["moesaic"] = ours, alone + seconds
    return found


def _lanczos(seen: Floats, size: tuple[int, int]) -> Floats:
    from moesaic.mixture.sampling import resize

    return resize("lanczos", (seen.shape[2], seen.shape[1]), size)(seen)


def eight(picture: Floats) -> Eight:  # (C, H, W) -> (H, W, C)
    return eight_bits(picture.transpose(1, 2, 0))


def timed(work: Callable[[], Eight]) -> tuple[Eight, float]:
    began = time.perf_counter()
    done = work()
    return done, time.perf_counter() - began


def draw(folder: Path, threads: int) -> None:
    """Strips of crops: what each method makes of an edge, and the truth."""
    columns = {"nearest": "nearest", "bicubic": "bicubic", "lanczos": "Lanczos"}
    columns |= {"mixtures alone": "mixtures alone", "moesaic": "moesaic"}
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {path.stem: path for path in pictures("Kodak")}
    for name, scale, left, top in SHOWN:
        large, small = made_small(read(by_name[name]), scale)
        made = everything(small, scale, threads)
        found = {title: made[method][0] for method, title in columns.items()}
        strip = Image.new("RGB", ((len(found) + 1) * (SIDE * LARGER + 4) - 4, SIDE * LARGER + 16), "white")
        pen = ImageDraw.Draw(strip)
        for column, (title, picture) in enumerate([*found.items(), ("truth", large)]):
            crop = Image.fromarray(picture[top : top + SIDE, left : left + SIDE])
            shown = crop.resize((SIDE * LARGER, SIDE * LARGER), Image.Resampling.NEAREST)
            strip.paste(shown, (column * (SIDE * LARGER + 4), 16))
            pen.text((column * (SIDE * LARGER + 4) + 2, 2), f"{title}, x{scale}" if column == 0 else title, "black")
        strip.save(folder / f"enlarge_{name}_x{scale}.png", optimize=True)
        print(f"{name} x{scale}: {(folder / f'enlarge_{name}_x{scale}.png').relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
