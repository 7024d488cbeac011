"""Control arms of the predictor: one thing is different in each, all else is as in the run that ships, but shorter.

Every arm is trained with the same steps and seeds and scored on the same pictures, none of which was trained on, with
the best colours in the end. An arm that is already there is not trained again.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from benchmarks.pictures import gallery, parser
from benchmarks.record import ROOT, Record
from moesaic.predict import models
from moesaic.predict.kernels import SIX
from moesaic.predict.network import MixturePredictor
from moesaic.predict.recipe import PredictRecipe
from moesaic.predict.stages import coloured, compared, stages
from moesaic.predict.telling import OWN
from moesaic.predict.train import train_predict
from moesaic.predict.use import load_network

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.predict.views import View

EXPERTS = 10_000
TRAIN = ROOT.parent / "shared" / "data" / "train.txt"


class Separate(MixturePredictor):
    """A network for each stage, of no common weights."""

    def __init__(self, stages: int = 8, **options: Any) -> None:
        super().__init__(hidden=1, depth=1, stages=1)
        del self.first, self.middle, self.last, self.code
        self.stages = stages
        self.each = nn.ModuleList(MixturePredictor(stages=1, **options) for _ in range(stages))

    def forward(self, view: View, before: Tensor, stage: int) -> Tensor:  # noqa: D102 - as its base's
        change: Tensor = self.each[min(stage, self.stages - 1)](view, before, 0)
        return change


class Blind(MixturePredictor):
    """A network that sees no window: neither the picture nor what is missing."""

    def forward(self, view: View, before: Tensor, stage: int) -> Tensor:  # noqa: D102 - as its base's
        seen = view.seen.clone()
        seen[:, OWN:] = 0.0
        return super().forward(replace(view, seen=seen), before, stage)


class Plain(MixturePredictor):
    """A network that is not told the steps of Newton's method, nor goes along them: it has slopes alone."""

    def forward(self, view: View, before: Tensor, stage: int) -> Tensor:  # noqa: D102 - as its base's
        seen = view.seen.clone()
        seen[:, : 2 * SIX] = 0.0
        none = torch.zeros_like(view.bold)
        return super().forward(replace(view, seen=seen, bold=none, shy=none), before, stage)


class Fixed(MixturePredictor):
    """No network: fixed parts of the steps and of the last change, as an untrained network begins."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.zero_()


NETWORKS: dict[str, Any] = {"separate": Separate, "blind": Blind, "plain": Plain}

ARMS: dict[str, dict[str, Any]] = {
    "shipped": {},
    "separate": {"network": "separate"},
    "blind": {"network": "blind"},
    "plain": {"network": "plain"},
    "staged": {"shares": (0.6, 0.6, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)},
    "alone": {"together": False},
    "optimise": {"teacher": "optimise"},
}


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--runs", type=Path, required=True, metavar="DIR", help="folder of the arms' runs")
    options.add_argument("--data", type=Path, default=TRAIN, help="pictures to train on")
    options.add_argument("--arms", default=",".join(ARMS), help="names between commas")
    options.add_argument("--steps", type=int, default=1500)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--scores-alone", action="store_true", help="train nothing: score the runs that are finished")
    asked = options.parse_args(arguments)
    for name, build in NETWORKS.items():
        models.NETWORKS[name] = build
        models.registry.add(name, partial(models.make_network, name))
    shown = gallery(asked.pictures)
    held = shown.only(asked.only or tuple(range(1, 25, 4)))
    settings = {"pictures": shown.name, "experts": EXPERTS, "steps": asked.steps, "seeds": asked.seeds}
    record = Record("predict_arms", settings=settings, folder=asked.results, resume=asked.resume)
    pictures = {one.name: np.ascontiguousarray(one.read().pixels.transpose(2, 0, 1)) for one in held}
    fixed = _scores(Fixed(), pictures, PredictRecipe(steps=1).shares, 0)
    record.put("arms", "fixed", {"arm": "fixed", "seeds": [fixed]} | _summary([fixed]))
    for seed in range(asked.seeds):
        for name in asked.arms.split(","):
            folder = asked.runs / f"{name}_{seed}"
            if asked.scores_alone and not (folder / "model.safetensors").exists():
                continue
            recipe = PredictRecipe(steps=asked.steps, seed=seed, validate_every=asked.steps, **ARMS[name])
            trained = train_predict(asked.data, folder, recipe, device="cpu")
            if not trained.finished:
                raise SystemExit(f"{name}, seed {seed}: not finished")
            network = load_network(folder, registry=models.registry)
            earlier = record.content["results"].get("arms", {}).get(name, {}).get("seeds", [])[:seed]
            runs = [*earlier, _scores(network, pictures, recipe.shares, seed)]
            record.put("arms", name, {"arm": name, "seeds": runs} | _summary(runs))
            print(f"{name}, seed {seed}: {runs[-1]['mean']}", flush=True)


def _scores(
    network: MixturePredictor, pictures: dict[str, Any], shares: tuple[float, ...], seed: int
) -> dict[str, Any]:
    """Decibels by picture after each stage, and their means."""
    by_picture: dict[str, list[float]] = {}
    with torch.no_grad():
        for name, picture in pictures.items():
            random = np.random.default_rng(seed)
            made = stages(network.eval(), picture, EXPERTS, random, shares=shares, threads=2)
            by_picture[name] = [_psnr(coloured(stage.kernels, picture, 4, 2), picture) for stage in made][1:]
    mean = [round(statistics.fmean(column), 4) for column in zip(*by_picture.values(), strict=True)]
    return {"pictures": by_picture, "mean": mean}


def _psnr(kernels: Any, picture: Any) -> float:
    drawn = (picture + compared(kernels, picture, 2).left).clip(0.0, 1.0)
    return round(float(-10.0 * np.log10(np.mean((drawn - picture) ** 2))), 4)


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    columns = list(zip(*(run["mean"] for run in runs), strict=True))
    spread = [round(statistics.stdev(column), 4) if len(column) > 1 else 0.0 for column in columns]
    return {"mean": [round(statistics.fmean(column), 4) for column in columns], "spread": spread}


if __name__ == "__main__":
    main()
