"""The pictures of docs/predict.md: a crop as it stands before and after stages, and the kernels that draw it.

All are Kodak pictures, which are free for any use. Whole pictures are predicted; crops of them are shown, enlarged
threefold without smoothing, and each kernel as the ellipse of one standard deviation.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.pictures import gallery
from benchmarks.quality import rounded
from benchmarks.record import ROOT
from moesaic.mixture.render import render
from moesaic.predict.use import STAGES, load_network, predict

if TYPE_CHECKING:
    from moesaic.mixture.model import Mixture

SHOWN = (0, 1, 2, 4, STAGES)  # stages
SIDE, ZOOM, GAP = 72, 3, 6  # px of the crop, times, px between pictures
EXPERTS = 10_000
CROPS = {"predict_stages": ("kodim23", 470, 150), "predict_stages_busy": ("kodim08", 330, 120)}
"""By file: the picture, and where the crop begins, px."""


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", default=None, help="a predictor instead of the one that ships")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    network = load_network(asked.model)
    for name, (which, left, top) in CROPS.items():
        source = next(one for one in gallery().sources if one.name == which)
        picture = source.read()
        made = {f"stage {n}": predict(picture, experts=EXPERTS, model=network, stages=max(n, 1)) for n in SHOWN if n}
        made = {"start": _start(picture)} | made
        made["and 200 steps"] = predict(picture, experts=EXPERTS, model=network, refine=200)
        above, below = [], []
        for mixture in made.values():
            drawn = (rounded(render(mixture).numpy().transpose(1, 2, 0)) * 255).astype(np.uint8)
            above.append(_enlarged(drawn[top : top + SIDE, left : left + SIDE]))
            below.append(_kernels(mixture, left, top))
        eight = (rounded(picture.pixels) * 255).astype(np.uint8)[top : top + SIDE, left : left + SIDE]
        above.append(_enlarged(eight))
        below.append(Image.new("RGB", above[0].size, "white"))
        path = asked.docs / "images" / f"{name}.png"
        _sheet(above, below).quantize(240).save(path, optimize=True)
        print(f"{path.name}: {', '.join(made)}, picture; {path.stat().st_size} bytes", flush=True)


def _start(picture: object) -> Mixture:
    """The kernels before the first stage, with their best colours."""
    from moesaic.mixture.fit import fit
    from moesaic.mixture.fitting import FitConfig

    still = FitConfig(rate_centre=0.0, rate_shape=0.0, rate_prior=0.0, rate_colour=0.0)
    return fit(picture, experts=EXPERTS, steps=1, config=still, device="cpu")


def _enlarged(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels).resize((SIDE * ZOOM, SIDE * ZOOM), Image.Resampling.NEAREST)


def _kernels(mixture: Mixture, left: int, top: int) -> Image.Image:
    """Each kernel of a crop as an ellipse in its own colour."""
    image = Image.new("RGB", (SIDE * ZOOM, SIDE * ZOOM), "white")
    pen = ImageDraw.Draw(image)
    angles = np.linspace(0.0, 2.0 * math.pi, 33)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    for centre, (f0, f1, f2), colour in zip(
        mixture.centres.tolist(), mixture.factors.tolist(), mixture.colours.tolist(), strict=True
    ):
        x, y = centre[0] - left, centre[1] - top
        if not (-8 < x < SIDE + 8 and -8 < y < SIDE + 8):
            continue
        rows = circle[1] / f2
        columns = (circle[0] - f1 * rows) / f0
        points = [(ZOOM * (x + dx), ZOOM * (y + dy)) for dx, dy in zip(columns, rows, strict=True)]
        ink = tuple(int(255 * min(max(value, 0.0), 1.0) * 0.85) for value in colour)
        pen.line(points, fill=ink, width=1)
    return image


def _sheet(above: list[Image.Image], below: list[Image.Image]) -> Image.Image:
    side = SIDE * ZOOM
    sheet = Image.new("RGB", (len(above) * (side + GAP) - GAP, 2 * side + GAP), "white")
    for place, (upper, lower) in enumerate(zip(above, below, strict=True)):
        sheet.paste(upper, (place * (side + GAP), 0))
        sheet.paste(lower, (place * (side + GAP), side + GAP))
    return sheet


if __name__ == "__main__":
    main()
