"""Estimators of severity against what is true: rank correlations on pictures that none of them was trained on.

CBSD68 and Kodak are shrunk by 1 to 4 (CBSD68 by 2 to 4, since its files are JPEG themselves) and damaged: by noise,
blur, JPEG and a loss of resolution alone, at strengths that are evenly spread, and by the second-order chain. For each
damage the estimator's score of that name is ranked against the true one, for chains its severity against the drawn one.
Nothing is ever chosen on these pictures.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.noise_estimate import sets
from benchmarks.record import RESULTS, Record, Row
from moesaic.upscale.estimator_inputs import SHRINKS, draw_inputs
from moesaic.upscale.estimators import make_estimator
from moesaic.upscale.rank_correlation import rank_correlation
from moesaic.upscale.scores import Estimator
from moesaic.upscale.truth import NAMES

SORTS = (*NAMES, "wild")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--estimators", nargs="+", default=["severity_net", "analytic"], metavar="NAME")
    options.add_argument("--first", type=int, default=None, help="pictures of each set, for smoke tests")
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON goes")
    asked = options.parse_args(arguments)
    torch.set_num_threads(1)
    used = {name: make_estimator(name) for name in asked.estimators}
    told = {Path(name).name: one.identity.rpartition("/")[2] for name, one in used.items()}
    settings = {"estimators": told, "threads": 1, "strengths": "evenly spread, two a picture", "sorts": list(SORTS)}
    record = Record("estimators", settings=settings, folder=asked.results)
    for name, sources in sets():
        pictures = [torch.from_numpy(one.read().pixels).permute(2, 0, 1)[None] for one in sources[: asked.first]]
        for sort in SORTS:
            inputs = [one for turn in range(2) for one in _damaged(pictures, sort, turn, 2 if name == "cbsd68" else 1)]
            for estimator, one in used.items():
                row = {"set": name, "sort": sort, "estimator": Path(estimator).name, **measured(one, sort, inputs)}
                record.put("ranks", f"{name}/{sort}/{Path(estimator).name}", row)
                print(name, sort, estimator, row["rank_correlation"], row["error"], flush=True)
    for estimator, one in used.items():
        row = {"estimator": Path(estimator).name, **_seconds(one)}
        record.put("seconds", Path(estimator).name, row)
        print(estimator, row, flush=True)


Damaged = tuple[torch.Tensor, list[float]]  # (1, 3, h, w), and true scores with the severity last


def _damaged(pictures: list[torch.Tensor], sort: str, turn: int, least: int) -> list[Damaged]:
    """Each picture once, at a strength of its own."""
    shrinks = [shrink for shrink in SHRINKS if shrink >= least]
    order = np.random.default_rng([7, turn, SORTS.index(sort)]).permutation(len(pictures))
    found = []
    for place, clean in enumerate(pictures):
        shrink = shrinks[(place + turn) % len(shrinks)]
        height, width = (side // shrink * shrink for side in clean.shape[2:])
        strength = (order[place] + 0.5) / len(pictures)
        generator = torch.Generator().manual_seed(1000 * turn + place)
        made = draw_inputs(clean[..., :height, :width], generator, shrink, {sort: 1.0}, torch.tensor([strength]))
        found.append((made.pictures, [*made.truth.values[0].tolist(), float(made.truth.severity)]))
    return found


def measured(estimator: Estimator, sort: str, inputs: list[Damaged]) -> Row:
    """Rank correlations of what is said with what is true; the sort's own is None where it is not scored."""
    truth = np.array([true for _, true in inputs])
    said = [estimator(picture) for picture, _ in inputs]
    severity = np.array([float(one.severity) for one in said])
    values = {name: np.array([float(one.values[0, place]) for one in said]) for place, name in enumerate(said[0].names)}
    ranks = {
        name: round(rank_correlation(values[name], truth[:, NAMES.index(name)]), 4) for name in NAMES if name in values
    }
    ranks["severity"] = round(rank_correlation(severity, truth[:, -1]), 4)
    own = "severity" if sort == "wild" else sort
    found, true = (severity, truth[:, -1]) if own == "severity" else (values.get(sort), truth[:, NAMES.index(sort)])
    return {
        "pictures": len(inputs),
        "rank_correlation": ranks.get(own),
        "error": None if found is None else round(float(np.abs(found - true).mean()), 4),
        "all_rank_correlations": ranks,
    }


def _seconds(estimator: Estimator) -> Row:
    """The least time of a few calls, by the size of the picture; others may be using the machine."""
    told: Row = {}
    generator = torch.Generator().manual_seed(0)
    for height, width in ((512, 512), (3000, 4000)):
        x = torch.rand(1, 3, height, width, generator=generator)
        estimator(x[..., :64, :64])
        spent = []
        for _ in range(7 if height < 1000 else 3):
            began = time.perf_counter()
            estimator(x)
            spent.append(time.perf_counter() - began)
        told[f"{width}x{height}"] = round(min(spent), 4)
    return told


if __name__ == "__main__":
    main()
