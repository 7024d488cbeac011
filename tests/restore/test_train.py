"""Training: the same weights however often it is interrupted, stops that say why, and a file that can be used."""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.degrade.batch import DEFAULT_MIX, degrade_batch
from moesaic.errors import ArgumentError, ModelError, PictureError, TrainingError
from moesaic.restore import finish
from moesaic.restore import run as steps
from moesaic.restore.build import Parts, known_parts
from moesaic.restore.loss import FLOOR
from moesaic.restore.recipe import RestoreRecipe
from moesaic.restore.train import train_restore
from moesaic.training import on_pictures
from moesaic.training.log import read_log
from moesaic.weights_file import read_weights
from moesaic.zoo import load_model
from tests.restore.stand_in import MIX, StandIn, parts
from tests.training.test_parallel import run_two

TINY = RestoreRecipe(
    network="stand_in", steps=12, crop=16, batch=4, late_crop=20, late_share=0.25, validate_every=5, warm_up=2, seed=3,
    explore=0.5, explore_end=0.1, cost=0.01, held_out=0.2, average=0.9,
)  # fmt: skip


def _weights(out):
    return read_weights(out / "model.safetensors")[0]


def _assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class StoppedError(Exception):
    pass


def _stop_at(step):
    def told(now):
        if now.step == step:
            raise StoppedError

    return told


@pytest.fixture
def straight(pictures, tmp_path):
    """A run without interruption."""
    run = train_restore(pictures, tmp_path / "straight", TINY, parts=parts())
    assert (run.finished, run.step, run.steps) == (True, 12, 12)
    return run


def test_leaves_weights_with_a_card_and_samples(straight):
    card = read_weights(straight.weights)[1]
    assert (card.architecture, card.task, card.multiple_of) == ("stand_in", "restore", 4)
    assert card.parameters == sum(parameter.numel() for parameter in StandIn().parameters())
    assert card.recipe["data"] == {**card.recipe["data"], "name": "pictures", "pictures": 12, "held_out": 2}
    assert card.recipe["mix"] == MIX
    own = {name: value for name, value in card.recipe.items() if name not in ("data", "processes")}
    assert RestoreRecipe.from_json(own) == replace(TINY, mix=MIX)
    assert straight.scores == {name: card.scores[f"held_out_psnr {name}"] for name in MIX}
    assert straight.psnr == pytest.approx(sum(straight.scores.values()) / 3)
    strips = sorted((straight.out / "samples").iterdir())
    assert [path.name for path in strips] == ["step_0000005.png", "step_0000010.png", "step_0000012.png"]
    assert np.asarray(Image.open(strips[0])).shape == (6 * 24 + 5 * 2, 3 * 24 + 2 * 2, 3)  # 2 pictures of 3 sorts


def test_the_log_tells_how_it_went(straight):
    lines = read_log(straight.out / "log.jsonl")
    assert [(line["event"], line["step"]) for line in lines] == [
        ("started", 0), ("validation", 5), ("validation", 10), ("step", 12), ("finished", 12), ("validation", 12),
    ]  # fmt: skip
    told = lines[3]
    assert all(math.isfinite(told[name]) for name in ("loss", "pixels", "fourier", "labels", "balance", "gradient"))
    assert set(told["psnr"]) == set(told["psnr_in"]) == set(told["usage"]["experts"]) <= set(MIX)
    assert 0.5 <= told["cost"] <= 1
    assert lines[-1]["psnr"] == straight.scores
    assert lines[-1]["psnr_in"]["clean"] == 100


def test_interruptions_change_nothing(pictures, tmp_path, monkeypatch, straight):
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)  # a checkpoint at every step
    for step in (1, 4, 5, 10, 11):  # before and after losses are read, at a validation, in the late part
        with pytest.raises(StoppedError):
            train_restore(pictures, tmp_path / "pieces", TINY, progress=_stop_at(step), parts=parts())
        torch.rand(7)  # what the caller draws in between
    assert train_restore(pictures, tmp_path / "pieces", TINY, parts=parts()).scores == straight.scores
    _assert_same(_weights(straight.out), _weights(tmp_path / "pieces"))
    first, second = (read_log(out / "log.jsonl") for out in (straight.out, tmp_path / "pieces"))
    ignored = {"seconds": None}
    same = [{**line, **ignored} for line in second if line["event"] not in ("stopped", "resumed")]
    assert same == [{**line, **ignored} for line in first]


_KILLED = """
import json, sys
from moesaic.restore import recipe, train
from moesaic.training import on_pictures
from tests.restore.stand_in import parts
on_pictures.SAVE_EVERY = 0.0
made = recipe.RestoreRecipe.from_json(json.loads(sys.argv[3]))
tell = lambda now: print(now.step, flush=True)
train.train_restore(sys.argv[1], sys.argv[2], made, progress=tell, parts=parts())
"""


def test_a_killed_run_goes_on(pictures, tmp_path, straight):
    command = [sys.executable, "-c", _KILLED, str(pictures), str(tmp_path / "pieces"), json.dumps(TINY.to_json())]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **threads}) as child:
        while child.stdout.readline().strip() != b"7":
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "pieces" / "model.safetensors").exists()
    assert train_restore(pictures, tmp_path / "pieces", TINY, parts=parts()).finished
    _assert_same(_weights(straight.out), _weights(tmp_path / "pieces"))


def test_pieces_add_up_to_the_run(pictures, tmp_path, straight):
    out = tmp_path / "pieces"
    first = train_restore(pictures, out, TINY, piece=1e-6, parts=parts())
    assert (first.finished, first.step, first.weights) == (False, 1, None)
    calls = 0
    while not train_restore(pictures, out, TINY, piece=0.002, parts=parts()).finished:
        calls += 1
        assert calls < 50
    _assert_same(_weights(straight.out), _weights(out))


def test_minutes_are_planned_once(pictures, tmp_path):
    recipe = replace(TINY, steps=None, minutes=0.02)
    planned = train_restore(pictures, tmp_path / "run", recipe, piece=1e-6, parts=parts())
    assert (planned.finished, planned.step) == (False, 1)
    assert planned.steps > 1
    ended = train_restore(pictures, tmp_path / "run", recipe, parts=parts())
    assert (ended.finished, ended.steps) == (True, planned.steps)
    stated = train_restore(pictures, tmp_path / "stated", replace(recipe, steps=planned.steps), parts=parts())
    _assert_same(_weights(ended.out), _weights(stated.out))
    with pytest.raises(ArgumentError, match="needs steps in its recipe, or minutes"):
        train_restore(pictures, tmp_path / "other", replace(TINY, steps=None), parts=parts())


def test_a_finished_run_is_left_as_it_is(pictures, straight):
    written = straight.weights.stat().st_mtime_ns
    again = train_restore(pictures, straight.out, TINY, parts=parts())
    assert (again.finished, again.step, again.scores) == (True, 12, straight.scores)
    assert straight.weights.stat().st_mtime_ns == written


def test_finished_weights_without_a_checkpoint_are_never_replaced(pictures, straight, monkeypatch):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (straight.out / name).unlink(missing_ok=True)
    written = straight.weights.read_bytes()
    with pytest.raises(TrainingError, match="holds finished weights without a checkpoint; name another folder"):
        train_restore(pictures, straight.out, replace(TINY, seed=4), parts=parts())
    with monkeypatch.context() as patched:
        patched.setattr(steps.Run, "take_step", None)  # the same run: nothing is trained
        again = train_restore(pictures, straight.out, TINY, parts=parts())
    assert (again.finished, again.step, again.scores, again.weights) == (True, 12, straight.scores, straight.weights)
    assert straight.weights.read_bytes() == written
    assert train_restore(pictures, straight.out, replace(TINY, steps=1), resume=False, parts=parts()).finished


def test_a_planned_run_is_known_by_its_weights(pictures, tmp_path):
    recipe = replace(TINY, steps=None, minutes=0.002)
    ended = train_restore(pictures, tmp_path / "run", recipe, parts=parts())
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (ended.out / name).unlink(missing_ok=True)
    again = train_restore(pictures, tmp_path / "run", recipe, parts=parts())
    assert (again.finished, again.steps, again.scores) == (True, ended.steps, ended.scores)


def test_a_cut_file_is_written_again(pictures, straight):
    whole = straight.weights.read_bytes()
    straight.weights.write_bytes(whole[:-5])  # its card can still be read
    assert train_restore(pictures, straight.out, TINY, parts=parts()).finished
    assert straight.weights.read_bytes() == whole


@pytest.mark.parametrize("change", [{"step": -1}, {"step": 13}, {"step": 2.5}, {"scores": {"noise": "high"}}])
def test_a_checkpoint_of_impossible_values_is_refused(pictures, straight, change):
    state = torch.load(straight.out / "checkpoint.pt", weights_only=True)
    state["run"].update(change)
    torch.save(state, straight.out / "checkpoint.pt")
    with pytest.raises(TrainingError, match="the checkpoint does not fit"):
        train_restore(pictures, straight.out, TINY, parts=parts())


def test_a_run_within_its_data_does_not_learn_from_its_samples(pictures):
    run = train_restore(pictures, pictures / "run", TINY, parts=parts())
    assert (run.out / "samples").is_dir()
    assert train_restore(pictures, pictures / "run", TINY, parts=parts()).finished  # the data are the same


def test_held_out_pictures_never_train(pictures, tmp_path, monkeypatch):
    seen = []
    real = steps.Run.__init__

    def noted(self, recipe, bank, held_out, *rest):
        seen.append((set(bank.names), set(held_out.names)))
        real(self, recipe, bank, held_out, *rest)

    monkeypatch.setattr(steps.Run, "__init__", noted)
    train_restore(pictures, tmp_path / "run", replace(TINY, steps=1), parts=parts())
    ((trained, held),) = seen
    assert (len(trained), len(held), trained & held) == (10, 2, set())


def test_without_held_out_pictures_nothing_is_validated(pictures, tmp_path):
    run = train_restore(pictures, tmp_path / "all", replace(TINY, steps=1, held_out=0), parts=parts())
    assert (run.finished, run.scores, run.psnr) == (True, {}, None)
    assert not (run.out / "samples").exists()


def test_another_recipe_is_refused_by_name(pictures, straight):
    with pytest.raises(TrainingError, match=r"rate was 0\.001 and is now 0\.01; seed was 3 and is now 4;"):
        train_restore(pictures, straight.out, replace(TINY, rate=0.01, seed=4), parts=parts())
    run = train_restore(pictures, straight.out, replace(TINY, steps=2), resume=False, parts=parts())
    assert [line["event"] for line in read_log(run.out / "log.jsonl")] == ["started", "step", "finished", "validation"]
    assert [path.name for path in (run.out / "samples").iterdir()] == ["step_0000002.png"]


def test_other_data_are_refused(pictures, straight):
    (pictures / "0.png").write_bytes((pictures / "1.png").read_bytes())
    with pytest.raises(TrainingError, match="data hash was '"):
        train_restore(pictures, straight.out, TINY, parts=parts())


def test_a_diverged_run_stops_and_keeps_its_checkpoint(pictures, tmp_path, monkeypatch):
    real, calls = steps.pixel_loss, []

    def loss(*arguments):
        calls.append(0)
        return real(*arguments) * (math.nan if len(calls) == 7 else 1)

    monkeypatch.setattr(steps, "pixel_loss", loss)
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 0.0)
    with pytest.raises(TrainingError, match=r"no longer finite at step 7 of 12; the checkpoint of step 6 is kept"):
        train_restore(pictures, tmp_path / "run", TINY, parts=parts())
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["run"]["step"] == 6
    assert all(value.isfinite().all() for value in state["run"]["model"].values())
    calls.clear()
    monkeypatch.setattr(on_pictures, "SAVE_EVERY", 60.0)
    with pytest.raises(TrainingError, match=r"gradient became no number at step 10 of 12; the checkpoint of step 0"):
        train_restore(pictures, tmp_path / "other", TINY, parts=parts())
    assert read_log(tmp_path / "other" / "log.jsonl")[-1]["event"] == "diverged"


def test_begins_with_given_weights(pictures, tmp_path, straight):
    recipe = replace(TINY, start=str(straight.weights), steps=1, rate=1e-9)
    run = train_restore(pictures, tmp_path / "more", recipe, parts=parts())
    for name, value in _weights(straight.out).items():
        torch.testing.assert_close(_weights(run.out)[name], value, atol=1e-4, rtol=0)
    assert json.loads((run.out / "recipe.json").read_text())["start"]["file"] == "model.safetensors"
    with pytest.raises(ModelError, match="another network"):
        train_restore(pictures, tmp_path / "x", replace(recipe, options={"width": 8}), parts=parts())


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"crop": 18}, ArgumentError, "crop 18 must be a multiple of 4 for stand_in"),
        ({"late_crop": 22}, ArgumentError, "late_crop 22 must be a multiple of 4"),
        ({"crop": 400}, PictureError, "none of 12 pictures has sides of at least 400 px"),
        ({"start": "nowhere.safetensors"}, ModelError, "nowhere"),
    ],
)
def test_runs_that_cannot_be(pictures, tmp_path, change, error, says):
    with pytest.raises(error, match=says):
        train_restore(pictures, tmp_path / "run", replace(TINY, **change), parts=parts())
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"piece": 0}, "piece 0 must be"), ({"piece": math.nan}, "piece"), ({"out": ""}, "out has an empty name")],
)
def test_calls_that_cannot_be(pictures, tmp_path, arguments, says):
    given = {"data": pictures, "out": tmp_path / "run", "recipe": TINY, "parts": parts(), **arguments}
    with pytest.raises(ArgumentError, match=says):
        train_restore(given.pop("data"), given.pop("out"), given.pop("recipe"), **given)


def test_the_callers_generator_is_left_alone(pictures, tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_restore(pictures, tmp_path / "run", replace(TINY, steps=1), parts=parts())
    assert torch.equal(torch.rand(3), wanted)


def test_bfloat16(pictures, tmp_path):
    assert train_restore(pictures, tmp_path / "run", replace(TINY, precision="bfloat16"), parts=parts()).finished


def test_the_floor_of_decibels_falls_by_one_factor_and_stays(pictures, tmp_path, monkeypatch):
    floors, real = [], steps.pixel_loss

    def noted(restored, clean, kind, floor):
        floors.append(floor)
        return real(restored, clean, kind, floor)

    monkeypatch.setattr(steps, "pixel_loss", noted)
    recipe = replace(TINY, steps=10, pixel_loss="decibel", floor_begin=1000 * FLOOR)
    train_restore(pictures, tmp_path / "falls", recipe, parts=parts())
    assert floors == pytest.approx([FLOOR * 1000 ** (1 - step / 7) for step in range(7)] + 3 * [FLOOR])
    assert floors[7:] == 3 * [FLOOR]
    floors.clear()
    train_restore(pictures, tmp_path / "stays", replace(TINY, steps=3), parts=parts())
    assert floors == 3 * [FLOOR]


def test_it_learns(pictures, tmp_path):
    recipe = replace(TINY, steps=150, rate=1e-2, late_crop=None, mix={"dark": 1.0}, options={"dropout": 0.0})
    run = train_restore(pictures, tmp_path / "run", recipe, parts=parts())
    before = read_log(run.out / "log.jsonl")[-1]["psnr_in"]["dark"]
    assert run.scores["dark"] > before + 5


_TWO = """
import json, sys, torch
from moesaic.restore import recipe, train
from moesaic.training import on_pictures
from tests.restore.stand_in import parts
made = recipe.RestoreRecipe.from_json(json.loads(sys.argv[3]))
run = train.train_restore(sys.argv[1], sys.argv[2], made, piece=float(sys.argv[4]), parts=parts(), device="cpu")
assert run.finished == (sys.argv[4] == "9"), run
"""


def test_two_processes_train_one_network_and_one_writes(pictures, tmp_path):
    arguments = pictures, tmp_path / "two", json.dumps(replace(TINY, steps=None, minutes=0.005).to_json())
    run_two(_TWO, *arguments, "0.000001")
    run_two(_TWO, *arguments, "9")
    state = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)
    assert state["config"]["processes"] == 2
    lines = [(line["event"], line["step"]) for line in read_log(tmp_path / "two" / "log.jsonl")]
    assert lines.count(("stopped", 1)) == lines.count(("validation", state["config"]["steps"])) == 1
    recipe = replace(TINY, steps=state["config"]["steps"])
    alone = train_restore(pictures, tmp_path / "one", recipe, parts=parts())
    first, second = _weights(tmp_path / "two"), _weights(alone.out)
    assert any(not torch.equal(value, second[name]) for name, value in first.items())  # it saw other crops as well
    with pytest.raises(TrainingError, match="processes was 2 and is now 1"):
        train_restore(pictures, tmp_path / "two", replace(TINY, steps=None, minutes=0.005), parts=parts())


def test_gates_that_learn_last_are_taught_at_the_end(pictures, tmp_path, monkeypatch):
    from moesaic.restore.models import make_network

    monkeypatch.setattr(finish, "fit_gates", functools.partial(finish.fit_gates, steps=50))
    own = Parts(network=make_network, degrade=degrade_batch, mix={"noise": 1.0, "low_light": 1.0})
    options = {"width": 4, "encoder": [0, 0, 1], "middle": 1, "decoder": 0}
    recipe = RestoreRecipe(
        options=options, steps=3, crop=16, batch=4, trials=40, held_out=0.2, average=0.5, tolerance=10.0
    )
    run = train_restore(pictures, tmp_path / "straight", recipe, parts=own)
    lines = {line["event"]: line for line in read_log(run.out / "log.jsonl")}
    assert set(lines["gates"]["foretold"]) >= {"level_0", "level_1", "level_2"}
    assert lines["validation"]["experts"] == "chosen"
    assert set(lines["validation"]["cost"]) == {"noise", "low_light"}
    assert set(lines["validation"]["usage"]) == {"experts.0", "experts.1", "experts.2"}
    assert any(_weights(run.out)[name].any() for name in _weights(run.out) if ".gate.last" in name)
    model = load_model(run.weights)
    assert model.price == read_weights(run.weights)[1].options["price"]
    while not train_restore(pictures, tmp_path / "pieces", recipe, piece=0.002, parts=own).finished:
        pass
    _assert_same(_weights(run.out), _weights(tmp_path / "pieces"))


def test_the_default_mix_is_known():
    assert set(known_parts().mix) == set(DEFAULT_MIX)
