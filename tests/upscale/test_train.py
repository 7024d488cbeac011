"""Training: the same weights however often it is interrupted, from a start or from nothing, and a file to use."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from moesaic.errors import ArgumentError, ModelError, TrainingError
from moesaic.training import on_pictures
from moesaic.training.log import read_log
from moesaic.upscale.analytic import Analytic
from moesaic.upscale.network import CompactUpscaler
from moesaic.upscale.recipe import UpscaleRecipe
from moesaic.upscale.train import train_upscale
from moesaic.weights_file import read_weights
from moesaic.zoo import load_model

TINY = UpscaleRecipe(
    options={"width": 8, "blocks": 1}, steps=12, crop=12, batch=3, validate_every=5, warm_up=2, seed=3, held_out=0.2,
    average=0.9,
)  # fmt: skip


class StoppedError(Exception):
    pass


def stop_at(step):
    def told(now):
        if now.step == step:
            raise StoppedError

    return told


def weights(out):
    return read_weights(out / "model.safetensors")[0]


@pytest.fixture(scope="module")
def straight(pictures, tmp_path_factory):
    """A run without interruption."""
    return train_upscale(pictures, tmp_path_factory.mktemp("runs") / "straight", TINY)


def test_leaves_weights_with_a_card_and_samples(straight):
    card = read_weights(straight.weights)[1]
    assert (card.architecture, card.task, dict(card.options)) == ("compact_upscaler", "upscale", TINY.options)
    assert card.parameters == sum(parameter.numel() for parameter in CompactUpscaler(8, 1).parameters())
    own = {name: value for name, value in card.recipe.items() if name not in ("data", "processes")}
    assert UpscaleRecipe.from_json(own) == TINY
    sorts = {f"x{scale} {sort}" for scale in (2, 4) for sort in ("bicubic", "mild", "medium", "severe")}
    assert set(straight.scores) == sorts
    assert {f"held_out_psnr {sort}" for sort in sorts} == set(card.scores)
    assert [path.name for path in sorted((straight.out / "samples").iterdir())] == [
        "step_0000005.png", "step_0000010.png", "step_0000012.png",
    ]  # fmt: skip
    assert isinstance(load_model(straight.weights), CompactUpscaler)


def test_the_log_tells_how_it_went(straight):
    lines = read_log(straight.out / "log.jsonl")
    assert [(line["event"], line["step"]) for line in lines] == [
        ("started", 0), ("validation", 5), ("validation", 10), ("step", 12), ("finished", 12), ("validation", 12),
    ]  # fmt: skip
    assert lines[-1]["psnr"] == straight.scores
    assert set(lines[-1]["psnr_bicubic"]) == set(straight.scores)
    assert {"loss", "pixels", "balance", "gain", "rate"} <= set(lines[3])


def test_interruptions_change_nothing(pictures, tmp_path, monkeypatch, straight):
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)  # a checkpoint at every step
    for step in (1, 5, 11):
        with pytest.raises(StoppedError):
            train_upscale(pictures, tmp_path / "pieces", TINY, progress=stop_at(step))
        torch.rand(7)  # what the caller draws in between
    assert train_upscale(pictures, tmp_path / "pieces", TINY).scores == straight.scores
    first, second = weights(straight.out), weights(tmp_path / "pieces")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_learns(pictures, tmp_path):
    recipe = replace(TINY, steps=150, scales={2: 1.0}, mix={"bicubic": 1.0}, rate=4e-3)
    run = train_upscale(pictures, tmp_path / "run", recipe)
    before = read_log(run.out / "log.jsonl")[-1]["psnr_bicubic"]
    assert run.scores["x2 bicubic"] > before["x2 bicubic"] + 0.3


def test_goes_on_from_other_weights(pictures, tmp_path, straight):
    started = replace(TINY, start=str(straight.weights), steps=1, rate=1e-12)
    run = train_upscale(pictures, tmp_path / "run", started)
    assert run.scores == pytest.approx(straight.scores, abs=0.02)
    recipe = json.loads((run.out / "recipe.json").read_text())
    assert recipe["start"]["sha256"] == read_weights(straight.weights)[1].sha256


RANKED = replace(
    TINY, options={**TINY.options, "ranks": {"scores": 4, "shared": 1, "routed": 1, "active": 1, "zero": 1}},
    mix={"bicubic": 0.2, "full": 0.8}, rate=1e-2,
)  # fmt: skip


@pytest.mark.parametrize("told", ["estimator", "oracle", "constant", "shuffled"])
def test_ranks_alone_are_learned_from_a_base(pictures, tmp_path, straight, told):
    estimator = None if told == "oracle" else Analytic()
    recipe = replace(RANKED, start=str(straight.weights), told=told)
    run = train_upscale(pictures, tmp_path / "run", recipe, estimator=estimator)
    before, (after, card) = weights(straight.out), read_weights(run.weights)
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert same == list(before)  # the base is as it was, to the bit
    assert any(value.abs().max() > 0 for name, value in after.items() if name.endswith("up"))
    assert card.options["estimator"] == ("oracle:1" if told == "oracle" else Analytic().identity)
    network = load_model(run.weights)
    assert network.mix is not None
    assert card.parameters == sum(parameter.numel() for parameter in network.mix.parameters())


def test_interruptions_of_ranks_change_nothing(pictures, tmp_path, monkeypatch, straight):
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)
    recipe = replace(RANKED, start=str(straight.weights))
    whole = train_upscale(pictures, tmp_path / "whole", recipe, estimator=Analytic())
    with pytest.raises(StoppedError):
        train_upscale(pictures, tmp_path / "pieces", recipe, estimator=Analytic(), progress=stop_at(7))
    assert train_upscale(pictures, tmp_path / "pieces", recipe, estimator=Analytic()).scores == whole.scores
    first, second = weights(whole.out), weights(tmp_path / "pieces")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_starts(pictures, tmp_path, straight):
    with pytest.raises(ModelError, match="holds weights of another network"):
        train_upscale(pictures, tmp_path / "a", replace(TINY, options={"width": 4}, start=str(straight.weights)))
    with pytest.raises(ModelError):
        train_upscale(pictures, tmp_path / "b", replace(TINY, start=str(tmp_path / "none.safetensors")))


def test_wrong_recipes(pictures, tmp_path, straight):
    with pytest.raises(ArgumentError, match="scales has 3"):
        train_upscale(pictures, tmp_path / "a", replace(TINY, scales={3: 1.0}))
    with pytest.raises(ArgumentError, match="needs steps"):
        train_upscale(pictures, tmp_path / "b", replace(TINY, steps=None))
    with pytest.raises(ArgumentError, match="recipe is an UpscaleRecipe"):
        train_upscale(pictures, tmp_path / "c", {"steps": 3})
    with pytest.raises(ArgumentError, match="unknown"):
        train_upscale(pictures, tmp_path / "d", replace(TINY, network="compakt_upscaler"))
    with pytest.raises(TrainingError, match="rate"):
        train_upscale(pictures, straight.out, replace(TINY, rate=1e-4))
