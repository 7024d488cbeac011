"""The verb `train`: what it writes and tells, and how it goes on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from moesaic.cli import training
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
    monkeypatch.setattr(training, "_PLAIN_EVERY", 0.0)
    with training._News(quiet=False) as news:
        news.progress(_now())
    assert capsys.readouterr().err == "moesaic: step 5 of 1,000: epoch 1/20, loss 1.500, val 25.0%, 1:01:40 left\n"
    with training._News(quiet=True) as news:
        news.progress(_now())
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with training._News(quiet=False) as news:
        news.progress(_now(score=None))
        assert news._bar.tasks[0].fields["news"] == "epoch 1/20, loss 1.500, 1:01:40 left"
