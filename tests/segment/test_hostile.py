"""Training on what cannot be trained on: one line that names the cause, and nothing half-written in the folder."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, LimitError, ModelError, MoesaicError, PictureError, TrainingError
from moesaic.segment import run as steps
from moesaic.segment import train as training
from moesaic.segment.recipe import SegmentRecipe
from moesaic.segment.train import train_segment
from moesaic.training.lock import alone_in
from moesaic.training.log import read_log

TINY = SegmentRecipe(width=0.1, experts=4, k=2, grid=2, batch=4, epochs=1, validate_every=1, crop=(24, 32), seed=3)


def _refused(kind, says, data, out, recipe=TINY, **call):
    with pytest.raises(kind, match=says) as caught:
        train_segment(data, out, recipe, **call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"grid": 7}, ArgumentError, r"size, crop and scale make batches as small as 30x24 px: a grid of 7 patches"),
        ({"crop": (1, 1)}, ArgumentError, "as small as 1x1 px: pictures of 1x1 are too small"),
        ({"size": (8, 8)}, ArgumentError, "size makes the split val as small as 8x8 px"),
        ({"size": (10**6, 10**6)}, LimitError, "size: 1000000x1000000 has more than"),
        ({"place": "nowhere"}, ArgumentError, "where='nowhere' names no layer"),
        ({"gate": "nope"}, ArgumentError, "gate 'nope' is unknown"),
        ({"gate": "score"}, ArgumentError, "this gate reads 7 numbers"),
        ({"gate_options": {"grid": 3}}, ArgumentError, "gate_options holds grid"),
        ({"experts": 5000}, ArgumentError, "experts is a whole number from 1 to 4096"),
        ({"width": 900.0}, LimitError, "not enough memory for enet"),
        ({"options": {"wings": 1}}, ArgumentError, "wings"),
        ({"start": "/nowhere.safetensors"}, ModelError, "cannot be read"),
    ],
)
def test_recipes_that_cannot_be_built_leave_nothing(camvid, tmp_path, change, kind, says):
    _refused(kind, says, camvid, tmp_path / "run", replace(TINY, **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"minutes": math.nan}, "minutes nan must be a number above 0"),
        ({"minutes": "3"}, "minutes '3'"),
        ({"minutes": math.inf}, "minutes inf"),
        ({"minutes": -1}, "minutes -1"),
        ({"device": 5}, "device 5 is unknown"),
        ({"recipe": 5}, "recipe is a SegmentRecipe, not int"),
    ],
)
def test_calls_of_another_kind(camvid, tmp_path, call, says):
    _refused(ArgumentError, says, camvid, tmp_path / "run", **call)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", [5, "", "a\0b", "x" * 300, "t0.png/run"])
def test_outputs_that_cannot_be(camvid, monkeypatch, out):
    monkeypatch.chdir(camvid / "train")
    _refused(ArgumentError, "out |cannot write into", camvid, out)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"batch": "8"}, "batch '8' must be at least 1, a whole number"),
        ({"batch": 2.5}, "batch 2.5"),
        ({"batch": True}, "batch True"),
        ({"epochs": 2.5}, "epochs 2.5"),
        ({"k": "2"}, "k '2'"),
        ({"experts": "8"}, "experts '8'"),
        ({"seed": "x"}, "seed 'x' must be at least 0, a whole number"),
        ({"rate": "fast"}, "rate 'fast' must be a number above 0"),
        ({"clip": None}, "clip None"),
        ({"width": "x"}, "width 'x'"),
        ({"warm_up": "x"}, "warm_up 'x' must be a number from 0"),
        ({"label_smoothing": None}, "label_smoothing None"),
        ({"average": "x"}, "average 'x'"),
        ({"scale": 5}, "scale 5"),
        ({"scale": (1, "x")}, "scale"),
        ({"size": 5}, "size 5"),
        ({"size": (10.5, 3)}, "size"),
        ({"crop": ("1", "2")}, "crop"),
        ({"grid": "x"}, "grid"),
        ({"grid": (0, 1)}, "grid"),
        ({"gate": []}, r"gate \[\] must be a text"),
        ({"network": None}, "network None must be a text"),
        ({"options": 5}, "options 5 must be a table"),
        ({"gate_options": {"f": print}}, "gate_options .* must hold numbers"),
        ({"flip": "yes"}, "flip 'yes'"),
        ({"schedule": []}, r"schedule \[\] is unknown"),
    ],
)
def test_recipes_of_another_kind(change, says):
    with pytest.raises(ArgumentError, match=says):
        replace(TINY, **change)


@pytest.mark.parametrize("held", [[1], 5, {"wings": 1}, {"batch": [1]}])
def test_json_that_is_no_recipe(held):
    with pytest.raises(ArgumentError):
        SegmentRecipe.from_json(held)


def _void(root: Path) -> None:
    for path in (root / "trainannot").iterdir():
        Image.fromarray(np.full((32, 40), 11, np.uint8)).save(path)


def _lines(root: Path) -> None:
    for split in ("train", "val"):
        for path in (root / split).iterdir():
            Image.fromarray(np.zeros((1, 40, 3), np.uint8)).save(path)
            Image.fromarray(np.zeros((1, 40), np.uint8)).save(root / f"{split}annot" / path.name)


def _empty_val(root: Path) -> None:
    for folder in ("val", "valannot"):
        for path in (root / folder).iterdir():
            path.unlink()


def _outside(root: Path) -> None:
    Image.fromarray(np.full((32, 40), 200, np.uint8)).save(root / "trainannot" / "t0.png")


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (_void, ArgumentError, "the split train has no labelled pixel"),
        (_lines, ArgumentError, "pictures of 40x1 are too small"),
        (_empty_val, PictureError, "val holds no picture"),
        (_outside, PictureError, r"t0\.png holds label 200: allowed are 0 to 10"),
    ],
)
def test_data_that_cannot_be_learned(camvid, tmp_path, spoil, kind, says):
    spoil(camvid)
    _refused(kind, says, camvid, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rate_far_too_high_stops_at_once(camvid, tmp_path):
    recipe = replace(TINY, rate=1e6, epochs=30, warm_up=0.0)
    _refused(
        TrainingError,
        r"the loss became nan.* at step 1 of 60; the checkpoint of step 0 is kept",
        camvid,
        tmp_path / "run",
        recipe,
    )
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["run"]
    assert all(value.isfinite().all() for value in state["model"].values())
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["event"] == "diverged"
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_rate_far_too_high_while_the_speed_is_measured(camvid, tmp_path):
    recipe = replace(TINY, rate=1e30, epochs=None, warm_up=0.0)
    _refused(
        TrainingError,
        "within the first 2 steps; start anew with a lower rate",
        camvid,
        tmp_path / "run",
        recipe,
        minutes=1,
    )


def test_statistics_of_norms_that_overflow_are_not_kept(camvid, tmp_path):
    run = tmp_path / "run"
    real = steps.Run.take_step

    def step(self):
        figures = real(self)
        next(value for name, value in self.model.named_buffers() if name.endswith("running_var")).fill_(math.inf)
        return figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps.Run, "take_step", step)
        _refused(
            TrainingError,
            "running_var is no longer finite at step 2 of 2; the checkpoint of step 0 is kept",
            camvid,
            run,
        )
    assert train_segment(camvid, run, TINY).finished  # from what was kept


def test_memory_that_runs_out_in_a_step(camvid, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(steps, "pixel_loss", full)
    _refused(
        LimitError,
        "not enough memory for a step of 4 pictures of 40x32 px through enet; lower batch, crop or",
        camvid,
        tmp_path / "run",
    )


def test_two_runs_in_one_folder(camvid, tmp_path):
    with alone_in(tmp_path / "run"):
        for resume in (True, False):
            _refused(
                TrainingError,
                rf"another run is training in this folder \(process {os.getpid()}\)",
                camvid,
                tmp_path / "run",
                resume=resume,
            )

    def again(now):
        _refused(TrainingError, "another run is training", camvid, tmp_path / "run")

    assert train_segment(camvid, tmp_path / "run", TINY, progress=again).finished
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.fixture
def finished(camvid, tmp_path):
    return train_segment(camvid, tmp_path / "run", TINY).out


def test_a_fresh_run_that_cannot_be_leaves_the_old_one(camvid, finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    _refused(ArgumentError, "a grid of 7 patches", camvid, finished, replace(TINY, grid=7), resume=False)
    _refused(TrainingError, "rate was 0.001 and is now 0.5", camvid, finished, replace(TINY, rate=0.5))
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda state: 5, "no checkpoint can be read"),
        (lambda state: {}, "the checkpoint is none of this task"),
        (lambda state: {"config": 5, "run": {}}, "the checkpoint is none of this task"),
        (lambda state: state | {"run": {}}, "does not fit this version of moesaic .KeyError: 'step'"),
        (lambda state: state | {"run": state["run"] | {"model": {}}}, "does not fit this version"),
        (lambda state: state | {"run": state["run"] | {"health": 5}}, "does not fit this version"),
        (lambda state: state | {"run": state["run"] | {"optimiser": 5}}, "does not fit this version"),
    ],
)
def test_checkpoints_that_were_tampered_with(camvid, finished, damage, says):
    state = damage(torch.load(finished / "checkpoint.pt", weights_only=True))
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        torch.save(state, finished / name)
    _refused(TrainingError, says + ".*--fresh", camvid, finished)


@pytest.mark.parametrize("name", ["log.jsonl", "recipe.json", "model.safetensors", "checkpoint.pt"])
def test_folders_in_the_place_of_files(camvid, finished, name):
    (finished / name).unlink()
    (finished / name).mkdir()
    with pytest.raises(MoesaicError, match=r"cannot (write|remove)"):
        train_segment(camvid, finished, TINY, resume=False)


def test_checkpoints_from_before_the_gates_were_watched(camvid, finished):
    path = finished / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["run"]["health"]
    torch.save(state, path)
    assert train_segment(camvid, finished, TINY).warnings == ()


class StoppedError(Exception):
    pass


def test_the_log_tells_of_the_gates(camvid, tmp_path, monkeypatch):
    recipe = replace(TINY, epochs=2)
    news = []
    run = train_segment(camvid, tmp_path / "straight", recipe, progress=news.append)
    lines = [line for line in read_log(run.out / "log.jsonl") if line["event"] == "epoch"]
    for line in lines:
        (layer,) = line["routing"]
        assert layer == "stage4.1.conv"
        assert set(line["routing"][layer]) == {
            *("experts", "routing_entropy", "top_assignment_share", "top_patch_share", "flatness", "dead")
        }
        assert 0.25 <= line["routing"][layer]["top_assignment_share"] <= 0.5
    assert news[-1].warning == "; ".join(run.warnings)
    assert news[0].warning == ""

    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    def stop(now):
        if now.step == 3:  # in the second epoch
            raise StoppedError

    with pytest.raises(StoppedError):
        train_segment(camvid, tmp_path / "pieces", recipe, progress=stop)
    again = train_segment(camvid, tmp_path / "pieces", recipe)
    assert again.warnings == run.warnings
    resumed = [line for line in read_log(again.out / "log.jsonl") if line["event"] == "epoch"]
    assert [line["routing"] for line in resumed] == [line["routing"] for line in lines]
    assert train_segment(camvid, tmp_path / "pieces", recipe).warnings == run.warnings  # nothing is left to do


def test_dense_runs_have_no_gates_to_tell_of(camvid, tmp_path):
    run = train_segment(camvid, tmp_path / "run", replace(TINY, experts=None))
    assert all("routing" not in line for line in read_log(run.out / "log.jsonl"))
    assert run.warnings == ()
