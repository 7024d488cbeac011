"""The pictures of docs/restoration.md: crops of damaged pictures, of what the network makes of them, and of clean ones.

Each strip is input, restored, clean, from left to right. Frozen sets are CBSD68; noise is on a Kodak picture, and one
strip is of a photograph that others put rain on.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import restore_sets
from benchmarks.pictures import KODAK
from benchmarks.quality import rounded
from benchmarks.record import ROOT
from benchmarks.restore import DATA, both, noisy, thawed
from benchmarks.restore_network import DEFAULT, Pixels, restored
from benchmarks.restore_scores import psnr

SIDE = 240  # px
GAP = 4  # px of white between
LIMIT = 700_000  # bytes of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row.

    Args:
        caption: of the page.
        read: damaged and clean.
        left: of the crop, px.
        top: of the crop, px.
    """

    caption: str
    read: Callable[[], tuple[Pixels, Pixels]]
    left: int
    top: int


def strips() -> dict[str, Strip]:
    """By name, which is that of the file, too."""

    def frozen(name: str, place: int) -> Callable[[], tuple[Pixels, Pixels]]:
        return lambda: thawed(restore_sets.entries(name)[place])

    rainy = DATA / "rain" / "didn_part" / "rain" / "input1.png"
    return {
        "noise": Strip(
            caption="Noise of sigma 25, clipped (Kodak 23)",
            read=functools.partial(noisy, KODAK / "kodim23.png", 22, sigma=25, clipped=True),
            left=150,
            top=90,
        ),
        "rain": Strip(caption="Rain (CBSD68)", read=frozen("rain", 20), left=60, top=40),
        "haze": Strip(caption="Haze (CBSD68)", read=frozen("haze", 40), left=60, top=40),
        "snow": Strip(caption="Snow (CBSD68)", read=frozen("snow", 12), left=60, top=40),
        "motion_blur": Strip(caption="Motion blur (CBSD68)", read=frozen("motion_blur", 25), left=60, top=40),
        "low_light": Strip(caption="Low light (CBSD68)", read=frozen("low_light", 18), left=60, top=40),
        "jpeg": Strip(caption="JPEG of quality 10 (CBSD68)", read=frozen("jpeg_10", 30), left=60, top=40),
        "real_rain": Strip(
            caption="Rain that others rendered (DDN)",
            read=functools.partial(both, rainy, rainy.parents[1] / "clean" / rainy.name),
            left=60,
            top=40,
        ),
    }


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default=DEFAULT, metavar="NAME|FILE", help="weights by name, file or run's folder")
    options.add_argument("--strips", metavar="NAMES", help="some of them, with commas between")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    found = strips()
    for name in asked.strips.split(",") if asked.strips else found:
        strip = found[name]
        damaged, clean = strip.read()
        after = restored(asked.model, damaged)
        path = asked.docs / "images" / f"restore_{name}.png"
        write(path, [crop(one, strip.left, strip.top) for one in (damaged, after, clean)])
        print(f"{strip.caption}: {psnr(damaged, clean):.2f} to {psnr(after, clean):.2f} dB, {path.name}", flush=True)


def crop(pixels: Pixels, left: int, top: int) -> np.ndarray:  # (h, w, 3) uint8
    """`SIDE` px of a picture, fewer where it ends."""
    return np.round(rounded(pixels[top : top + SIDE, left : left + SIDE]) * 255).astype(np.uint8)


def write(path: Path, shown: list[np.ndarray]) -> None:
    """Crops of one size side by side, as a PNG of at most `LIMIT` bytes; with a palette where it would be larger."""
    gap = np.full((shown[0].shape[0], GAP, 3), 255, np.uint8)
    row = np.concatenate([part for one in shown for part in (one, gap)][:-1], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(row).save(path, optimize=True)
    if path.stat().st_size > LIMIT:
        Image.fromarray(row).quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
