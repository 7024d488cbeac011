"""Training a predictor: interruptions change nothing, both teachers teach, and recipes are checked."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from moesaic.errors import ArgumentError, ModelError, PictureError, TrainingError
from moesaic.predict import run as steps
from moesaic.predict.network import MixturePredictor
from moesaic.predict.recipe import TEACHERS, PredictRecipe
from moesaic.predict.run import Run, build
from moesaic.predict.stages import SHARES
from moesaic.predict.train import _seconds, train_predict
from moesaic.predict.use import load_network, predict
from moesaic.predict.validation import SPARSE, Validation
from moesaic.training import on_pictures, plan
from moesaic.training.bank import list_pictures, read_bank
from moesaic.training.log import read_log
from moesaic.training.parallel import team_on
from moesaic.weights_file import Card, read_weights, write_weights

SMALL = PredictRecipe(
    options={"hidden": 16, "stages": 3},
    shares=(0.5, 1.0, 1.0),
    unlock=0.5,
    crop=32,
    batch=2,
    steps=6,
    warm_up=1,
    validate_every=3,
    held_out=0.3,
)
KEYS = {f"{sparse} px a kernel, stage {stage}" for sparse in SPARSE for stage in (1, 2, 3)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows, columns = np.mgrid[:48, :56]
    for number in range(4):
        planes = [127 + 100 * np.sin(columns / (3 + c) + rows / (7 - c) + number) for c in range(3)]
        Image.fromarray(np.stack(planes, 2).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run without interruption."""
    return train_predict(data, tmp_path_factory.mktemp("runs") / "whole", SMALL, device="cpu")


@pytest.fixture
def run_of(data):
    """Makes runs that take their steps one by one."""
    bank = read_bank(list_pictures(data), least=32)
    with team_on("cpu") as team, torch.random.fork_rng():
        yield lambda recipe, held_out=None: Run(recipe, bank, held_out, team)


class StoppedError(Exception):
    """As if the process had died."""


def stop_at(step):
    def told(now):
        if now.step == step:
            raise StoppedError

    return told


class TestRuns:
    def test_leave_weights_with_a_card_and_samples(self, whole):
        assert whole.finished
        card = read_weights(whole.weights)[1]
        assert (card.architecture, card.task, dict(card.options)) == ("mixture_predictor", "predict", SMALL.options)
        assert card.parameters == sum(p.numel() for p in MixturePredictor(**SMALL.options).parameters())
        own = {name: value for name, value in card.recipe.items() if name not in ("data", "processes")}
        assert PredictRecipe.from_json(own) == SMALL
        samples = sorted(path.name for path in (whole.out / "samples").iterdir())
        assert samples == ["step_0000003.png", "step_0000006.png"]
        assert set(whole.scores) == KEYS
        assert {f"held_out_psnr {name}" for name in KEYS} == set(card.scores)

    def test_tell_how_they_went(self, whole):
        lines = read_log(whole.out / "log.jsonl")
        events = [(line["event"], line["step"]) for line in lines]
        assert events == [("started", 0), ("validation", 3), ("step", 6), ("finished", 6), ("validation", 6)]
        assert lines[-1]["psnr"] == whole.scores
        assert set(lines[-1]["psnr_start"]) == {f"{sparse} px a kernel" for sparse in SPARSE}
        assert {"loss", "psnr_start", "psnr", "stages", "rate", "seconds"} <= set(lines[2])
        assert lines[2]["psnr"] > lines[2]["psnr_start"]

    def test_interruptions_change_nothing(self, data, tmp_path, monkeypatch, whole):
        monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)  # a checkpoint at every step
        for step in (1, 4):
            with pytest.raises(StoppedError):
                train_predict(data, tmp_path / "pieces", SMALL, device="cpu", progress=stop_at(step))
            torch.rand(7)  # what the caller draws in between
        ended = train_predict(data, tmp_path / "pieces", SMALL, device="cpu")
        assert ended.scores == whole.scores
        a, b = (load_file(run.weights) for run in (whole, ended))
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_finished_ones_are_left_alone(self, data, whole):
        before = whole.weights.read_bytes()
        assert train_predict(data, whole.out, SMALL, device="cpu").scores == whole.scores
        assert whole.weights.read_bytes() == before

    @pytest.mark.parametrize(
        "changes",
        [{"rate": 1e-3}, {"shares": (1.0,) * 3}, {"teacher": "optimise"}, {"seed": 1}, {"together": False}],
    )
    def test_another_recipe_does_not_go_on(self, data, whole, changes):
        with pytest.raises(TrainingError, match=next(iter(changes))):
            train_predict(data, whole.out, replace(SMALL, **changes), device="cpu")

    def test_weights_can_be_used(self, data, whole):
        network = load_network(whole.out)
        assert isinstance(network, MixturePredictor)
        assert len(predict(data / "0.png", experts=20, model=whole.out)) == 20

    def test_go_on_from_other_weights(self, data, tmp_path, whole):
        again = replace(SMALL, start=str(whole.weights), steps=1, rate=1e-12)
        run = train_predict(data, tmp_path / "more", again, device="cpu")
        assert run.scores == pytest.approx(whole.scores, abs=0.02)

    def test_steps_are_planned_from_minutes(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(plan, "_LONG_ENOUGH", 0.0)  # s of measuring
        recipe = replace(SMALL, steps=None, minutes=0.02, shares=(1.0,), held_out=0.0)
        run = train_predict(data, tmp_path / "run", recipe, device="cpu")
        assert run.finished
        assert run.steps >= 1
        assert run.scores == {}

    def test_need_a_length_pictures_and_a_recipe(self, data, tmp_path):
        with pytest.raises(ArgumentError, match="steps"):
            train_predict(data, tmp_path / "run", replace(SMALL, steps=None), device="cpu")
        with pytest.raises(PictureError, match="64 px"):
            train_predict(data, tmp_path / "run", replace(SMALL, crop=64), device="cpu")
        with pytest.raises(PictureError):
            train_predict(tmp_path / "nowhere", tmp_path / "run", SMALL, device="cpu")
        with pytest.raises(ArgumentError, match="recipe is a PredictRecipe, not dict"):
            train_predict(data, tmp_path / "run", {}, device="cpu")

    def test_only_the_cpu_trains(self, data):
        team = SimpleNamespace(device=torch.device("cuda"), leads=True)
        with torch.random.fork_rng(devices=[]), pytest.raises(ArgumentError, match="trained on the CPU, not on cuda"):
            Run(SMALL, read_bank(list_pictures(data)), None, team)

    @pytest.mark.parametrize("damage", ["missing", "cut off", "another network"])
    def test_weights_to_begin_from_are_whole_and_fit(self, data, tmp_path, whole, damage):
        place = tmp_path / "model.safetensors"
        if damage == "cut off":
            place.write_bytes(whole.weights.read_bytes()[:-3])
        elif damage == "another network":
            card = Card(name="other", architecture="linear", task="other")
            write_weights(place, nn.Linear(2, 3).state_dict(), card)
        with pytest.raises(ModelError):
            train_predict(data, tmp_path / "run", replace(SMALL, start=str(place)), device="cpu")

    @pytest.mark.parametrize("options", [{"width": 8}, {"hidden": 0}, {"stages": 65}])
    def test_wrong_networks_are_refused(self, data, tmp_path, options):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            train_predict(data, tmp_path / "run", replace(SMALL, options=options), device="cpu")
        with pytest.raises(ArgumentError, match="network 'mixture'"):
            train_predict(data, tmp_path / "run", replace(SMALL, network="mixture"), device="cpu")

    def test_what_diverges_is_stopped(self, data, tmp_path, monkeypatch):
        monkeypatch.setattr(Run, "_loss", lambda self, stage, picture: stage.error * float("nan"))
        with pytest.raises(TrainingError):
            train_predict(data, tmp_path / "run", SMALL, device="cpu")


class TestSteps:
    @pytest.mark.parametrize("shares", [(1.0,) * 4, (0.25, 0.5, 0.5, 1.0)])
    @pytest.mark.parametrize(
        ("unlock", "expected"),
        [(0.0, [4] * 8), (0.5, [1, 2, 3, 4, 4, 4, 4, 4]), (1.0, [1, 1, 2, 2, 3, 3, 4, 4]), (0.1, [4] * 8)],
    )
    def test_stages_are_unlocked_one_by_one(self, run_of, shares, unlock, expected):
        run = run_of(replace(SMALL, shares=shares, unlock=unlock, steps=8))
        found = []
        for run.step in range(8):
            found.append(run.unlocked)
        assert found == expected

    @pytest.mark.parametrize("stages", [1, 4])
    @pytest.mark.parametrize("unlock", [0.0, 0.1, 0.5, 1.0])
    def test_a_probe_foretells_what_a_step_of_the_run_costs(self, run_of, unlock, stages):
        """A step costs as much as there are stages in it."""
        recipe = replace(SMALL, shares=(1.0,) * stages, unlock=unlock)
        probe, run = (run_of(replace(recipe, steps=steps)) for steps in (10**6, 100))
        costs = []
        for run.step in range(100):
            costs.append(run.unlocked)
        assert _seconds(probe, 1.0) == pytest.approx(np.mean(costs) / probe.unlocked, rel=0.3)

    def test_only_unlocked_stages_learn(self, run_of):
        recipe = replace(SMALL, unlock=1.0, steps=3, shares=(1.0,) * 3, warm_up=0)
        run = run_of(recipe)
        codes = run.model.code.weight
        for number in range(3):
            before = codes.detach().clone()
            run.take_step()
            changed = (codes - before).abs().amax(1) > 0
            assert changed.tolist() == [n <= number for n in range(3)]

    @pytest.mark.parametrize("teacher", TEACHERS)
    @pytest.mark.parametrize("together", [True, False])
    def test_both_teachers_teach(self, run_of, teacher, together):
        """Steps on one crop alone lower their loss and make its picture better."""
        one_crop = {"batch": 1, "crop": 48, "unlock": 0.0, "shares": (1.0, 1.0), "rate": 1e-2, "steps": 40}
        recipe = replace(SMALL, teacher=teacher, teacher_steps=10, together=together, **one_crop)
        run = run_of(recipe)
        run.seed = lambda _: 7  # every step draws the same
        run.generator = lambda _: torch.Generator().manual_seed(7)
        told = []
        for _ in range(25):
            run.take_step()
            told.append(run.figures())
        assert told[-1]["loss"] < told[0]["loss"] - (0.1 if teacher == "render" else 0.1 * told[0]["loss"])
        assert told[-1]["psnr"] > told[0]["psnr"] + 0.3
        assert told[-1]["psnr_start"] == told[0]["psnr_start"]

    @pytest.mark.parametrize("batch", [1, 3])
    def test_the_loss_is_the_logarithm_of_the_mean_square(self, run_of, batch):
        """The mean over crops."""
        run = run_of(replace(SMALL, batch=batch, shares=(1.0,), unlock=0.0))
        run.take_step()
        figures = run.figures()
        assert figures["loss"] == pytest.approx(np.log(10 ** (-figures["psnr"] / 10) + 1e-5), abs=2e-2)
        assert figures["stages"] == 1

    def test_the_seed_decides(self, run_of):
        weights = []
        for seed in (1, 1, 2):
            run = run_of(replace(SMALL, seed=seed))
            run.take_step()
            weights.append(run.model.last.weight.detach())
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])

    def test_half_precision_is_nearly_the_same(self, run_of):
        weights, losses = [], []
        for precision in ("float32", "bfloat16"):
            run = run_of(replace(SMALL, precision=precision, unlock=0.0))
            run.take_step()
            weights.append(run.model.last.weight.detach())
            losses.append(run.figures()["loss"])
        assert not torch.equal(*weights)
        assert losses[1] == pytest.approx(losses[0], abs=0.01)

    def test_densities_lie_between_the_two(self, run_of, monkeypatch):
        counts = []

        def counted(model, picture, count, *rest, **options):
            counts.append(count)
            return original(model, picture, count, *rest, **options)

        original = steps.stages
        monkeypatch.setattr(steps, "stages", counted)
        run = run_of(replace(SMALL, densest=10.0, sparsest=100.0, batch=16, steps=100))
        for _ in range(3):
            run.take_step()
        assert min(counts) >= round(32 * 32 / 100)
        assert max(counts) <= round(32 * 32 / 10)
        assert len(set(counts)) > 20


class TestValidation:
    @pytest.fixture
    def bank(self, data):
        return read_bank(list_pictures(data))

    def test_tells_every_density_and_stage(self, bank):
        validation = Validation(bank, (0.5, 1.0))
        scores = validation.scores(build(SMALL))
        assert list(scores) == [f"{sparse} px a kernel, stage {stage}" for sparse in SPARSE for stage in (1, 2)]
        assert list(validation.before) == [f"{sparse} px a kernel" for sparse in SPARSE]
        assert all(np.isfinite(value) for value in (*scores.values(), *validation.before.values()))
        assert scores["40 px a kernel, stage 2"] > scores["100 px a kernel, stage 2"]

    def test_a_network_that_says_nothing_is_better_than_a_start(self, bank):
        network = build(SMALL)
        with torch.no_grad():
            network.last.weight.zero_()
        validation = Validation(bank, (1.0,) * 3)
        scores = validation.scores(network)
        for sparse in SPARSE:
            assert scores[f"{sparse} px a kernel, stage 3"] > validation.before[f"{sparse} px a kernel"] + 1.0

    def test_is_the_same_again_and_costs_no_gradients(self, bank):
        network = build(SMALL)
        validation = Validation(bank, SHARES)
        assert validation.scores(network) == validation.scores(network)
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_shows_stages_and_the_picture(self, bank, tmp_path):
        Validation(bank, (1.0,) * 3).show(build(SMALL), tmp_path / "strip.png")
        shown = np.asarray(Image.open(tmp_path / "strip.png"))
        assert shown.std() > 10

    def test_leaves_the_mode_of_the_network(self, run_of, bank):
        run = run_of(SMALL, bank)
        assert run.validation is not None
        run.model.train()
        run.validate(SimpleNamespace(write=lambda *_, **__: None), SimpleNamespace(seconds=0.0))
        assert run.model.training
        assert set(run.scores) == KEYS


NAN = float("nan")


class TestRecipes:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("network", [5, None]),
            ("options", [5, None, {1: 2}, {"a": object()}, {"a": NAN}]),
            ("start", [5]),
            ("shares", [(), (0.0, 1.0), (1.0, 0.5), (0.5,), (NAN, 1.0), "1", None, (True,), (1.0,) * 65]),
            ("unlock", [-0.1, 1.1, NAN, "0", None, True, float("inf")]),
            ("densest", [0, -1, NAN, "15", None, 200.0]),
            ("sparsest", [0, NAN, float("inf"), None]),
            ("teacher", ["none", None, 5, []]),
            ("teacher_steps", [0, 1.5, True, None]),
            ("crop", [8, 31, 32.0, None]),
            ("batch", [0, 1.5, None]),
            ("shrink", [-0.1, 2, NAN, None]),
            ("steps", [0, 1.5, "8"]),
            ("minutes", [0, -1, NAN, "8"]),
            ("rate", [0, NAN, None]),
            ("warm_up", [-1, 0.5]),
            ("weight_decay", [-1, NAN]),
            ("betas", [(1, 2), (0.9,), 0.9, None]),
            ("clip", [0, NAN]),
            ("average", [1, -0.1, NAN]),
            ("precision", ["float64", None]),
            ("held_out", [1, -0.1, NAN]),
            ("validate_every", [0, 1.5]),
            ("seed", [-1, 1.5, None]),
            ("together", [2, "yes", None, 0.5]),
        ],
    )
    def test_wrong_values_are_named(self, name, values):
        for value in values:
            with pytest.raises(ArgumentError, match=rf"^{name}\b") as told:
                PredictRecipe(**{name: value})
            assert "\n" not in str(told.value)

    def test_all_values_are_tried(self):
        tried = self.test_wrong_values_are_named.pytestmark[0].args[1]
        assert {name for name, _ in tried} == set(SMALL.to_json())

    def test_survive_json(self):
        for recipe in (PredictRecipe(), SMALL, replace(SMALL, minutes=2.0, steps=None, start="a.safetensors")):
            held = json.loads(json.dumps(recipe.to_json()))
            assert PredictRecipe.from_json(held) == recipe
            assert PredictRecipe.from_json(held).to_json() == held

    @pytest.mark.parametrize("held", [5, [], None, {"stages": 3}, {"width": 8}])
    def test_what_is_none_is_refused(self, held):
        with pytest.raises(ArgumentError, match="no recipe of predicting"):
            PredictRecipe.from_json(held)

    def test_a_crop_is_the_largest_that_a_step_sees(self):
        assert SMALL.largest_crop == 32
        assert PredictRecipe(shares=[0.5, 1]).shares == (0.5, 1)
