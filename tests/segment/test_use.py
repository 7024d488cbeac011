"""segment() with networks made by hand, whose answers are known, and with a routed one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import moesaic
from moesaic import zoo
from moesaic.errors import ArgumentError, BackendError, LimitError, ModelError, ShapeError
from moesaic.image import read_picture
from moesaic.picture import Picture
from moesaic.registry import Registry
from moesaic.segment.use import Segmentation, _enlarged_best, segment
from moesaic.tiling import run_tiled
from moesaic.weights_file import Card, with_card, write_weights

CARD = Card(
    name="hue",
    architecture="hue",
    task="segment",
    classes=("red", "green", "blue"),
    colours=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    size=(36, 48),
)


class Hue(nn.Module):
    """The class of a pixel is its largest channel; keeps what it saw."""

    classes = 3

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        self.modes = (self.training, torch.is_grad_enabled())
        return x[:, :3] * self.gain


@pytest.fixture
def hue():
    return with_card(Hue(), CARD)


@pytest.fixture
def stripes():
    """Three stripes, red, green and blue, of 20, 20 and 40 columns; (60, 80, 3)."""
    pixels = np.zeros((60, 80, 3), np.float32)
    pixels[:, :20, 0] = pixels[:, 20:40, 1] = pixels[:, 40:, 2] = 1
    return pixels


@pytest.mark.parametrize("options", [{}, {"tile": 24}, {"scale": "full"}, {"scale": "full", "tile": 24}])
def test_stripes(hue, stripes, options):
    found = segment(stripes, hue, **options)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, stripes.argmax(2))
    assert found.shares == {"red": 0.25, "green": 0.25, "blue": 0.5}
    assert (found.names, found.colours) == (CARD.classes, CARD.colours)
    assert found.routing == {}


def test_a_picture_that_would_grow_beyond_the_limit_is_refused(stripes):
    huge = with_card(Hue(), dataclasses.replace(CARD, size=(16_000, 16_000)))
    with pytest.raises(LimitError, match="21333x16000 pixels"):
        segment(stripes, huge)
    with pytest.raises(LimitError, match="the limit is 5000"):
        segment(np.zeros((8, 400, 3), np.float32)[:, :100], with_card(Hue(), CARD), pixel_limit=5000)


def test_the_network_is_in_use_and_then_as_it_was(hue, stripes):
    hue.train()
    segment(stripes, hue)
    assert hue.modes == (False, False)
    assert hue.training


@pytest.mark.parametrize(
    ("size", "seen"), [((60, 80), (36, 48)), ((80, 60), (48, 36)), ((9, 12), (36, 48)), ((36, 48), (36, 48))]
)
def test_the_short_side_is_scaled_to_that_of_training(hue, size, seen):
    found = segment(np.zeros((*size, 3), np.float32), hue)
    assert hue.seen[0].shape[-2:] == seen
    assert found.labels.shape == size


def test_full_scale_runs_in_tiles_of_the_training_size(hue):
    told = []
    segment(np.zeros((100, 130, 3), np.float32), hue, scale="full", progress=lambda *now: told.append(now))
    assert {tuple(piece.shape[-2:]) for piece in hue.seen} == {(48, 48)}
    assert told[-1] == (len(hue.seen), len(hue.seen))


def test_a_model_without_a_card_takes_all_pixels_and_has_colours(stripes):
    found = segment(stripes, Hue())
    np.testing.assert_array_equal(found.labels, stripes.argmax(2))
    assert found.names == ("class 0", "class 1", "class 2")
    assert len(set(found.colours)) == 3


def test_enlarging_in_bands_is_bilinear_interpolation(monkeypatch):
    logits = torch.randn(5, 9, 13)
    for size in ((40, 61), (9, 13), (7, 5), (1, 1)):
        expected = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0].argmax(0)
        for band in (2**22, 700):
            monkeypatch.setattr("moesaic.segment.use._BAND", band)
            assert torch.equal(_enlarged_best(logits, *size), expected.to(torch.uint8))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_picture(hue, channels):
    pixels = np.full((36, 48, channels), 0.25, np.float32)
    pixels[..., 0] = 0.5
    if channels in (2, 4):
        pixels[:18, :, -1], pixels[18:, :, -1] = 1, 0
    found = segment(Picture(pixels=pixels), hue)
    (seen,) = hue.seen
    assert seen.shape == (1, 3, 36, 48)
    expected = [0.5, 0.5, 0.5] if channels < 3 else [0.5, 0.25, 0.25]
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor(expected))
    if channels in (2, 4):
        assert (seen[0, :, 35, 0] == 1).all()  # what is transparent is white
    assert found.overlay(legend=False).channels == (3 if channels in (1, 3) else 4)


def test_a_network_of_other_channels(stripes):
    assert segment(np.ones((8, 8, 4), np.float32), Hue(channels=4)).labels.shape == (8, 8)
    with pytest.raises(ShapeError, match="the picture has 3 channels, this model takes 4"):
        segment(stripes, Hue(channels=4))
    with pytest.raises(ShapeError, match="3 channels, this model takes 1"):
        segment(stripes, Hue(channels=1))


def test_pictures_from_files_and_the_label_map_back(hue, stripes, tmp_path):
    Image.fromarray((stripes * 255).astype(np.uint8)).save(tmp_path / "stripes.png")
    found = segment(tmp_path / "stripes.png", hue)
    moesaic.write_picture(found.label_map(), tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.asarray(written), found.labels)


def test_every_id_survives_the_label_map(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = Segmentation(labels=ids, names=(), colours=(), picture=read_picture(ids), routing={})
    moesaic.write_picture(found.label_map(), tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as written:
        np.testing.assert_array_equal(np.asarray(written), ids)


def test_overlay_and_legend(hue, stripes):
    found = segment(stripes, hue)
    plain = found.overlay(legend=False, opacity=1)
    np.testing.assert_array_equal(plain.pixels, stripes)
    assert found.overlay().height > plain.height


@pytest.fixture
def routed(tmp_path):
    """A file of a small routed ENet, trained on pictures of 64x96."""
    options = {"classes": 3, "width": 0.25, "experts": 3, "k": 2, "grid": 2}
    torch.manual_seed(0)
    model = zoo.create_model("enet", **options)
    card = Card(name="routed", architecture="enet", task="segment", options=options, size=(64, 96), multiple_of=8)
    write_weights(tmp_path / "model.safetensors", model.state_dict(), card)
    return tmp_path / "model.safetensors"


def test_a_routed_network_tells_its_routing(routed, photo):
    found = segment(photo, routed)
    (routing,) = found.routing.values()
    assert routing.weights.shape == (1, 4, 2)
    assert found.labels.shape == photo.shape[:2]
    assert found.names == ("class 0", "class 1", "class 2")
    assert segment(photo, routed, tile=48).routing == {}


def test_the_same_picture_as_the_network_alone(routed, photo):
    model = zoo.load_model(routed)
    x = torch.from_numpy(np.moveaxis(photo, 2, 0).copy())[None]
    x = F.interpolate(x, (64, 85), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = F.interpolate(model(x), photo.shape[:2], mode="bilinear")
    assert (segment(photo, model).labels == logits[0].argmax(0).numpy()).mean() > 0.999
    full = run_tiled(model, torch.from_numpy(np.moveaxis(photo, 2, 0).copy())[None], tile=None)
    np.testing.assert_array_equal(segment(photo, model, scale="full", tile=200).labels, full[0].argmax(0))


def test_models_by_name_from_a_registry(stripes, tmp_path):
    own = Registry()
    own.add("hue", Hue)
    write_weights(tmp_path / "hue.safetensors", Hue().state_dict(), CARD)
    own.add_weights("hue_toy", tmp_path / "hue.safetensors", missing="")
    assert segment(stripes, "hue_toy", registry=own, device="cpu").shares["blue"] == 0.5
    with pytest.raises(ModelError, match="did you mean hue_toy"):
        segment(stripes, "hue_toys", registry=own)


def test_a_hostile_shape_is_refused_before_it_is_enlarged(hue):
    with pytest.raises(ShapeError, match=r"30000x1 .* 32 times"):
        segment(np.zeros((1, 30_000, 3), np.float32), hue)
    assert segment(np.zeros((1, 32, 3), np.float32), hue).labels.shape == (1, 32)
    assert segment(np.zeros((1, 3_000, 3), np.float32), hue, scale="full").labels.shape == (1, 3_000)


def test_bad_arguments(hue, stripes):
    with pytest.raises(ArgumentError, match="scale"):
        segment(stripes, hue, scale="half")
    with pytest.raises(ArgumentError, match="tile"):
        segment(stripes, hue, tile=0)
    with pytest.raises(LimitError, match="pixel"):
        segment(stripes, hue, pixel_limit=100)
    with pytest.raises(ArgumentError, match="device"):
        segment(stripes, "enet", device="toaster")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="cuda"):
            segment(stripes, "enet", device="cuda")


def test_memory_that_runs_out_means_tiles(hue, stripes, caplog):
    whole, forward = [], hue.forward

    def greedy(x):
        whole.append(x.shape)
        if len(whole) == 1:
            raise MemoryError
        return forward(x)

    hue.forward = greedy
    large = stripes.repeat(10, axis=0).repeat(10, axis=1)
    np.testing.assert_array_equal(segment(large, hue, scale="full", tile=600).labels, large.argmax(2))
    assert "trying again" in caplog.text


def test_the_folder_is_a_call(stripes, hue):
    """Whatever is imported first, `moesaic.segment` is both."""
    import moesaic.segment.networks as networks
    from moesaic import segment as folder

    assert networks.enet
    np.testing.assert_array_equal(folder(stripes, hue).labels, stripes.argmax(2))
    code = "import moesaic.segment.networks, moesaic; assert callable(moesaic.segment)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
