"""The verb `estimate` and the command `train estimator`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic import zoo
from moesaic.upscale.severity_net import SeverityNet
from moesaic.weights_file import Card


@pytest.fixture
def net(tmp_path):
    """A small estimator's file."""
    torch.manual_seed(0)
    options = {"channels": [4, 4], "hidden": 4}
    card = Card(name="tiny", architecture="severity_net", task="estimate", options=options)
    zoo.save_model(tmp_path / "net.safetensors", SeverityNet((4, 4), 4), card)
    return tmp_path / "net.safetensors"


def test_scores_are_printed_with_bars(moe, picture, net):
    picture("a.png")
    ran = moe("estimate", "a.png", "--estimator", net)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "a.png:"
    assert [line.split()[0] for line in lines[1:]] == ["severity", "noise", "blur", "jpeg", "resolution"]
    for line in lines[1:]:
        _, score, *bar = line.split()
        assert len("".join(bar)) == round(24 * float(score)) or abs(len("".join(bar)) - 24 * float(score)) < 0.7
    assert moe("estimate", "a.png", "--estimator", net, "--quiet").out == ran.out  # it is what the verb is for


def test_one_object_for_each_picture_and_a_bad_one_stops_nothing(moe, picture, net, tmp_path):
    picture("album/a.png")
    picture("album/b.png", mode="L")
    picture("album/c.png", mode="RGBA")
    Image.new("RGB", (1, 1)).save(tmp_path / "album" / "dot.png")
    (tmp_path / "album" / "bad.png").write_text("no picture")
    (tmp_path / "album" / "notes.txt").write_text("left out")
    ran = moe("estimate", "album", "--estimator", net, "--json")
    assert ran.code == 1
    status = {told["input"].split("/")[-1]: told["status"] for told in ran.objects}
    assert status == {"a.png": "done", "b.png": "done", "c.png": "done", "dot.png": "failed", "bad.png": "failed"}
    good = next(told for told in ran.objects if told["status"] == "done")
    assert (good["verb"], good["output"], good["width"], good["height"]) == ("estimate", None, 32, 24)
    assert set(good["scores"]) == {"noise", "blur", "jpeg", "resolution"}
    assert good["estimator"].startswith("severity_net:")
    assert len(ran.errors) == 2
    assert "1x1 px is too small to be judged" in ran.err


def test_estimators_by_name(moe, picture):
    picture("a.png")
    (told,) = moe("estimate", "a.png", "--estimator", "constant", "--json").objects
    assert (told["severity"], told["estimator"]) == (0.5, "constant:0.5")
    (told,) = moe("estimate", "a.png", "--estimator", "analytic", "--json").objects
    assert told["estimator"] == "analytic:1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--estimator", "analytik"), "did you mean 'analytic'"),
        (("--estimator", "gone.safetensors"), "gone.safetensors: cannot be read"),
        (("--estimator", "a.png"), "this is no safetensors file"),
        (("--estimator", "clip:nowhere"), "nowhere: no CLIP model can be loaded"),
        (("--device", "abacus"), "device 'abacus' is unknown"),
    ],
)
def test_what_cannot_be(moe, picture, net, monkeypatch, tmp_path, arguments, says):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    picture("a.png", size=(300, 200))
    ran = moe("estimate", "a.png", "--estimator", net, *arguments)
    assert (ran.code, ran.out, len(ran.errors)) == (2, "", 1)
    assert says in ran.err


def test_nothing_and_nobody(moe, net, tmp_path):
    ran = moe("estimate", "gone.png", "--estimator", net)
    assert (ran.code, ran.out) == (2, "")
    assert "gone.png" in ran.err
    (tmp_path / "empty").mkdir()
    ran = moe("estimate", "empty")
    assert ran.code == 2
    assert "nothing to do" in ran.err


@pytest.fixture
def data(tmp_path):
    """Three pictures to learn from."""
    (tmp_path / "data").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 72, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")


OPTIONS = (
    "--data", "data", "-o", "run", "--options", '{"channels": [4, 4], "hidden": 4}', "--crop", "16", "--batch", "2",
    "--held-out", "0.3",
)  # fmt: skip


def test_trains_in_pieces(moe, data):
    (told,) = moe("train", "estimator", *OPTIONS, "--steps", "3", "--piece", "0.000001", "--json").objects
    assert (told["verb"], told["task"], told["status"], told["weights"]) == ("train", "estimator", "stopped", None)
    ran = moe("train", "estimator", *OPTIONS, "--steps", "3")
    assert (ran.code, ran.err) == (0, "")
    assert "step 3 of 3, rank correlations on held-out pictures noise " in ran.out
    (again,) = moe("train", "estimator", *OPTIONS, "--steps", "3", "--json").objects
    assert set(again["held_out_rank_correlation"]) == {"noise", "blur", "jpeg", "resolution", "severity"}
    assert moe("estimate", "data/0.png", "--estimator", "run").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "state --steps, or --minutes of the whole run"),
        (("--steps", "1", "--mix", "nose=1"), "the mix names 'nose'"),
        (("--steps", "1", "--mix", "noise"), "--mix 'noise' is no list of shares"),
        (("--steps", "1", "--options", "[4]"), "is no JSON object"),
        (("--steps", "1", "--options", '{"breadth": 4}'), "breadth"),
        (("--steps", "1", "--network", "severity"), "network 'severity' is unknown"),
        (("--steps", "1", "--crop", "20"), "none of 3 pictures has sides of at least 80 px"),
        (("--steps", "1", "--data", "nothing"), "nothing: No such file or directory"),
    ],
)
def test_training_that_cannot_be(moe, data, arguments, says):
    ran = moe("train", "estimator", *OPTIONS, *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.errors) == 1
