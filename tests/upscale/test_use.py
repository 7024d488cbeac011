"""upscale(): any picture, as large as promised, with all that it carries; and one clear error for each mistake."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image

import moesaic
from moesaic import zoo
from moesaic.errors import ArgumentError, LimitError, ModelError, PictureError
from moesaic.picture import Picture
from moesaic.upscale.network import CompactUpscaler, enlarged
from moesaic.upscale.scores import Scores
from moesaic.upscale.use import load_network, upscale
from moesaic.weights_file import Card, write_weights


@pytest.fixture
def network() -> CompactUpscaler:
    torch.manual_seed(0)
    return CompactUpscaler(8, 1).eval()


def picture(height=9, width=7, channels=3, **options) -> Picture:
    pixels = np.random.default_rng(0).random((height, width, channels), dtype=np.float32)
    return Picture(pixels=pixels, **options)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_picture(network, scale, channels):
    source = picture(channels=channels, depth=16, icc=b"profile" if channels >= 3 else None)
    made = upscale(source, scale, network)
    after = made.picture
    assert (after.height, after.width, after.channels, after.depth) == (9 * scale, 7 * scale, channels, 16)
    assert after.icc == source.icc
    assert made.source is source
    assert (made.scale, made.scores, made.severity, made.ranks, made.card) == (scale, {}, None, {}, None)


def test_is_what_the_network_makes(network):
    source = picture()
    with torch.no_grad():
        made = network(torch.from_numpy(source.pixels).permute(2, 0, 1)[None], 2)[0].clamp(0, 1)
    assert np.abs(upscale(source, 2, network).picture.pixels - made.permute(1, 2, 0).numpy()).max() < 1e-6


def test_grey_stays_grey(network):
    grey = picture(channels=1)
    with torch.no_grad():
        made = network(torch.from_numpy(grey.pixels).permute(2, 0, 1)[None].expand(1, 3, -1, -1), 2)
    expected = made.mean(1)[0].clamp(0, 1).numpy()
    assert np.abs(upscale(grey, 2, network).picture.pixels[..., 0] - expected).max() < 1e-6


def test_what_is_hidden_does_not_show(network):
    pixels = picture(16, 16, 4).pixels
    pixels[..., 3] = 0
    pixels[:, :8, 3] = 1
    other = pixels.copy()
    other[:, 8:, :3] = 0.5  # colours behind full transparency
    first, second = (upscale(Picture(pixels=one), 2, network).picture for one in (pixels, other))
    assert np.array_equal(first.pixels, second.pixels)
    veil = enlarged(torch.from_numpy(pixels[..., 3])[None, None], 2)[0, 0].clamp(0, 1).numpy()
    assert np.abs(first.pixels[..., 3] - veil).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_narrow_pictures(network, size):
    made = upscale(picture(*size), 4, network).picture
    assert (made.height, made.width) == (4 * size[0], 4 * size[1])


def test_tiles_leave_no_seams_and_tell_of_themselves(network):
    source, told = picture(70, 90), []
    whole = upscale(source, 2, network).picture.pixels
    tiled = upscale(source, 2, network, tile=40, progress=lambda done, total: told.append((done, total))).picture.pixels
    assert np.abs(tiled - whole).max() < 1 / 255
    assert told[-1][0] == told[-1][1] > 1


def test_weights_by_file(network, tmp_path):
    card = Card(name="mine", architecture="compact_upscaler", task="upscale", options={"width": 8, "blocks": 1})
    write_weights(tmp_path / "mine.safetensors", network.state_dict(), card)
    made = moesaic.upscale(picture(), 2, tmp_path / "mine.safetensors")
    assert made.card is not None
    assert made.card.name == "mine"
    assert (made.picture.pixels - upscale(picture(), 2, network).picture.pixels).max() < 0.01


def test_a_file_of_a_picture(network, tmp_path):
    Image.fromarray(np.full((5, 6, 3), 90, np.uint8)).save(tmp_path / "a.png")
    made = upscale(tmp_path / "a.png", 2, network).picture
    assert (made.height, made.width) == (10, 12)


def test_no_fringe_where_alpha_ends(network):
    """A disc of one colour stays of that colour up to its rim, whatever the network does to a fall to black."""
    rows, columns = np.mgrid[:40, :40] - 19.5
    alpha = np.clip(12 - np.hypot(rows, columns), 0, 1)[..., None].astype(np.float32)
    colour = np.broadcast_to(np.float32([0.9, 0.8, 0.4]), (40, 40, 3))
    with torch.no_grad():
        for tail in network.tails.values():
            tail.weight.normal_(std=0.3)  # one that rings
    made = upscale(np.concatenate([colour, alpha], axis=2), 4, network).picture.pixels
    rim = (made[..., 3] > 0.2) & (made[..., 3] < 0.98)
    assert rim.sum() > 100
    assert np.abs(made[..., :3][rim] - colour[0, 0]).max() < 0.02


def test_it_is_told_in_few_words(network):
    assert len(repr(upscale(picture(), 2, network))) < 400


def test_the_mode_is_put_back(network):
    network.train()
    upscale(picture(), 2, network)
    assert network.training


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"scale": 3}, ArgumentError, "scale 3 is unknown to this model; choose 2 or 4"),
        ({"scale": 0}, ArgumentError, "scale is a whole number"),
        ({"scale": 2.5}, ArgumentError, "scale is a whole number"),
        ({"scale": True}, ArgumentError, "scale is a whole number"),
        ({"severity": 2}, ArgumentError, "severity is a number from 0"),
        ({"severity": float("nan")}, ArgumentError, "severity is a number from 0"),
        ({"severity": 0.5}, ArgumentError, "no ranks that a severity could choose"),
        ({"tile": 0}, ArgumentError, "tile is a whole number"),
        ({"estimator": "analytic"}, ArgumentError, "no ranks that an estimator could choose"),
        ({"estimator": 5}, ArgumentError, "an estimator is a name"),
        ({"pixel_limit": 500}, LimitError, "x4 of 7 x 9 px are 1,008 pixels, more than the limit of 500"),
    ],
)
def test_wrong_options(network, options, kind, says):
    held = {"scale": 4} | options
    with pytest.raises(kind, match=says):
        upscale(picture(), model=network, **held)


def test_wrong_pictures(network, tmp_path):
    (tmp_path / "no.png").write_bytes(b"not a picture")
    for source in (tmp_path / "no.png", tmp_path / "none.png", np.zeros((0, 4, 3), np.float32)):
        with pytest.raises((PictureError, ArgumentError, moesaic.MoesaicError)):
            upscale(source, 2, network)
    with pytest.raises(moesaic.MoesaicError):
        upscale(np.full((4, 4, 3), np.nan, np.float32), 2, network)


def test_wrong_models(network, tmp_path):
    with pytest.raises(ModelError, match="no model here and no file"):
        upscale(picture(), 2, "compact_upskale")
    with pytest.raises(ArgumentError, match="no upscaler"):
        load_network("moce_lite_restore", registry=zoo.registry)
    for wrong in (torch.nn.Conv2d(3, 3, 1), 5, b"mine", ["mine"]):
        with pytest.raises(ArgumentError, match="a model is a name, a path or an upscaler"):
            upscale(picture(), 2, wrong)
    with pytest.raises(ModelError):
        upscale(picture(), 2, "n" * 300)
    with pytest.raises(ArgumentError, match=r"computes in float16.*call \.float\(\)"):
        upscale(picture(), 2, copy.deepcopy(network).half())
    with torch.no_grad():
        next(iter(network.parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match="no finite numbers"):
        upscale(picture(), 2, network)


class Says:
    """An estimator that says what it is told to."""

    names, identity = ("noise", "blur"), "says"

    def __init__(self, values, severity):
        self.values, self.severity = values, severity

    def __call__(self, pictures):
        assert min(pictures.shape[-2:]) >= 8
        return Scores(names=self.names, values=self.values, severity=self.severity)

    def at(self, severity):
        return Scores(names=self.names, values=torch.full((1, 2), severity), severity=torch.tensor([severity]))


@pytest.fixture
def ranked():
    torch.manual_seed(0)
    return CompactUpscaler(8, 1, ranks={"scores": 2, "shared": 1, "routed": 2, "active": 1, "zero": 0}).eval()


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (7, 7), (40, 3)])
def test_pictures_too_small_to_be_judged_are_filled_up(ranked, size):
    said = Says(torch.full((1, 2), 0.5), torch.full((1,), 0.5))
    made = upscale(np.full((*size, 3), 0.5, np.float32), 2, ranked, estimator=said)
    assert (made.picture.height, made.picture.width) == (2 * size[0], 2 * size[1])


@pytest.mark.parametrize(
    ("values", "severity", "told"),
    [
        (torch.zeros(1, 3), torch.zeros(1), r"\(1, 3\)"),
        (torch.zeros(1, 2), torch.tensor(0.5), r"\(\)"),
        (torch.full((1, 2), 1.5), torch.zeros(1), "not from 0 to 1"),
        (torch.zeros(1, 2), torch.full((1,), float("nan")), "not from 0 to 1"),
    ],
)
def test_what_is_no_score_is_refused_before_the_work(ranked, values, severity, told):
    with pytest.raises(ModelError, match=told):
        upscale(picture(), 2, ranked, estimator=Says(values, severity))
