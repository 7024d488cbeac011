"""The verb `restore`, with a small network that was never trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import moesaic
from moesaic import zoo
from moesaic.cli import restoring
from moesaic.cli.places import settle
from moesaic.degrade.batch import LABELS
from moesaic.metrics import psnr
from moesaic.registry import Registry
from moesaic.restore.models import DEFAULT_MODEL
from moesaic.restore.network import MoceLite
from moesaic.weights_file import Card

OPTIONS = {"width": 8, "encoder": [1, 1, 1], "middle": 1}


@pytest.fixture
def model(tmp_path):
    """A weights file, in a folder like a run's, of a network that finds noise, but not JPEG, though it may be there."""
    torch.manual_seed(0)
    network = MoceLite(**OPTIONS)
    with torch.no_grad():
        torch.nn.init.normal_(network.head.weight, std=0.02)
        network.detector.weight.zero_()
        network.detector.bias.fill_(-9)
        network.detector.bias[LABELS.index("noise")] = 3.5  # 97%
        network.detector.bias[LABELS.index("jpeg")] = -2  # 12%
        for gate in network.gates():
            gate.last.bias.copy_(torch.arange(5.0))  # the dearest helps most, each step by 1 dB
    card = Card(
        name="toy", architecture="moce_lite", task="restore", options=OPTIONS, licence="CC0-1.0", data="nothing"
    )
    (tmp_path / "run").mkdir()
    zoo.save_model(tmp_path / "run" / "model.safetensors", network, card)
    return "run/model.safetensors"


def test_writes_beside_the_input_and_tells_what_it_did(moe, model, picture, tmp_path):
    ran = moe("restore", picture("dusk.jpg"), "--model", model)
    assert (ran.code, ran.err) == (0, "")
    assert "dusk.jpg -> " in ran.out
    assert ": noise 97%; changed by " in ran.out
    assert " levels, 100% of the dearest decoder, " in ran.out
    with Image.open(tmp_path / "dusk.restored.png") as after:
        assert (after.mode, after.size) == ("RGB", (32, 24))
    before, after = (moesaic.read_picture(tmp_path / name).pixels for name in ("dusk.jpg", "dusk.restored.png"))
    expected = moesaic.restore(before, tmp_path / model, device="cpu").picture.pixels
    assert abs(after - expected).max() < 1 / 255
    assert not np.array_equal(before, after)


def test_figures_as_json(moe, model, picture):
    ran = moe("restore", picture("a.png"), "--model", "run", "-o", "b.webp", "--json")
    (told,) = ran.objects
    assert (ran.code, told["verb"], told["status"], told["output"]) == (0, "restore", "done", "b.webp")
    assert (told["width"], told["height"], told["model"], told["licence"]) == (32, 24, "toy", "CC0-1.0")
    assert tuple(told["detected"]) == tuple(told["severity"]) == LABELS
    assert told["detected"]["noise"] == pytest.approx(0.97, abs=0.01)
    assert told["experts"] == {"experts.0": 4, "experts.1": 4, "experts.2": 4}
    assert (told["cost"], told["explained"]) == (1.0, None)
    found = moesaic.restore("a.png", "run", device="cpu")
    assert told["changed"] == pytest.approx(found.change, abs=1e-3)
    assert 0 < told["changed"] < 255
    assert told["seconds"] >= 0


def test_a_price_spares_compute_and_strength_0_changes_nothing(moe, model, picture, tmp_path):
    source = picture("a.png")
    (told,) = moe("restore", source, "--model", model, "--price", "1000", "--strength", "0", "--json").objects
    assert told["experts"] == {"experts.0": 0, "experts.1": 0, "experts.2": 0}
    assert told["cost"] < 0.8
    assert told["changed"] == 0
    before, after = (moesaic.read_picture(tmp_path / name).pixels for name in ("a.png", "a.restored.png"))
    np.testing.assert_array_equal(before, after)


def test_format_and_quality(moe, model, picture, tmp_path):
    picture("in/a.png", size=(96, 72))
    for quality in ("90", "20"):
        options = ["--format", ".jpg", "--quality", quality, "-o", f"{quality}/"]
        assert moe("restore", "in", "--model", model, "--explain", *options).code == 0
        assert {path.name for path in (tmp_path / quality).iterdir()} == {"a.restored.jpg", "a.explained.png"}
    fine, rough = (tmp_path / quality / "a.restored.jpg" for quality in ("90", "20"))
    assert rough.stat().st_size < fine.stat().st_size
    with Image.open(fine) as after:
        assert after.format == "JPEG"


@pytest.mark.parametrize(("output", "drawing"), [((), "dusk"), (("-o", "out/"), "out/dusk"), (("-o", "x.png"), "x")])
def test_explain(moe, model, picture, tmp_path, output, drawing):
    ran = moe("restore", picture("dusk.png"), "--model", model, "--explain", "--json", *output)
    (told,) = ran.objects
    assert (ran.code, ran.err) == (0, "")
    assert told["explained"].endswith(f"{drawing}.explained.png")
    with Image.open(tmp_path / f"{drawing}.explained.png") as drawn:
        assert (drawn.mode, drawn.width) == ("RGB", 1200)
    assert (tmp_path / told["output"]).exists()


def test_an_explanation_that_is_there_stops_it_before_any_work(moe, model, picture, tmp_path, monkeypatch):
    source = picture("dusk.png")
    (tmp_path / "dusk.explained.png").write_bytes(b"mine")
    with monkeypatch.context() as patched:
        patched.setattr("moesaic.restore.use.restore", None)
        ran = moe("restore", source, "--model", model, "--explain")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "dusk.explained.png" in ran.err
    assert not (tmp_path / "dusk.restored.png").exists()
    assert (tmp_path / "dusk.explained.png").read_bytes() == b"mine"
    assert moe("restore", source, "--model", model, "--explain", "--force").code == 0
    with Image.open(tmp_path / "dusk.explained.png") as drawn:
        assert drawn.width == 1200


def test_an_explanation_never_takes_the_place_of_an_input(moe, model, picture, tmp_path):
    picture("a.png")
    before = picture("a.explained.png", seed=4).read_bytes()
    ran = moe("restore", "a.png", "a.explained.png", "--model", model, "--explain", "--force")
    assert ran.code == 2
    assert "is an input" in ran.err
    assert (tmp_path / "a.explained.png").read_bytes() == before


def test_alpha_and_metadata(moe, model, picture, tmp_path):
    with Image.open(picture("a.png", mode="RGBA")) as image:
        exif = image.getexif()
        exif[0x010E] = "a note"
        image.save(tmp_path / "noted.png", exif=exif)
    assert moe("restore", "noted.png", "--model", model).code == 0
    assert moe("restore", "noted.png", "--model", model, "--metadata", "strip", "-o", "plain.png").code == 0
    with Image.open(tmp_path / "noted.restored.png") as kept, Image.open(tmp_path / "plain.png") as stripped:
        assert (kept.mode, stripped.mode) == ("RGBA", "RGBA")
        assert kept.getexif()[0x010E] == "a note"
        assert 0x010E not in stripped.getexif()


def test_16_bits_stay(moe, model, tmp_path):
    Image.fromarray((np.mgrid[:24, :32][0] * 2500).astype(np.uint16)).save(tmp_path / "deep.png")
    assert moe("restore", "deep.png", "--model", model).code == 0
    restored = moesaic.read_picture(tmp_path / "deep.restored.png")
    assert (restored.depth, restored.channels) == (16, 1)


def test_a_folder_can_be_run_twice(moe, model, picture, tmp_path):
    picture("in/a.png")
    picture("in/b.jpg", seed=3)
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    first = moe("restore", "in", "--model", model, "--explain", "--json")
    assert (first.code, [told["status"] for told in first.objects]) == (1, ["done", "done", "failed"])
    again = moe("restore", "in", "--model", model, "--explain", "--json")
    assert [told["status"] for told in again.objects] == ["kept", "kept", "failed"]  # and not its own work
    assert len(list((tmp_path / "in").iterdir())) == 7


def test_an_interruption_between_drawing_and_picture_does_not_block_the_next_run(moe, model, picture, tmp_path):
    picture("in/a.png")
    (tmp_path / "in" / "a.explained.png").write_bytes(b"drawn before the interruption")
    assert moe("restore", "in", "--model", model, "--explain").code == 0
    with Image.open(tmp_path / "in" / "a.explained.png") as drawn:
        assert drawn.width == 1200
    assert (tmp_path / "in" / "a.restored.png").is_file()


def test_pictures_restored_before_without_an_explanation_are_told(moe, model, picture, tmp_path):
    picture("in/a.png")
    assert moe("restore", "in", "--model", model).code == 0
    ran = moe("restore", "in", "--model", model, "--explain")
    assert (ran.code, ran.errors) == (
        0, ["moesaic: 1 restored before and not explained: what is there is kept; --force restores and explains anew"],
    )  # fmt: skip
    assert "kept" in ran.out
    assert moe("restore", "in", "--model", model, "--explain", "--force").err == ""
    assert (tmp_path / "in" / "a.explained.png").is_file()
    assert moe("restore", "in", "--model", model, "--explain").err == ""


def test_folders_of_folders(moe, model, picture, tmp_path):
    picture("in/deep/a.png")
    assert moe("restore", "in", "--model", model, "-r", "-o", "out").code == 0
    assert (tmp_path / "out" / "deep" / "a.restored.png").is_file()


def test_its_own_work_is_no_source_in_folders(tmp_path):
    for name in ("a.png", "a.restored.png", "a.restored.webp", "a.explained.png", "notes.txt"):
        (tmp_path / name).touch()
    jobs = settle([tmp_path], None, name=lambda path: f"{path.stem}.x.png", accepts=restoring._is_source)
    assert [job.source.name for job in jobs] == ["a.png"]


def test_progress_in_tiles(moe, model, picture, monkeypatch):
    monkeypatch.setattr("moesaic.cli.report._PLAIN_EVERY", 0.0)
    source = picture("a.png", size=(200, 120))
    ran = moe("restore", source, "--model", model, "--tile", "64")
    assert ran.code == 0
    told = [line for line in ran.errors if "restore" in line]
    assert len(told) > 4
    assert "100%, 0:00 left" in told[-1]
    assert moe("restore", source, "--model", model, "--tile", "64", "--force", "--quiet").err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.png", "-o", "b.nothing"], "suffix"),
        (["a.png", "--strength", "1.5"], "'--strength': '1.5' is no number from 0 to 1"),
        (["a.png", "--strength", "nan"], "'nan' is no number from 0 to 1"),
        (["a.png", "--format", "a/b"], "--format"),
        (["a.png", "--quality", "0"], "--quality"),
        (["a.png", "--quality", "50"], "quality is 1 to 100, for JPEG, WebP, AVIF only; got 50 for PNG"),
        (["a.png", "--price", "-1"], "--price"),
        (["a.png", "--price", "inf"], "price is a number of dB from 0 to 1000, not inf"),
        (["a.png", "--tile", "0"], "--tile"),
        (["a.png", "--pixel-limit", "100"], "limit of 100 pixels"),
        (["a.png", "--device", "toaster"], "toaster"),
        (["a.png", "--model", "moce_light"], "did you mean moce_lite"),
        (["a.png", "--model", "moce_lite"], "architecture without weights"),
        (["a.png", "--model", "no.safetensors"], "cannot be read"),
        (["a.png", "--model", "bad.safetensors"], "the weights are damaged"),
        (["b.png"], "there is no such file"),
        (["c.png"], "c.png"),
        (["glass.png", "-o", "glass.jpg"], "JPEG has no alpha; write PNG, WebP, AVIF or TIFF, or (in Python)"),
        (["glass.png", "--format", "jpg"], "JPEG has no alpha"),
    ],
)
def test_what_cannot_be_done_is_one_line(moe, model, picture, tmp_path, arguments, says):
    picture("a.png")
    picture("glass.png", mode="RGBA")
    (tmp_path / "c.png").write_bytes(b"no picture")
    data = bytearray((tmp_path / model).read_bytes())
    data[-3] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(data)
    before = set(tmp_path.iterdir())
    chosen = [] if "--model" in arguments else ["--model", model]
    ran = moe("restore", *arguments, *chosen)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.errors) == 1
    assert says in ran.errors[0]
    assert set(tmp_path.iterdir()) == before


def test_without_weights_it_is_told_how_to_train_some(moe, picture, monkeypatch):
    empty = Registry()
    empty.add_weights(DEFAULT_MODEL, "lost.safetensors", missing="train it with `moesaic train restore`")
    monkeypatch.setattr("moesaic.restore.use.load_network.__kwdefaults__", {"device": "auto", "registry": empty})
    picture("a.png")
    ran = moe("restore", "a.png")
    assert (ran.code, len(ran.errors)) == (2, 1)
    assert "moesaic train restore" in ran.err


def test_the_shipped_model(moe, photo, tmp_path):
    if DEFAULT_MODEL not in zoo.list_models():
        pytest.skip("the weights are not there yet")
    Image.fromarray((photo * 255).round().astype("uint8")).save(tmp_path / "a.png")
    ran = moe("restore", "a.png", "--json")
    (told,) = ran.objects
    assert (ran.code, told["model"]) == (0, DEFAULT_MODEL)
    before, after = (moesaic.read_picture(tmp_path / name).pixels for name in ("a.png", "a.restored.png"))
    assert psnr(before, after) > 30  # there is little to mend


def test_what_is_told_of_nothing():
    told = {"detected": {"noise": 0.49}, "changed": 0.04, "cost": 0.5, "seconds": 0.1}
    assert restoring._told(told) == "no damage found; changed by 0.0 levels, 50% of the dearest decoder, 0.10 s"
    assert restoring._told(told | {"detected": {}}).startswith("changed by")
