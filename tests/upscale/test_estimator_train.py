"""Training of estimators: what they learn from, the same weights however often it is interrupted, and a file to use."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from moesaic.errors import ArgumentError, ModelError, PictureError, ShapeError, TrainingError
from moesaic.training.log import read_log
from moesaic.upscale.estimator_inputs import SORTS, draw_inputs
from moesaic.upscale.estimator_recipe import EstimatorRecipe
from moesaic.upscale.estimator_train import train_estimator
from moesaic.upscale.estimators import make_estimator
from moesaic.upscale.truth import NAMES, true_scores
from moesaic.weights_file import read_weights

TINY = EstimatorRecipe(
    options={"channels": (4, 4), "hidden": 4}, steps=7, crop=16, batch=3, validate_every=3, warm_up=2, seed=3,
    held_out=0.2, average=0.9,
)  # fmt: skip


class StoppedError(Exception):
    pass


def stop_at(step):
    def told(now):
        if now.step == step:
            raise StoppedError

    return told


@pytest.fixture(scope="module")
def straight(pictures, tmp_path_factory):
    """A run without interruption."""
    return train_estimator(pictures, tmp_path_factory.mktemp("runs") / "straight", TINY, device="cpu")


def test_leaves_an_estimator_with_a_card(straight):
    weights, card = read_weights(straight.weights)
    assert (card.name, card.architecture, card.task, card.data) == ("straight", "severity_net", "estimate", "pictures")
    assert set(straight.scores) == {"noise", "blur", "jpeg", "resolution", "severity"}
    assert {f"held_out_rank_correlation {sort}": value for sort, value in straight.scores.items()} == dict(card.scores)
    own = {name: value for name, value in card.recipe.items() if name not in ("data", "processes")}
    assert EstimatorRecipe.from_json(own).to_json() == TINY.to_json()
    estimator = make_estimator(straight.weights)
    assert estimator(torch.rand(1, 3, 20, 20)).names == NAMES
    assert [list(row) for row in estimator.network.typical.rows] == card.options["typical"]
    assert sum(value.numel() for value in weights.values()) == card.parameters
    events = [line["event"] for line in read_log(straight.out / "log.jsonl")]
    assert events == ["started", "validation", "validation", "step", "finished", "validation"]


def test_interrupted_and_in_pieces_it_ends_with_the_same_weights(straight, pictures, tmp_path):
    for step in (2, 5):
        with pytest.raises(StoppedError):
            train_estimator(pictures, tmp_path / "run", TINY, device="cpu", progress=stop_at(step))
    first = train_estimator(pictures, tmp_path / "run", TINY, device="cpu", piece=1e-6)
    assert (first.finished, first.weights) == (False, None)
    run = train_estimator(pictures, tmp_path / "run", TINY, device="cpu")
    ours, theirs = read_weights(run.weights)[0], read_weights(straight.weights)[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.scores == straight.scores
    again = train_estimator(pictures, tmp_path / "run", TINY, device="cpu")
    assert again.scores == straight.scores


def test_goes_on_from_weights(straight, pictures, tmp_path):
    run = train_estimator(pictures, tmp_path / "run", replace(TINY, start=str(straight.weights), steps=1), device="cpu")
    assert read_weights(run.weights)[1].recipe["start"]["file"] == "model.safetensors"
    other = replace(TINY, start=str(straight.weights), options={"channels": (4, 6)}, steps=1)
    with pytest.raises(ModelError, match="another network"):
        train_estimator(pictures, tmp_path / "other", other, device="cpu")


@pytest.mark.slow
def test_it_learns_noise(pictures, tmp_path):
    recipe = replace(
        TINY, options={"channels": (8, 8), "hidden": 16}, steps=60, batch=16, rate=5e-3, mix={"noise": 3, "clean": 1}
    )
    run = train_estimator(pictures, tmp_path / "run", recipe, device="cpu")
    assert run.scores["noise"] > 0.8


def test_inputs_are_what_their_truth_says():
    clean = torch.rand(5, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    for sort in SORTS:
        made = draw_inputs(clean, torch.Generator().manual_seed(1), 2, {sort: 1})
        assert (made.pictures.shape, made.sorts) == ((5, 3, 24, 32), [sort] * 5)
        torch.testing.assert_close(made.pictures * 255, (made.pictures * 255).round(), atol=1e-3, rtol=0)
        same = draw_inputs(clean, torch.Generator().manual_seed(1), 2, {sort: 1})
        assert torch.equal(same.pictures, made.pictures)
        if sort == "clean":
            assert float(made.truth.values.sum() + made.truth.severity.sum()) == 0
        elif sort in NAMES:
            own = made.truth.values[:, NAMES.index(sort)]
            assert bool((own > 0).all())
            if sort != "resolution":  # a smaller size blurs more than it loses
                torch.testing.assert_close(made.truth.severity, own)


@pytest.mark.parametrize("sort", ["noise", "blur", "jpeg", "resolution"])
def test_strength_is_the_score(sort):
    strength = torch.linspace(0.1, 0.9, 9)
    clean = torch.full((9, 3, 32, 32), 0.4)
    made = draw_inputs(clean, torch.Generator().manual_seed(2), 1, {sort: 1}, strength)
    own = made.truth.values[:, NAMES.index(sort)]
    if sort == "noise":
        torch.testing.assert_close(own, strength, atol=0.02, rtol=0)
    assert bool((own.diff() > -0.12).all())
    assert float(own[-1] - own[0]) > 0.45


def test_the_mildest_of_each_is_hardly_there():
    nothing = torch.zeros(4)
    for sort in ("noise", "blur", "jpeg", "resolution"):
        made = draw_inputs(torch.full((4, 3, 32, 32), 0.4), torch.Generator().manual_seed(2), 1, {sort: 1}, nothing)
        assert float(made.truth.values.max()) < 0.05


def test_truth_of_single_damages_is_that_of_their_steps():
    steps = [{"step": "noise", "sigma": 20.0, "grey": False, "seed": 0}]
    assert float(true_scores([steps], [None], 20, 20).severity) > 0.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": "severity"}, "network 'severity' is unknown"),
        ({"network": 7}, "network 7 must be a text"),
        ({"options": {"width": 3}}, "do not fit 'severity_net'"),
        ({"options": "hidden"}, "must be a table"),
        ({"mix": {"rain": 1}}, "'rain', which is none of"),
        ({"mix": {"noise": 0}}, "no sort a share above 0"),
        ({"mix": {"noise": -1}}, "is 0 or a number from"),
        ({"crop": 4}, "crop 4 must be at least 16"),
        ({"batch": 1}, "batch 1 must be at least 2"),
        ({"rate": 0}, "rate 0 must be a number above 0"),
        ({"order": -1}, "order -1 must be a number from 0"),
        ({"shrink": 2}, "shrink 2 must be from 0 to 1"),
        ({"held_out": 1}, "held_out 1 must be"),
        ({"betas": (1, 2)}, "betas"),
        ({"precision": "int8"}, "precision 'int8' is unknown"),
        ({"steps": None}, "steps in its recipe"),
        ({"crop": 64}, "none of 8 pictures has sides of at least 256 px"),
    ],
)
def test_what_cannot_be(pictures, tmp_path, change, says):
    with pytest.raises((ArgumentError, PictureError), match=says):
        train_estimator(pictures, tmp_path / "run", replace(TINY, **change), device="cpu")


def test_another_recipe_is_refused(straight, pictures):
    with pytest.raises(TrainingError, match=r"order was 0\.3 and is now 1"):
        train_estimator(pictures, straight.out, replace(TINY, order=1), device="cpu")
    with pytest.raises(ArgumentError, match="EstimatorRecipe, not dict"):
        train_estimator(pictures, straight.out, {}, device="cpu")


def test_inputs_that_cannot_be():
    with pytest.raises(ShapeError, match="no multiples"):
        draw_inputs(torch.rand(1, 3, 15, 16), torch.Generator(), 2, {"noise": 1})
    with pytest.raises(ShapeError, match=r"\(B, 3, H, W\)"):
        draw_inputs(torch.rand(3, 16, 16), torch.Generator(), 2, {"noise": 1})
