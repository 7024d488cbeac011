"""`encode --fast` and `train predict` from end to end, on small pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.predict.models import DEFAULT_MODEL

SMALL = (
    "train", "predict", "--data", "data", "-o", "run", "--steps", "3", "--batch", "1", "--crop", "32", "--stages", "2",
    "--options", '{"hidden": 8}', "--held-out", "0.3",
)  # fmt: skip


@pytest.fixture
def trained(moe, tmp_path):
    """A run of a tiny predictor, and its photographs."""
    (tmp_path / "data").mkdir()
    rows, columns = np.mgrid[:48, :56]
    for number in range(3):
        planes = [127 + 100 * np.sin(columns / (3 + c) + rows / (7 - c) + number) for c in range(3)]
        Image.fromarray(np.stack(planes, 2).astype(np.uint8)).save(tmp_path / "data" / f"{number}.png")
    ran = moe(*SMALL)
    assert (ran.code, ran.err) == (0, "")
    assert "finished" in ran.out
    assert "stage 2" in ran.out
    return tmp_path / "run"


def test_what_was_trained_predicts(moe, picture, trained, tmp_path):
    assert json.loads((trained / "model.json").read_text())["task"] == "predict"
    ran = moe("encode", picture("photo.png"), "--fast", "--experts", "50", "--model", trained, "--json")
    (told,) = ran.objects
    assert (ran.code, told["experts"], told["order"]) == (0, 50, 0)
    assert len(moesaic.load(tmp_path / "photo.moe")) == 50
    (better,) = moe(
        "encode", tmp_path / "photo.png", "-o", "b.moe", "--fast", "--experts", "50", "--refine", "40",
        "--model", trained, "--json",
    ).objects  # fmt: skip
    assert better["psnr"] > told["psnr"]


def test_a_finished_run_is_left_as_it_is(moe, trained):
    before = (trained / "model.safetensors").read_bytes()
    assert moe(*SMALL).code == 0
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--refine", "5"), "go with --fast"),
        (("--model", "stages_predict"), "go with --fast"),
        (("--fast", "--seconds", "2"), "--fast excludes --seconds"),
        (("--fast", "--order", "1"), "--fast excludes"),
        (("--fast", "--model", "enet"), "enet"),
        (("--fast", "--model", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--fast", "--experts", "1", "--bpp", "1"), "exclude each other"),
    ],
)
def test_what_does_not_go_together_is_one_line(moe, picture, tmp_path, options, words):
    ran = moe("encode", picture("photo.png"), *options)
    assert ran.code != 0
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "photo.moe").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "state --steps, or --minutes"),
        (("--steps", "1", "--teacher", "nobody"), "teacher"),
        (("--steps", "1", "--densest", "50", "--sparsest", "20"), "densest 50 must not be above sparsest 20"),
        (("--steps", "1", "--options", "{"), "--options"),
        (("--steps", "1", "--options", '{"hidden": 0}'), "hidden is a whole number"),
        (("--steps", "1", "--data", "nowhere"), "nowhere"),
    ],
)
def test_training_refuses_in_one_line(moe, tmp_path, options, words):
    (tmp_path / "data").mkdir()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "data" / "a.png")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "data" / "b.png")
    ran = moe("train", "predict", "--data", "data", "-o", "run", "--crop", "32", *options)
    assert ran.code != 0
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_the_shipped_weights_are_found(moe, picture, tmp_path):
    ran = moe("encode", picture("photo.png"), "--fast", "--experts", "50")
    assert ran.code == 0
    assert (tmp_path / "photo.moe").exists()
    assert DEFAULT_MODEL in moe("models").out
