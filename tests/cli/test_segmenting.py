"""The verbs `segment` and `models`, with a small network that was never trained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic import zoo
from moesaic.cli import segmenting
from moesaic.cli.places import settle
from moesaic.registry import Registry
from moesaic.segment.models import DEFAULT_MODEL
from moesaic.weights_file import Card


@pytest.fixture
def model(tmp_path):
    """A weights file, in a folder like a run's."""
    torch.manual_seed(0)
    options = {"classes": 3, "width": 0.25, "experts": 2, "k": 1, "grid": 2}
    card = Card(
        name="toy",
        architecture="enet",
        task="segment",
        options=options,
        licence="CC0-1.0",
        data="nothing",
        classes=("sky", "ground", "sea"),
        colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
        size=(24, 32),
    )
    (tmp_path / "run").mkdir()
    zoo.save_model(tmp_path / "run" / "model.safetensors", zoo.create_model("enet", **options), card)
    return "run/model.safetensors"


def test_overlay(moe, model, picture, tmp_path):
    ran = moe("segment", picture("street.png"), "--model", model)
    assert (ran.code, ran.err) == (0, "")
    with Image.open(tmp_path / "street.segmented.png") as drawn:
        assert drawn.mode == "RGB"
        assert drawn.height > 24  # a legend below
    assert "street.png -> " in ran.out
    assert "%" in ran.out


def test_labels_and_shares(moe, model, picture, tmp_path):
    ran = moe("segment", picture("street.png"), "--model", "run", "--labels", "--json")
    (told,) = ran.objects
    assert (ran.code, told["verb"], told["status"]) == (0, "segment", "done")
    assert (told["width"], told["height"], told["model"], told["licence"]) == (32, 24, "toy", "CC0-1.0")
    with Image.open(tmp_path / "street.labels.png") as drawn:
        assert (drawn.mode, drawn.size) == ("L", (32, 24))
        counts = np.bincount(np.asarray(drawn).ravel(), minlength=3)
    assert list(told["shares"]) == ["sky", "ground", "sea"]
    assert list(told["shares"].values()) == pytest.approx(counts / counts.sum(), abs=1e-5)


def test_routing(moe, model, picture, tmp_path):
    ran = moe("segment", picture("street.png", size=(96, 72)), "--model", model, "--routing", "--json")
    (told,) = ran.objects
    assert (ran.code, told["status"]) == (0, "done")
    with Image.open(tmp_path / "street.routing.png") as drawn:
        assert drawn.mode == "RGB"
        assert drawn.height > 72  # a legend below
    plain = moe(
        *("segment", "street.png", "--model", model, "--routing", "--layer", "stage4.1.conv"),
        *("--no-legend", "--opacity", "1", "-o", "plain.webp"),
    )
    assert plain.code == 0
    with Image.open(tmp_path / "plain.webp") as drawn:
        assert drawn.size == (96, 72)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tile", "24"], "several tiles"),
        (["--layer", "stage9"], "layer 'stage9' is not routed: choose one of stage4.1.conv"),
    ],
)
def test_no_routing_to_draw(moe, model, picture, tmp_path, options, says):
    ran = moe("segment", picture("street.png", size=(96, 72)), "--model", model, "--routing", *options)
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert says in ran.err
    assert not (tmp_path / "street.routing.png").exists()


def test_without_a_legend_the_size_stays(moe, model, picture, tmp_path):
    source = picture("street.png", mode="RGBA")
    assert moe("segment", source, "--model", model, "--no-legend", "-o", "out.webp", "--opacity", "1").code == 0
    with Image.open(tmp_path / "out.webp") as drawn:
        assert (drawn.mode, drawn.size) == ("RGBA", (32, 24))


@pytest.mark.parametrize("options", [["--scale", "full"], ["--scale", "full", "--tile", "24"], ["--tile", "24"]])
def test_tiles(moe, model, picture, options):
    assert moe("segment", picture("street.png", size=(90, 70)), "--model", model, *options).code == 0


def test_a_folder_can_be_run_twice(moe, model, picture, tmp_path):
    picture("in/a.png")
    picture("in/b.jpg", seed=3)
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    first = moe("segment", "in", "--model", model, "--json")
    assert (first.code, [told["status"] for told in first.objects]) == (1, ["done", "done", "failed"])
    again = moe("segment", "in", "--model", model, "--json")
    assert [told["status"] for told in again.objects] == ["kept", "kept", "failed"]  # and not its own overlays


def test_its_own_work_is_no_source_in_folders(tmp_path):
    for name in ("a.png", "a.segmented.png", "a.labels.png", "a.routing.png", "notes.txt"):
        (tmp_path / name).touch()
    jobs = settle([tmp_path], None, name=lambda path: f"{path.stem}.x.png", accepts=segmenting._is_source)
    assert [job.source.name for job in jobs] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.png", "--labels", "-o", "b.jpg"], "label maps are written as .png"),
        (["a.png", "-o", "b.nothing"], "suffix"),
        (["a.png", "--labels", "--routing"], "--labels and --routing"),
        (["a.png", "--layer", "up"], "--layer names the layer that --routing draws"),
        (["a.png", "--opacity", "2"], "'--opacity': '2' is no number from 0 to 1"),
        (["a.png", "--tile", "0"], "--tile"),
        (["a.png", "--scale", "half"], "--scale"),
        (["a.png", "--model", "enett"], "did you mean"),
        (["a.png", "--model", "enet"], "architecture without weights"),
        (["a.png", "--model", "no.safetensors"], "cannot be read"),
        (["a.png", "--device", "toaster"], "toaster"),
    ],
)
def test_what_cannot_be_done_is_one_line(moe, picture, arguments, says):
    picture("a.png")
    ran = moe("segment", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.errors) == 1
    assert says in ran.errors[0]


def test_without_weights_it_is_told_how_to_train_some(moe, picture, monkeypatch):
    empty = Registry()
    empty.add_weights(DEFAULT_MODEL, "lost.safetensors", missing="train it with `moesaic train segment`")
    monkeypatch.setattr("moesaic.segment.models.registry", empty)
    picture("a.png")
    ran = moe("segment", "a.png")
    assert ran.code == 2
    assert "moesaic train segment" in ran.err


def test_models(moe):
    ran = moe("models", "e*net")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["enet", "erfnet"]
    told = [json.loads(line) for line in moe("models", "--json").out.splitlines()]
    assert {"name": "unet", "trained": False} in told
    assert moe("models", "nothing").code == 2


def test_weights_are_one_short_line_and_all_scores_are_in_json(moe, monkeypatch):
    scores = {"val_miou": 54.07, "test_miou": 41.0234} | {f"kind {kind}": 1.0 for kind in range(20)}
    cards = {
        "net": Card(name="net", architecture="enet", task="segment", options={}, licence="CC0-1.0", data="x" * 400),
    }
    cards["many"] = replace(cards["net"], name="many", parameters=1234, scores=scores)
    cards["one"] = replace(cards["many"], name="one", scores={"psnr noise": 29.481})
    monkeypatch.setattr(zoo, "list_models", lambda pattern="*": list(cards))
    monkeypatch.setattr(zoo, "model_card", cards.get)
    assert moe("models").out.splitlines() == [
        "net   segment, 0 parameters, weights under CC0-1.0",
        "many  segment, 1,234 parameters, weights under CC0-1.0, test_miou 41.02 (21 more with --json)",
        "one   segment, 1,234 parameters, weights under CC0-1.0, psnr noise 29.48",
    ]
    assert [told["scores"] for told in moe("models", "--json").objects] == [{}, scores, {"psnr noise": 29.481}]
