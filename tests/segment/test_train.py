"""Training: the same weights however often it is interrupted, stops that say why, and a file that can be used."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from moesaic import zoo
from moesaic.errors import ArgumentError, ModelError, TrainingError
from moesaic.segment import run as steps
from moesaic.segment import train as training
from moesaic.segment.build import build, parameters
from moesaic.segment.data import FolderData
from moesaic.segment.recipe import SegmentRecipe
from moesaic.segment.train import confusion, train_segment
from moesaic.training.log import read_log
from moesaic.weights_file import read_weights

TINY = SegmentRecipe(width=0.25, experts=4, k=2, grid=2, batch=4, epochs=3, validate_every=1, crop=(24, 32), seed=3)


def _weights(out):
    weights, _ = read_weights(out / "model.safetensors")
    return weights


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
def straight(camvid, tmp_path):
    """A run without interruption."""
    run = train_segment(camvid, tmp_path / "straight", TINY)
    assert (run.finished, run.step, run.steps, run.epochs) == (True, 6, 6, 3)
    return run


def test_leaves_weights_with_a_card(straight):
    card = read_weights(straight.weights)[1]
    assert (card.architecture, card.task, card.size, card.parameters) == ("enet", "segment", (32, 40), _size(TINY))
    assert card.classes[:2] == ("Sky", "Building")
    assert card.options["experts"] == 4
    assert card.scores["val_mean_iou"] == pytest.approx(straight.score, abs=1e-6)
    assert zoo.load_model(straight.weights).classes == 11
    assert SegmentRecipe.from_json({k: v for k, v in card.recipe.items() if k != "data"}) == TINY
    assert card.recipe["data"]["pictures"] == 9


def _size(recipe):
    return parameters(build(recipe, 11))


def test_the_log_tells_each_epoch(straight):
    lines = read_log(straight.out / "log.jsonl")
    assert [line["event"] for line in lines] == ["started", "epoch", "epoch", "epoch", "finished"]
    assert all(math.isfinite(line["loss"]) and line["balance"] != 0 for line in lines[1:4])
    assert lines[3]["mean_iou"] == pytest.approx(straight.score)


@pytest.mark.parametrize(("gate", "average"), [("two_conv", None), ("random", 0.5)])
def test_interruptions_change_nothing(camvid, tmp_path, monkeypatch, gate, average):
    recipe = replace(TINY, gate=gate, average=average)
    train_segment(camvid, tmp_path / "straight", recipe)
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)  # a checkpoint at every step
    for step in (1, 3, 4):  # in an epoch, in the next one, at its end
        with pytest.raises(StoppedError):
            train_segment(camvid, tmp_path / "pieces", recipe, progress=_stop_at(step))
        torch.rand(7)  # what the caller draws in between
    assert train_segment(camvid, tmp_path / "pieces", recipe).finished
    _assert_same(_weights(tmp_path / "straight"), _weights(tmp_path / "pieces"))
    events = [line["event"] for line in read_log(tmp_path / "pieces" / "log.jsonl")]
    assert events.count("epoch") == 3


def test_steps_after_the_last_checkpoint_are_done_again(camvid, tmp_path, straight):
    with pytest.raises(StoppedError):
        train_segment(camvid, tmp_path / "pieces", TINY, progress=_stop_at(3))  # nothing is saved but the beginning
    train_segment(camvid, tmp_path / "pieces", TINY)
    _assert_same(_weights(straight.out), _weights(tmp_path / "pieces"))


_KILLED = """
import json, sys
from moesaic.segment import recipe, train
train.SAVE_EVERY = 0.0
made = recipe.SegmentRecipe.from_json(json.loads(sys.argv[3]))
train.train_segment(sys.argv[1], sys.argv[2], made, progress=lambda now: print(now.step, flush=True))
"""


def test_a_killed_run_goes_on(camvid, tmp_path, straight):
    command = [sys.executable, "-c", _KILLED, str(camvid), str(tmp_path / "pieces"), json.dumps(TINY.to_json())]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **threads}) as child:
        while child.stdout.readline().strip() != b"2":
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "pieces" / "model.safetensors").exists()
    assert train_segment(camvid, tmp_path / "pieces", TINY).finished
    _assert_same(_weights(straight.out), _weights(tmp_path / "pieces"))


def test_a_finished_run_is_left_as_it_is(camvid, straight):
    again = train_segment(camvid, straight.out, TINY)
    assert (again.finished, again.step, again.score) == (True, 6, straight.score)


def test_finished_weights_without_a_checkpoint_are_never_replaced(camvid, straight, monkeypatch):
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (straight.out / name).unlink(missing_ok=True)
    written = straight.weights.read_bytes()
    with pytest.raises(TrainingError, match="holds finished weights without a checkpoint; name another folder"):
        train_segment(camvid, straight.out, replace(TINY, seed=4))
    monkeypatch.setattr(steps.Run, "take_step", None)  # the same run: nothing is trained
    for recipe in (TINY, replace(TINY, epochs=None)):  # epochs as they were settled
        again = train_segment(camvid, straight.out, recipe)
        assert (again.finished, again.step, again.epochs) == (True, 6, 3)
        assert again.score == pytest.approx(straight.score, abs=1e-6)
    assert straight.weights.read_bytes() == written


def test_minutes_stop_a_call(camvid, tmp_path, straight):
    out = tmp_path / "pieces"
    first = train_segment(camvid, out, TINY, minutes=1e-6)
    assert (first.finished, first.step, first.weights) == (False, 1, None)
    calls = 0
    while not train_segment(camvid, out, TINY, minutes=0.01).finished:
        calls += 1
        assert calls < 50
    _assert_same(_weights(straight.out), _weights(out))


def test_minutes_alone_settle_the_epochs(camvid, tmp_path):
    recipe = replace(TINY, epochs=None)
    started = time.monotonic()
    run = train_segment(camvid, tmp_path / "run", recipe, minutes=0.03)
    assert run.epochs > 1
    assert time.monotonic() - started < 30
    again = train_segment(camvid, tmp_path / "run", recipe, minutes=5)
    assert (again.finished, again.epochs) == (True, run.epochs)
    with pytest.raises(ArgumentError, match="epochs in its recipe, or minutes"):
        train_segment(camvid, tmp_path / "other", recipe)


def test_another_recipe_is_refused_by_name(camvid, tmp_path, straight):
    with pytest.raises(TrainingError, match=r"rate was 0\.001 and is now 0\.01; seed was 3 and is now 4;"):
        train_segment(camvid, straight.out, replace(TINY, rate=0.01, seed=4))
    run = train_segment(camvid, straight.out, replace(TINY, epochs=1), resume=False)
    assert run.steps == 2
    assert [line["event"] for line in read_log(run.out / "log.jsonl")] == ["started", "epoch", "finished"]


def test_other_data_are_refused(camvid, straight):
    (camvid / "train" / "t0.png").write_bytes((camvid / "train" / "t1.png").read_bytes())
    with pytest.raises(TrainingError, match="data hash was '"):
        train_segment(camvid, straight.out, TINY)


def test_a_diverged_run_stops_and_keeps_its_checkpoint(camvid, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "pixel_loss", _nan_at_call(4))
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    with pytest.raises(TrainingError, match=r"the loss became nan.* at step 3 of 6; the checkpoint of step 3 is kept"):
        train_segment(camvid, tmp_path / "run", TINY)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["run"]["step"] == 3
    assert all(value.isfinite().all() for value in state["run"]["model"].values())
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["event"] == "diverged"


def _nan_at_call(number):
    calls = 0
    real = steps.pixel_loss

    def loss(*arguments):
        nonlocal calls
        calls += 1
        return real(*arguments) * (math.nan if calls == number else 1)

    return loss


def test_weights_that_overflow_are_not_kept(camvid, tmp_path):
    with pytest.raises(TrainingError, match="lower rate"):
        train_segment(camvid, tmp_path / "run", replace(TINY, rate=1e38, optimiser="sgd", warm_up=0, clip=1e30))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["run"]["model"].values())


def test_arms_share_order_augmentation_and_first_weights(camvid, tmp_path):
    dense = replace(TINY, experts=None)
    first, second = build(dense, 11).state_dict(), build(TINY, 11).state_dict()
    shared = first.keys() & second.keys()
    assert len(shared) == len(first) - 2  # but for the layer that became experts
    assert all(torch.equal(first[name], second[name]) for name in shared)


def test_upcycling_begins_with_the_dense_network(camvid, tmp_path):
    dense = train_segment(camvid, tmp_path / "dense", replace(TINY, experts=None))
    recipe = replace(TINY, start=str(dense.weights))
    plain, routed = build(replace(recipe, experts=None), 11).eval(), build(recipe, 11).eval()
    x = torch.rand(2, 3, 32, 40)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), routed(x), atol=1e-5, rtol=1e-5)
    run = train_segment(camvid, tmp_path / "moe", recipe)
    kept = json.loads((run.out / "recipe.json").read_text())["start"]
    assert kept["file"] == "model.safetensors"
    assert len(kept["sha256"]) == 64
    assert str(tmp_path) not in (run.out / "model.json").read_text()
    go_on = build(replace(TINY, start=str(run.weights)), 11)  # a routed file is taken as it is
    _assert_same(go_on.state_dict(), read_weights(run.weights)[0])
    with pytest.raises(ModelError, match="another network"):
        build(replace(recipe, width=0.5), 11)


def test_it_learns(camvid, tmp_path):
    run = train_segment(camvid, tmp_path / "run", replace(TINY, width=1.0, epochs=60, rate=5e-3, validate_every=60))
    assert run.score > 0.6  # 0.1 where all pixels are given one class


def test_scores_do_not_depend_on_the_batch(camvid):
    data = FolderData(camvid)
    store = data.read("train")
    model = build(TINY, 11)
    matrix = confusion(model, store, 11, batch=9)
    assert torch.equal(matrix, confusion(model, store, 11, batch=2))
    assert int(matrix.sum()) == int((store.labels != 255).sum())
    assert model.training


def test_the_callers_generator_is_left_alone(camvid, tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_segment(camvid, tmp_path / "run", replace(TINY, epochs=1))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch": 0}, "batch 0 must be at least 1"),
        ({"k": 5}, "k 5 is more than the 4 experts"),
        ({"schedule": "step"}, "schedule 'step' is unknown; choose one of cosine, poly, constant"),
        ({"optimiser": "adam"}, "optimiser"),
        ({"class_weights": "all"}, "class_weights"),
        ({"precision": "half"}, "precision"),
        ({"rate": math.nan}, "rate nan"),
        ({"scale": (1.5, 0.5)}, "scale"),
        ({"jitter": 1.0}, "jitter"),
        ({"average": 1.0}, "average"),
        ({"size": (0, 5)}, "size"),
        ({"warm_up": -1.0}, "warm_up"),
    ],
)
def test_recipes_that_cannot_be(change, says):
    with pytest.raises(ArgumentError, match=says):
        replace(TINY, **change)


def test_a_batch_beyond_the_split(camvid, tmp_path):
    with pytest.raises(ArgumentError, match="batch 10 is larger than the 9 pictures"):
        train_segment(camvid, tmp_path / "run", replace(TINY, batch=10))


def test_bfloat16(camvid, tmp_path):
    run = train_segment(camvid, tmp_path / "run", replace(TINY, epochs=1, precision="bfloat16"))
    assert run.finished
