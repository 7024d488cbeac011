"""The pictures of docs/restoration.md: crops of damaged pictures, of what the network makes of them, and of clean ones.

Each strip is input, restored, clean, from left to right. All are Kodak pictures, which are free for any use, damaged by
`moesaic.degrade` and rounded to 8 bits.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pictures import KODAK
from benchmarks.quality import rounded
from benchmarks.record import ROOT
from benchmarks.restore_network import DEFAULT, Pixels, restored
from benchmarks.restore_scores import psnr

SIDE = 240  # px
GAP = 4  # px of white between
LIMIT = 200_000  # bytes of a file
QUALITY = 92  # of JPEG, without subsampling of colours; lower where a file would be too large


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row.

    Args:
        caption: of the page.
        picture: number in the Kodak set.
        kind: of damage.
        severity: from 0 to 1.
        family: of the kind; drawn unless given.
        seed: of the damage.
        left: of the crop, px.
        top: of the crop, px.
    """

    caption: str
    picture: int
    kind: str
    severity: float
    family: str | None = None
    seed: int = 0
    left: int = 120
    top: int = 90

    def read(self) -> tuple[Pixels, Pixels]:
        """Damaged and clean, whole."""
        from moesaic import read_picture
        from moesaic.degrade.use import degrade

        clean = read_picture(KODAK / f"kodim{self.picture:02d}.png").pixels
        found = degrade(clean, self.kind, seed=self.seed, severity=self.severity, family=self.family)
        return (found.levels() / np.float32(255)).astype(np.float32), clean


STRIPS = {
    "noise": Strip(caption="Noise of sigma 25", picture=23, kind="noise", severity=0.4, family="clipped", left=150),
    "heavy_rain": Strip(caption="Heavy rain", picture=19, kind="heavy_rain", severity=0.5, seed=3, left=200, top=120),
    "haze": Strip(caption="Haze", picture=16, kind="haze", severity=0.5, seed=1, left=260, top=160),
    "low_light": Strip(caption="Low light", picture=5, kind="low_light", severity=0.4, seed=1, left=260, top=160),
    "motion_blur": Strip(caption="Motion blur", picture=8, kind="motion_blur", severity=0.4, seed=2, left=200, top=160),
    "jpeg": Strip(caption="JPEG of quality 10", picture=21, kind="jpeg", severity=1.0, left=380, top=120),
}
"""By name, which is that of the file, too."""


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default=DEFAULT, metavar="NAME|FILE", help="weights by name, file or run's folder")
    options.add_argument("--strips", metavar="NAMES", help="some of them, with commas between")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    for name in asked.strips.split(",") if asked.strips else STRIPS:
        strip = STRIPS[name]
        damaged, clean = strip.read()
        after = restored(asked.model, damaged)
        path = asked.docs / "images" / f"restore_{name}.jpg"
        write(path, [crop(one, strip.left, strip.top) for one in (damaged, after, clean)])
        print(f"{strip.caption}: {psnr(damaged, clean):.2f} to {psnr(after, clean):.2f} dB, {path.name}", flush=True)


def crop(pixels: Pixels, left: int, top: int) -> np.ndarray:  # (h, w, 3) uint8
    """`SIDE` px of a picture, fewer where it ends."""
    return np.round(rounded(pixels[top : top + SIDE, left : left + SIDE]) * 255).astype(np.uint8)


def write(path: Path, shown: list[np.ndarray]) -> None:
    """Crops of one size side by side, as a JPEG file of at most `LIMIT` bytes."""
    gap = np.full((shown[0].shape[0], GAP, 3), 255, np.uint8)
    row = np.concatenate([part for one in shown for part in (one, gap)][:-1], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(QUALITY, 0, -4):
        Image.fromarray(row).save(path, quality=quality, subsampling=0)
        if path.stat().st_size <= LIMIT:
            return


if __name__ == "__main__":
    main()
