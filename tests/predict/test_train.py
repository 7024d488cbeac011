"""Training a predictor: interruptions change nothing, both teachers teach, and recipes are checked."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from moesaic.errors import ArgumentError
from moesaic.predict.models import registry
from moesaic.predict.network import MixturePredictor
from moesaic.predict.recipe import PredictRecipe
from moesaic.predict.run import Run
from moesaic.predict.train import train_predict
from moesaic.predict.use import load_network, predict
from moesaic.training import on_pictures
from moesaic.training.bank import list_pictures, read_bank
from moesaic.training.parallel import team_on

SMALL = PredictRecipe(
    options={"width": 8, "blocks": [1, 1, 1], "hidden": 16},
    crop=32,
    batch=2,
    steps=6,
    warm_up=1,
    validate_every=3,
    held_out=0.3,
)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows, columns = np.mgrid[:48, :56]
    for number in range(4):
        planes = [127 + 100 * np.sin(columns / (3 + c) + rows / (7 - c) + number) for c in range(3)]
        Image.fromarray(np.stack(planes, 2).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


class StoppedError(Exception):
    """As if the process had died."""


def stop_at(step):
    def told(now):
        if now.step == step:
            raise StoppedError

    return told


def test_interruptions_change_nothing(data, tmp_path, monkeypatch):
    whole = train_predict(data, tmp_path / "whole", SMALL, device="cpu")
    assert whole.finished
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)  # a checkpoint at every step
    for step in (1, 4):
        with pytest.raises(StoppedError):
            train_predict(data, tmp_path / "pieces", SMALL, device="cpu", progress=stop_at(step))
        torch.rand(7)  # what the caller draws in between
    ended = train_predict(data, tmp_path / "pieces", SMALL, device="cpu")
    assert ended.scores == whole.scores
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "pieces"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert list((tmp_path / "whole" / "samples").glob("*.png"))
    assert {"40 px a kernel, stage 1", "40 px a kernel, stage 3"} <= set(whole.scores)
    steps = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert any(line["event"] == "validation" and "psnr_start" in line for line in steps)


def test_weights_can_be_used_and_trained_on(data, tmp_path):
    train_predict(data, tmp_path / "run", SMALL, device="cpu")
    network = load_network(tmp_path / "run")
    assert isinstance(network, MixturePredictor)
    mixture = predict(data / "0.png", experts=20, model=tmp_path / "run")
    assert len(mixture) == 20
    again = replace(SMALL, start=str(tmp_path / "run" / "model.safetensors"), steps=1)
    assert train_predict(data, tmp_path / "more", again, device="cpu").finished


@pytest.mark.parametrize("teacher", ["render", "optimise"])
def test_both_teachers_teach(data, tmp_path, teacher):
    """Steps on one crop alone make its picture better by far than a start with the best colours."""
    recipe = replace(SMALL, teacher=teacher, steps=60, rate=1e-2, batch=1, crop=48, shares=(1.0,), unlock=(0.0,))
    whole = read_bank(list_pictures(data), least=48)
    with team_on("cpu") as team, torch.random.fork_rng():
        run = Run(recipe, whole, None, team)
        run.seed = lambda _: 7  # every step draws the same
        run.generator = lambda _: torch.Generator().manual_seed(7)
        told = []
        for _ in range(60):
            run.take_step()
            told.append(run.figures()["psnr"])
    assert told[-1] > told[0] + 1.5


def test_more_stages_than_the_network_knows_are_refused(data, tmp_path):
    recipe = replace(SMALL, options={**SMALL.options, "stages": 2})
    with pytest.raises(ArgumentError, match="more stages than the 2"):
        train_predict(data, tmp_path / "run", recipe, device="cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shares": ()}, {"shares": (0.0, 1.0)}, {"shares": (1.0, 0.5)}, {"shares": (0.5,)}, {"unlock": (0.1, 0.2, 0.3)},
        {"unlock": (0.0,)}, {"teacher": "none"}, {"densest": 90.0}, {"densest": 0}, {"crop": 8}, {"colours": -1},
        {"rate": 0}, {"network": 5}, {"options": 5}, {"betas": (1, 2)}, {"shrink": 2}, {"average": 1}, {"steps": 0},
    ],
)  # fmt: skip
def test_wrong_recipes(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        PredictRecipe(**wrong)


def test_recipes_survive_json():
    recipe = replace(SMALL, minutes=2.0)
    assert PredictRecipe.from_json(json.loads(json.dumps(recipe.to_json()))).to_json() == recipe.to_json()


def test_the_network_is_known_by_name():
    assert "mixture_predictor" in registry.names()
    assert isinstance(registry.create("mixture_predictor", width=8), MixturePredictor)
