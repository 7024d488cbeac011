"""The verb `upscale`, with small networks that were never trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import moesaic
from moesaic import zoo
from moesaic.upscale.fixed_scores import Constant
from moesaic.upscale.models import make_network
from moesaic.weights_file import Card

RANKS = {"scores": 4, "shared": 1, "routed": 3, "active": 1, "zero": 1}


def saved(path, **options):
    torch.manual_seed(0)
    network = make_network("compact_upscaler", width=16, blocks=1, **options)
    if network.mix is not None:
        with torch.no_grad():
            for layer in network.mix.layers.values():
                layer.up.normal_(std=0.02)
    held = {"width": 16, "blocks": 1, **options}
    card = Card(name="toy", architecture="compact_upscaler", task="upscale", options=held, licence="CC0-1.0")
    path.parent.mkdir(parents=True, exist_ok=True)
    zoo.save_model(path, network, card)


@pytest.fixture
def plain(tmp_path):
    """Weights without ranks, in a folder like a run's."""
    saved(tmp_path / "plain" / "model.safetensors")
    return "plain"


@pytest.fixture
def ranked(tmp_path):
    """Weights whose ranks learned with an estimator that says the same of everything."""
    saved(tmp_path / "ranked" / "model.safetensors", ranks=RANKS, estimator=Constant().identity)
    return "ranked"


def test_writes_beside_the_input_and_tells_what_it_did(moe, plain, picture, tmp_path):
    ran = moe("upscale", picture("dusk.jpg"), "--model", plain, "--scale", "2")
    assert (ran.code, ran.err) == (0, "")
    assert "dusk.jpg -> " in ran.out
    assert ": 64 x 48 px, " in ran.out
    with Image.open(tmp_path / "dusk.upscaled.x2.png") as after:
        assert (after.mode, after.size) == ("RGB", (64, 48))


def test_figures_as_json_with_ranks(moe, ranked, picture, tmp_path):
    ran = moe("upscale", picture("a.png"), "--model", ranked, "--estimator", "constant", "--explain", "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert (told["verb"], told["status"], told["width"], told["height"], told["scale"]) == (
        "upscale",
        "done",
        128,
        96,
        4,
    )
    assert (told["model"], told["licence"], told["severity"]) == ("toy", "CC0-1.0", 0.5)
    assert set(told["scores"].values()) == {0.5}
    assert all(1 <= active <= 2 for active in told["ranks"].values())
    with Image.open(tmp_path / "a.upscaled.x4.explained.png") as sheet:
        assert sheet.width == 1200


def test_a_severity_by_hand(moe, ranked, picture):
    ran = moe("upscale", picture("a.png"), "--model", ranked, "--estimator", "constant", "--severity", "0.25", "--json")
    assert ran.code == 0


def test_a_folder_can_be_repeated(moe, plain, picture, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        picture(f"in/{name}.png")
    first = moe("upscale", "in", "--model", plain, "-o", "out/")
    assert first.code == 0
    (tmp_path / "out" / "b.upscaled.x4.png").unlink()  # as if it had been interrupted
    before = (tmp_path / "out" / "a.upscaled.x4.png").stat().st_mtime_ns
    again = moe("upscale", "in", "--model", plain, "-o", "out/")
    assert again.code == 0
    assert "kept" in again.out
    assert (tmp_path / "out" / "a.upscaled.x4.png").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "b.upscaled.x4.png").is_file()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--scale", "3"), "scale 3 is unknown to this model; choose 2 or 4"),
        (("--severity", "2"), "--severity '2' is auto, or a number from 0"),
        (("--severity", "mild"), "--severity 'mild' is auto, or a number from 0"),
        (("--severity", "0.5"), "no ranks that a severity could choose"),
        (("--colour", "adain"), "colour is an option of diffusion models"),
        (("--mode", "eps_t"), "mode is an option of diffusion models"),
        (("--estimator", "constant"), "no ranks that an estimator could choose"),
        (("--format", "gif"), "gif"),
    ],
)
def test_wrong_options(moe, plain, picture, options, says):
    ran = moe("upscale", picture("a.png"), "--model", plain, *options)
    assert ran.code == 2
    assert says in ran.err


def test_an_interrupted_folder_with_drawings_goes_on(moe, ranked, picture, tmp_path):
    (tmp_path / "in").mkdir()
    picture("in/a.png")
    (tmp_path / "in" / "a.upscaled.x2.explained.png").write_bytes(b"drawn before the interruption")
    options = ("--model", ranked, "--estimator", "constant", "--scale", "2", "--explain")
    assert moe("upscale", "in", *options).code == 0
    with Image.open(tmp_path / "in" / "a.upscaled.x2.explained.png") as sheet:
        assert sheet.width == 1200
    (tmp_path / "in" / "a.upscaled.x2.explained.png").unlink()
    again = moe("upscale", "in", *options)
    assert again.code == 0
    assert "1 upscaled before and not explained" in again.err
    assert moe("upscale", "in", *options[:-3], "--scale", "4", "--explain").code == 0


def test_another_format(moe, plain, picture, tmp_path):
    ran = moe("upscale", picture("a.png"), "--model", plain, "--scale", "2", "--format", "jpg", "--quality", "80")
    assert ran.code == 0
    with Image.open(tmp_path / "a.upscaled.x2.jpg") as after:
        assert (after.format, after.size) == ("JPEG", (64, 48))


def test_a_folder_is_refused_once_not_for_each_picture(moe, ranked, picture, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        picture(f"in/{name}.png")
    ran = moe("upscale", "in", "--model", ranked, "--estimator", "analytic")
    assert ran.code == 2
    assert ran.err.count("the model's ranks learned with") == 1


def test_another_estimator_is_refused(moe, ranked, picture):
    ran = moe("upscale", picture("a.png"), "--model", ranked, "--estimator", "analytic")
    assert ran.code == 2
    assert "learned with the estimator constant:0.5" in ran.err


def test_ranks_of_a_file_are_for_diffusion(moe, plain, picture):
    ran = moe("upscale", picture("a.png"), "--model", plain, "--estimator", "constant", "--ranks", "no.safetensors")
    assert ran.code == 2
    assert "ranks of a file are for models of diffusion" in ran.err


def test_a_model_of_diffusion_end_to_end(moe, picture, tmp_path, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    from moesaic.upscale.adapters import mix_of_ranks
    from moesaic.upscale.diffusion import TARGETS, DiffusionUpscaler
    from tests.upscale.tiny_diffusion import save_folder

    monkeypatch.setenv("MOESAIC_CACHE", str(tmp_path / "cache"))
    folder = save_folder(tmp_path / "sd")
    capsys.readouterr()  # what saving tells
    ran = moe("upscale", picture("a.png"), "--model", folder, "--scale", "2")
    assert (ran.code, ran.err) == (0, "")
    after = moesaic.read_picture(tmp_path / "a.upscaled.x2.png").pixels
    expected = moesaic.upscale(tmp_path / "a.png", 2, folder, device="cpu").picture.pixels
    assert after.shape == (48, 64, 3)
    assert np.abs(after - expected).max() < 1 / 255

    torch.manual_seed(0)
    network = DiffusionUpscaler.load(folder, device="cpu")
    mix = mix_of_ranks(network, TARGETS, **RANKS)
    with torch.no_grad():
        for layer in mix.layers.values():
            layer.up.normal_(std=0.05)
    mix.save(tmp_path / "ranks.safetensors", estimator=Constant().identity)
    options = ("--ranks", "ranks.safetensors", "--estimator", "constant", "--json")
    ran = moe("upscale", "a.png", "--model", folder, "--scale", "2", "-o", "b.png", *options)
    assert ran.code == 0
    told = json.loads(ran.out)
    assert told["severity"] == 0.5
    assert len(told["ranks"]) == len(mix.layers)
    other = moesaic.read_picture(tmp_path / "b.png").pixels
    assert np.abs(other - after).max() > 2 / 255


def test_a_folder_that_is_no_model(moe, picture, tmp_path):
    (tmp_path / "sd" / "unet").mkdir(parents=True)
    ran = moe("upscale", picture("a.png"), "--model", "sd")
    assert ran.code == 2
    assert "sd" in ran.err
    assert "bug" not in ran.err
