"""The pictures of docs/denoising.md: crops of noisy Kodak pictures and of what denoisers make of them, side by side."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.denoise import mixtures, non_local_means
from benchmarks.pictures import KODAK, Source
from benchmarks.quality import rounded
from benchmarks.record import ROOT
from moesaic.mixture.backends.threads import default_threads

CROPS = {  # left and top of each crop, px, and the noise
    "kodim21": (140, 110, 25),
    "kodim01": (290, 200, 25),
    "kodim23": (150, 90, 50),
}
SIDE = 200  # px
MODELS = 8


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    if not KODAK.is_dir():
        raise SystemExit("the Kodak pictures are not there: they belong into the data folder beside the project")
    names = sorted(path.stem for path in KODAK.glob("*.png"))
    ours = partial(mixtures, models=MODELS, threads=default_threads())
    for name, (left, top, sigma) in CROPS.items():
        clean = Source(name=name, path=KODAK / f"{name}.png").read().pixels
        random = np.random.default_rng(names.index(name))
        noisy = (clean + random.normal(0.0, sigma / 255.0, clean.shape)).astype(np.float32)
        found = ours(noisy, float(sigma))
        shown = [noisy, found["one mixture"], found[f"fusion of {MODELS}"], found["moesaic"]]
        shown += [non_local_means(noisy, float(sigma))["NLM"], clean]
        row = np.concatenate([rounded(one)[top : top + SIDE, left : left + SIDE] for one in shown], axis=1)
        Image.fromarray(np.round(row * 255).astype(np.uint8)).save(
            asked.docs / "images" / f"denoise_{name}_{sigma}.png", optimize=True
        )


if __name__ == "__main__":
    main()
