"""Two pictures held against each other: what counts as the same, the measures, the map of errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moesaic import metrics
from moesaic.cli.comparing import GAIN, alike, error_map, measure, side_by_side
from moesaic.errors import ShapeError
from moesaic.image import Picture


def _picture(pixels, **kwargs) -> Picture:
    return Picture(pixels=np.asarray(pixels, np.float32), **kwargs)


@pytest.fixture
def noisy():
    """A photograph-like picture and a disturbed copy, (48, 64, 3)."""
    generator = np.random.default_rng(1)
    clean = np.rint(generator.uniform(0.2, 0.8, (48, 64, 3)) * 255) / 255
    return _picture(clean), _picture(np.clip(clean + generator.normal(0, 0.02, clean.shape), 0, 1))


def test_figures_are_those_of_the_rounded_pictures(noisy):
    first, second = noisy
    figures = measure(first, second, 1536)
    rounded = (np.rint(second.pixels * 255) / 255).astype(np.float32)
    assert figures["psnr"] == pytest.approx(metrics.psnr(first.pixels, rounded), abs=1e-4)
    assert figures["psnr"] != pytest.approx(metrics.psnr(first.pixels, second.pixels), abs=1e-4)
    assert figures["ssim"] == pytest.approx(metrics.ssim(first.pixels, rounded), abs=1e-6)
    assert figures["ms_ssim"] is None  # both sides would have to be 161 px
    assert (figures["bytes"], figures["bpp"]) == (1536, 4.0)


def test_equal_pictures(noisy):
    figures = measure(noisy[0], noisy[0], 1)
    assert figures["psnr"] == math.inf
    assert figures["ssim"] == pytest.approx(1)


def test_sizes_must_agree(noisy):
    with pytest.raises(ShapeError, match="64x48 and 32x48"):
        measure(noisy[0], _picture(noisy[0].pixels[:, :32]), 1)


def test_grey_counts_as_colour_and_no_alpha_as_opaque():
    grey = _picture(np.full((4, 5, 1), 0.2))
    colour = _picture(np.full((4, 5, 4), 1.0) * [0.2, 0.2, 0.2, 1])
    a, b = alike(grey, colour)
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert a.shape == (4, 5, 4)


def test_colour_under_no_alpha_does_not_count():
    first, second = np.zeros((4, 5, 4)), np.zeros((4, 5, 4))
    second[..., 0] = 1
    a, b = alike(_picture(first), _picture(second))
    np.testing.assert_array_equal(a, b)


def test_a_deep_picture_keeps_its_depth():
    fine = _picture(np.full((4, 5, 1), 1000 / 65535), depth=16)
    a, _ = alike(fine, fine)
    assert a[0, 0, 0] == pytest.approx(1000 / 65535, abs=1e-7)


def test_the_error_map_is_dark_where_there_is_no_error_and_grows_brighter():
    other = np.zeros((1, 3, 3))
    other[0, 1], other[0, 2] = 0.3 / GAIN, 1
    brightness = error_map(_picture(np.zeros((1, 3, 3))), _picture(other)).mean(axis=2)[0]
    assert brightness[0] < 0.02
    assert brightness[0] < brightness[1] < brightness[2]


@pytest.mark.parametrize(("size", "across", "down"), [((40, 60), 3, 1), ((20, 60), 1, 3)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_side_by_side_shows_both_and_the_map(size, across, down, channels):
    height, width = size
    pixels = np.full((height, width, channels), 1.0)
    pixels[..., 0] = 0.4
    picture = _picture(pixels)
    sheet = side_by_side(picture, picture)
    assert sheet.channels == 3
    assert sheet.width == across * width + (across - 1) * 8
    assert sheet.height == down * (height + 22) + (down - 1) * 8
    np.testing.assert_allclose(sheet.pixels[22 : 22 + height, :width, 0], 0.4, atol=1 / 255)
    assert sheet.pixels[-1, -1].max() < 0.05  # no error
