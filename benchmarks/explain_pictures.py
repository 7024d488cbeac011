"""The pictures of docs/explain.md: what `moesaic explain` draws of each kind but those of other pages.

They are made smaller. All are of Kodak pictures, which are free for any use.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import moesaic
from benchmarks.pictures import gallery
from benchmarks.record import ROOT
from moesaic.explain.explained import Explained
from moesaic.explain.prediction import explain_prediction
from moesaic.explain.use import explain, explainer
from moesaic.picture import Picture, to_integers
from moesaic.predict.use import load_network

WIDTH = 800  # px
COLOURS = 256


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    asked = options.parse_args(arguments)
    pictures = {source.name: source for source in gallery().sources}
    parrots, houses = (pictures[name].read() for name in ("kodim23", "kodim08"))
    _save(_mixture(parrots, "kodim23.moe"), asked.docs / "images" / "explain_mixture.png")
    _save(explain_prediction(houses, load_network(), name="kodim08.png"), asked.docs / "images" / "explain_predict.png")
    _save(explainer("segmentation")(houses, "kodim08.png"), asked.docs / "images" / "explain_segment.png")
    routed = explainer("routing", model="enet_moe_camvid_nc")
    _save(routed(houses, "kodim08.png"), asked.docs / "images" / "explain_routing.png")


def _mixture(picture: Picture, name: str) -> Explained:
    """As `moesaic encode --experts 4000 --fast --refine 100` and `moesaic explain --source` make it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        moesaic.encode(picture, path, experts=4000, fast=True, refine=100)
        return explain(path, against=picture)


def _save(explained: Explained, path: Path) -> None:
    whole = Image.fromarray(np.ascontiguousarray(to_integers(explained.picture)))
    small = whole.resize((WIDTH, round(WIDTH * whole.height / whole.width)), Image.Resampling.LANCZOS)
    method = Image.Quantize.MAXCOVERAGE  # keeps rare colours, such as the ends of scales
    small.quantize(COLOURS, method, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {small.size}, {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
