"""The verb `train`: what it writes and tells, and how it goes on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from moesaic.cli import news as newsroom
from moesaic.training.progress import Progress

pytest.importorskip("torch")

OPTIONS = ("--data", "data", "-o", "run", "--network", "enet", "--width", "0.25", "--batch", "2", "--seed", "1")


@pytest.fixture
def data(tmp_path):
    """Three pictures to train on, in CamVid's layout."""
    generator = np.random.default_rng(0)
    for folder, shape, top in (("train", (20, 24, 3), 256), ("trainannot", (20, 24), 12)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, top, shape).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{number}.png")
    return tmp_path / "data"


def test_trains_and_goes_on(moe, data, tmp_path):
    routed = (*OPTIONS, "--experts", "4", "--k", "1", "--grid", "2", "--epochs", "3", "--size", "24x16")
    first = moe("train", "segment", *routed, "--minutes", "0.000001", "--json")
    assert (first.code, first.err) == (0, "")
    (told,) = first.objects
    assert (told["verb"], told["task"], told["status"], told["weights"]) == ("train", "segment", "stopped", None)
    ran = moe("train", "segment", *routed)
    assert (ran.code, ran.err) == (0, "")
    assert "step 3 of 3" in ran.out
    assert "finished" in ran.out
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"model.safetensors", "model.json", "log.jsonl"}
    assert moe("train", "segment", *routed, "--quiet").out == ""
    (again,) = moe("train", "segment", *routed, "--fresh", "--json").objects
    assert (again["status"], again["step"], again["epochs"]) == ("finished", 3, 3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (OPTIONS, "state --epochs, --minutes or both"),
        ((*OPTIONS, "--epochs", "1", "--crop", "ten"), "--crop 'ten' is no size"),
        ((*OPTIONS, "--epochs", "1", "--network", "enett"), "did you mean 'enet'"),
        ((*OPTIONS, "--epochs", "1", "--experts", "4", "--k", "5"), "k 5 is more than the 4 experts"),
        ((*OPTIONS, "--epochs", "1", "--experts", "4", "--gate", "none"), "gate"),
        ((*OPTIONS, "--epochs", "1", "--experts", "4", "--place", "nowhere"), "nowhere"),
        ((*OPTIONS, "--epochs", "1", "--batch", "4"), "batch 4 is larger than the 3 pictures"),
        ((*OPTIONS, "--epochs", "1", "-o", ""), "out has an empty name"),
        ((*OPTIONS, "--epochs", "1", "-o", "data/train/0.png"), "cannot write into data/train/0.png"),
        ((*OPTIONS, "--epochs", "1", "--size", "8x8"), "make batches as small as 8x8 px"),
        ((*OPTIONS, "--epochs", "1", "--size", "999999x999999"), "has more than"),
        ((*OPTIONS, "--epochs", "1", "--experts", "4", "--grid", "99"), "a grid of 99 patches does not fit"),
        ((*OPTIONS, "--epochs", "1", "--experts", "1000000000"), "experts is a whole number from 1 to 4096"),
        ((*OPTIONS, "--epochs", "1", "--width", "900"), "not enough memory for enet"),
        ((*OPTIONS, "--epochs", "1", "--rate", "inf"), "rate inf must be a number above 0"),
        ((*OPTIONS, "--epochs", "1", "--device", "abacus"), "device 'abacus' is unknown"),
        ((*OPTIONS, "--epochs", "1", "--data", "nothing"), "nothing: there is no such folder"),
    ],
)
def test_what_cannot_be(moe, data, arguments, says):
    ran = moe("train", "segment", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.errors) == 1


def test_another_recipe_in_the_same_folder(moe, data):
    assert moe("train", "segment", *OPTIONS, "--epochs", "1").code == 0
    ran = moe("train", "segment", *OPTIONS, "--epochs", "1", "--rate", "0.5")
    assert ran.code == 2
    assert "rate was 0.001 and is now 0.5" in ran.err
    assert "--fresh" in ran.err


def test_help_states_the_options(moe):
    ran = moe("train", "segment", "--help")
    assert ran.code == 0
    assert "--experts" in ran.out


def _now(**change):
    known = {"step": 5, "steps": 1000, "epoch": 1, "epochs": 20, "loss": 1.5, "score": 0.25, "seconds": 9.0}
    return Progress(**(known | {"seconds_left": 3700.0} | change))


def test_progress_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.setattr(newsroom, "PLAIN_EVERY", 0.0)
    with newsroom.News(quiet=False) as news:
        news.progress(_now())
    assert capsys.readouterr().err == "moesaic: step 5 of 1,000: epoch 1/20, loss 1.500, val 25.0%, 1:01:40 left\n"
    with newsroom.News(quiet=True) as news:
        news.progress(_now())
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with newsroom.News(quiet=False) as news:
        news.progress(_now(score=None))
        assert news._bar.tasks[0].fields["news"] == "epoch 1/20, loss 1.500, 1:01:40 left"


def test_what_became_of_the_gate_is_told(moe, data):
    options = (*OPTIONS, "--experts", "8", "--k", "1", "--grid", "1", "--epochs", "1", "--batch", "3")
    ran = moe("train", "segment", *options)  # three places for eight experts
    assert (ran.code, ran.err) == (0, "")
    assert "finished; stage4.1.conv: " in ran.out
    assert "of 8 experts dead" in ran.out
    (again,) = moe("train", "segment", *options, "--json").objects
    assert again["warnings"][0].endswith("of 8 experts dead")


def test_a_warning_stands_in_the_progress(capsys, monkeypatch):
    monkeypatch.setattr(newsroom, "PLAIN_EVERY", 0.0)
    with newsroom.News(quiet=False) as news:
        news.progress(_now(warning="stage4.1.conv: 2 of 8 experts dead"))
    assert capsys.readouterr().err.endswith("1:01:40 left, stage4.1.conv: 2 of 8 experts dead\n")


def test_ctrl_c_leaves_a_run_that_goes_on(moe, data, tmp_path, monkeypatch):
    def interrupt(self, now):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(newsroom.News, "progress", interrupt)
        ran = moe("train", "segment", *OPTIONS, "--epochs", "2")
        assert (ran.code, ran.out) == (130, "")
        assert ran.err == "moesaic: interrupted; the same command goes on from the last checkpoint\n"
        ran = moe("train", "segment", *OPTIONS, "--epochs", "2", "--fresh")
        assert "the same command without --fresh goes on" in ran.err
    assert not (tmp_path / "run" / ".lock").exists()
    assert "finished" in moe("train", "segment", *OPTIONS, "--epochs", "2").out


def test_a_rate_far_too_high(moe, data, tmp_path):
    ran = moe("train", "segment", *OPTIONS, "--epochs", "40", "--rate", "1000000", "--optimiser", "sgd")
    assert ran.code == 2
    assert "start anew with a lower rate than 1000000.0" in ran.err
    assert len(ran.errors) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
