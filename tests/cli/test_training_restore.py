"""The command `train restore`: what it writes and tells, and how it goes on."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image

from moesaic.cli import news
from moesaic.restore import finish

OPTIONS = (
    "--data", "data", "-o", "run", "--options", '{"width": 4, "encoder": [0, 0, 1], "middle": 0, "decoder": 0}',
    "--crop", "16", "--batch", "2", "--trials", "20", "--mix", "noise=2,clean=1", "--held-out", "0.3",
)  # fmt: skip


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three small pictures, and gates that are taught at once."""
    monkeypatch.setattr(finish, "fit_gates", functools.partial(finish.fit_gates, steps=50))
    (tmp_path / "data").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    return tmp_path / "data"


def test_trains_in_pieces(moe, data, tmp_path):
    first = moe("train", "restore", *OPTIONS, "--steps", "3", "--piece", "0.000001", "--json")
    assert (first.code, first.err) == (0, "")
    (told,) = first.objects
    assert (told["verb"], told["task"], told["status"], told["weights"]) == ("train", "restore", "stopped", None)
    ran = moe("train", "restore", *OPTIONS, "--steps", "3")
    assert (ran.code, ran.err) == (0, "")
    assert "step 3 of 3, " in ran.out
    assert " dB on held-out pictures, " in ran.out
    assert "finished" in ran.out
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"model.safetensors", "log.jsonl", "samples"}
    assert moe("train", "restore", *OPTIONS, "--steps", "3", "--quiet").out == ""
    (again,) = moe("train", "restore", *OPTIONS, "--steps", "2", "--fresh", "--json").objects
    assert (again["status"], again["step"], set(again["held_out_psnr"])) == ("finished", 2, {"noise", "clean"})


def test_minutes_plan_the_steps(moe, data):
    (told,) = moe("train", "restore", *OPTIONS, "--minutes", "1", "--piece", "0.000001", "--json").objects
    assert told["status"] == "stopped"
    assert told["steps"] > 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "state --steps, or --minutes of the whole run"),
        (("--steps", "1", "--options", "width=4"), "--options 'width=4' is no JSON object"),
        (("--steps", "1", "--options", "[4]"), "is no JSON object"),
        (("--steps", "1", "--options", '{"breadth": 4}'), "breadth"),
        (("--steps", "1", "--mix", "noise"), "--mix 'noise' is no list of shares"),
        (("--steps", "1", "--mix", "noise=1, noise=0"), "states 'noise' twice"),
        (("--steps", "1", "--data", "data/0.png"), "is one picture; data is a folder"),
        (("--steps", "1", "--mix", "nose=1"), "the mix names 'nose'"),
        (("--steps", "1", "--network", "moce_light"), "did you mean 'moce_lite'"),
        (("--steps", "1", "--crop", "20"), "crop 20 must be a multiple of 16"),
        (("--steps", "1", "--crop", "32"), "none of 3 pictures has sides of at least 32 px"),
        (("--steps", "1", "--average", "1"), "average 1.0 must be from 0 to below 1"),
        (("--steps", "1", "-o", ""), "out has an empty name"),
        (("--steps", "1", "--device", "abacus"), "device 'abacus' is unknown"),
        (("--steps", "1", "--data", "nothing"), "nothing: No such file or directory"),
        (("--steps", "1", "--piece", "0"), "is no number above 0"),
    ],
)
def test_what_cannot_be(moe, data, arguments, says):
    ran = moe("train", "restore", *OPTIONS, *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.errors) == 1


def test_ctrl_c_leaves_a_run_that_goes_on(moe, data, monkeypatch):
    def interrupt(self, now):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(news.News, "progress", interrupt)
        ran = moe("train", "restore", *OPTIONS, "--steps", "2")
        assert (ran.code, ran.out) == (130, "")
        assert ran.err == "moesaic: interrupted; the same command goes on from the last checkpoint\n"
    assert "finished" in moe("train", "restore", *OPTIONS, "--steps", "2").out


def test_only_the_first_process_tells(moe, data, monkeypatch):
    monkeypatch.setenv("RANK", "1")  # a team of one, which torchrun would not call second
    ran = moe("train", "restore", *OPTIONS, "--steps", "1")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
