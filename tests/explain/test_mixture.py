"""Sheets about mixtures: any size and kind of picture, the same bytes each time, and figures that are right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moesaic import metrics
from moesaic.codec import Info, decode, decode_bytes, encode_mixture
from moesaic.codec.spent import spent
from moesaic.errors import ShapeError
from moesaic.explain import mixture as module
from moesaic.explain.mixture import explain_mixture
from moesaic.picture import Picture
from moesaic.sheet import ORANGE


def explained(mixture, *, source=None, name="a.moe", **options):
    data = encode_mixture(mixture, **options)
    return explain_mixture(decode_bytes(data), spent(data), name=name, source=source)


@pytest.mark.parametrize(
    ("n", "channels", "size"),
    [(1, 3, (1, 1)), (1, 1, (40, 30)), (12, 2, (9, 70)), (40, 3, (70, 9)), (900, 4, (90, 60)), (3, 3, (600, 2))],
)
@pytest.mark.parametrize("known", [False, True])
def test_sheets_of_any_picture(make_mixture, n, channels, size, known):
    mixture = make_mixture(n, channels=channels, width=size[0], height=size[1])
    source = Picture(pixels=np.full((size[1], size[0], channels), 0.5, np.float32)) if known else None
    found = explained(mixture, source=source)
    assert (found.picture.width, found.picture.channels, found.kind) == (1200, 3, "mixture")
    assert found.picture.height < 3000
    told = found.figures
    assert (told["width"], told["height"], told["kernels"]) == (*size, n)
    assert 1 <= told["owners"] <= n
    assert (told["psnr"] is not None) == known


def test_figures(make_mixture):
    mixture = make_mixture(700, width=96, height=64)
    data = encode_mixture(mixture)
    rng = np.random.default_rng(0)
    source = Picture(pixels=rng.uniform(0, 1, (64, 96, 3)).astype(np.float32))
    told = explain_mixture(decode_bytes(data), spent(data), source=source).figures
    drawn = np.rint(255 * decode(data).pixels) / 255
    assert told["psnr"] == pytest.approx(metrics.psnr(drawn, np.rint(255 * source.pixels) / 255), abs=1e-4)
    assert (told["bytes"], told["bpp"]) == (len(data), 8 * len(data) / (96 * 64))
    assert told["layers"] == 3
    assert 20 < told["bits_per_kernel"] < 100


def test_a_source_that_is_met(make_mixture):
    data = encode_mixture(make_mixture(30))
    found = explain_mixture(decode_bytes(data), spent(data), source=decode(data))
    assert math.isinf(found.figures["psnr"])


def test_a_grey_source_of_a_mixture_in_colour(make_mixture):
    grey = Picture(pixels=np.full((37, 50, 1), 0.5, np.float32))
    assert explained(make_mixture(30), source=grey).figures["psnr"] > 0


def test_a_source_of_another_size(make_mixture):
    with pytest.raises(ShapeError, match="5x4 px and the mixture's canvas 50x37"):
        explained(make_mixture(5), source=Picture(pixels=np.zeros((4, 5, 3), np.float32)))


def test_the_same_bytes_each_time(make_mixture):
    one, other = (explained(make_mixture(400, width=80, height=60)) for _ in range(2))
    assert one.picture.pixels.tobytes() == other.picture.pixels.tobytes()
    assert one.page() == other.page()


def test_the_frame_is_there_only_for_many_kernels(make_mixture):
    orange = np.array(ORANGE, np.float32) / 255
    few, many = (explained(make_mixture(n, width=80, height=60)).picture.pixels for n in (100, 900))
    assert not (np.abs(few - orange) < 1e-3).all(-1).any()
    assert (np.abs(many - orange) < 1e-3).all(-1).any()


def test_profiles_are_kept_in_colour_alone(make_mixture):
    for channels, kept in ((3, b"profile"), (1, None)):
        found = explained(make_mixture(5, channels=channels), info=Info(icc=b"profile"))
        assert found.picture.icc == kept


def test_large_canvases_are_sampled(make_mixture, monkeypatch):
    mixture = make_mixture(60, width=120, height=80)
    monkeypatch.setattr(module, "MAP_PIXELS", 30 * 20)
    found = explained(mixture, source=Picture(pixels=np.zeros((80, 120, 3), np.float32)))
    assert found.hover is not None
    assert found.hover.own.shape == found.hover.under.shape[:2] == (20, 30)
    found.page()
