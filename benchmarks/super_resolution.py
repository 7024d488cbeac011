"""The protocol of the super-resolution sets: which pictures, how they are made small, how an enlargement is judged.

A picture is cropped to a multiple of the scale and made small by Pillow's BICUBIC, which avoids aliases, in 8 bits. An
enlargement is clipped and rounded to 8 bits, and `scale` pixels at each border do not count. PSNR-Y and SSIM-Y are of
Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, with a peak of 255.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.record import ROOT
from moesaic import metrics

DATA = ROOT.parent / "shared" / "data"
SETS = {"Set5": "set5/HR", "Set14": "set14", "Urban100": "urban100", "Kodak": "kodak"}
SCALES = (2, 3, 4)
RESIZES = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
Eight = NDArray[np.uint8]  # (H, W, 3)


def pictures(name: str) -> list[Path]:
    """The pictures of a test set, in the order of their names."""
    folder = DATA / SETS[name]
    found = sorted(folder.glob("*.png")) if folder.is_dir() else []
    if not found:
        raise SystemExit(f"no pictures in ../shared/data/{SETS[name]}")
    return found


def training_crops(natural: int = 8, berkeley: int = 4, side: int = 144) -> Iterator[Eight]:
    """Squares of pictures that no table reports: of six at random in each picture, the one with the most detail."""
    listed = DATA / "train.txt"
    if not listed.is_file():
        raise SystemExit("the list ../shared/data/train.txt is not there")
    names = listed.read_text().split()
    random = np.random.default_rng(11)
    for kind, count in (("train_natural", natural), ("bsds500/train", berkeley)):
        for name in random.choice([n for n in names if n.startswith(kind)], count, replace=False):
            picture = read(DATA / str(name))
            squares = []
            for _ in range(6):
                top = random.integers(0, picture.shape[0] - side + 1)
                left = random.integers(0, picture.shape[1] - side + 1)
                squares.append(picture[top : top + side, left : left + side])
            yield max(squares, key=lambda square: float(np.abs(np.diff(square.astype(float), axis=0)).mean()))


def read(path: Path) -> Eight:
    """A picture in RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def made_small(picture: Eight, scale: int, kernel: str = "bicubic") -> tuple[Eight, Eight]:
    """The picture cropped to a multiple of the scale, and made small."""
    height, width = (side // scale * scale for side in picture.shape[:2])
    large = np.ascontiguousarray(picture[:height, :width])
    return large, resized(large, (width // scale, height // scale), kernel)


def resized(picture: Eight, size: tuple[int, int], kernel: str) -> Eight:
    """By Pillow, to (width, height)."""
    return np.asarray(Image.fromarray(picture).resize(size, RESIZES[kernel]))


def eight_bits(pixels: NDArray[np.floating]) -> Eight:
    """Clipped to [0, 1] and rounded to 8 bits."""
    return np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)


def score(enlarged: Eight, truth: Eight, scale: int) -> dict[str, float]:
    """PSNR-Y, PSNR-RGB and SSIM-Y."""
    inner = (slice(scale, -scale), slice(scale, -scale))
    ours, theirs = enlarged[inner], truth[inner]
    y, of_truth = luma(ours), luma(theirs)
    return {
        "psnr_y": round(_psnr(y, of_truth), 4),
        "psnr_rgb": round(_psnr(ours.astype(float), theirs.astype(float)), 4),
        "ssim_y": round(metrics.ssim(y / 255.0, of_truth / 255.0), 5),
    }


def psnr_y(enlarged: Eight, truth: Eight, scale: int) -> float:
    """That of `score` alone."""
    inner = (slice(scale, -scale), slice(scale, -scale))
    return round(_psnr(luma(enlarged[inner]), luma(truth[inner])), 4)


def luma(picture: Eight) -> NDArray[np.float64]:  # (H, W), 16 to 235
    """Y of ITU-R BT.601, not rounded."""
    r, g, b = (picture[..., c].astype(np.float64) for c in range(3))
    return np.asarray(16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0)


def _psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return 20.0 * math.log10(255.0) - 10.0 * math.log10(max(float(np.mean((a - b) ** 2)), 1e-12))
