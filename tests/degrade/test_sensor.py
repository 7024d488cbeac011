"""Noise has the variance that is stated, and darkness is a power."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.degrade import sensor
from moesaic.degrade.use import degrade

GREY = np.full((200, 200, 3), 0.5)


@pytest.mark.parametrize("sigma", [5, 25, 55])
def test_gaussian_noise_has_its_deviation(sigma):
    noisy = degrade(GREY, "noise", params={"sigma": sigma, "clip": False, "seed": 1}).pixels - GREY
    assert noisy.std() * 255 == pytest.approx(sigma, rel=0.01)
    assert abs(noisy.mean() * 255) < sigma / 50
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02


def test_no_noise_is_no_change(picture):
    pixels = picture()
    assert np.array_equal(degrade(pixels, "noise", params={"sigma": 0, "clip": True, "seed": 1}).levels(), pixels)


def test_clipping_takes_what_lies_outside():
    params = {"sigma": 55, "clip": False, "seed": 1}
    free = degrade(np.zeros((50, 50, 3)), "noise", params=params).pixels
    clipped = degrade(np.zeros((50, 50, 3)), "noise", params={**params, "clip": True}).pixels
    assert free.min() < -0.2
    np.testing.assert_array_equal(clipped, np.maximum(free, 0))


@pytest.mark.parametrize(("common", "width"), [(0.0, 0.2), (1.0, 0.2), (0.4, 0.8), (0.0, 1.2)])
def test_grain_has_its_deviation_and_is_alike_as_far_as_it_says(common, width):
    params = {"sigma": 10, "common": common, "width": width, "quality": 0, "seed": 1}
    noisy = degrade(GREY, "grain", params=params).pixels - GREY
    assert noisy.std() * 255 == pytest.approx(10, rel=0.03)
    channels = np.corrcoef(noisy[..., 0].ravel(), noisy[..., 2].ravel())[0, 1]
    assert channels == pytest.approx(common, abs=0.03)
    neighbours = np.corrcoef(noisy[:, 1:, 0].ravel(), noisy[:, :-1, 0].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-1 / (4 * width**2)), abs=0.06)  # of a Gaussian's autocorrelation


def test_grain_through_a_camera_is_on_the_levels_of_a_jpeg(picture):
    params = {"sigma": 15, "common": 0.3, "width": 0.5, "quality": 80, "seed": 1}
    noisy = degrade(picture(), "grain", params={**params, "quality": 0}).pixels
    written = degrade(noisy, "jpeg", params={"quality": 80, "halved": True}).levels()
    assert np.abs(degrade(picture(), "grain", params=params).levels().astype(int) - written).max() <= 1


@pytest.mark.parametrize("light", [0.2, 0.5])
def test_poisson_noise_grows_with_the_light(light):
    fields = np.random.default_rng(0).standard_normal(GREY.shape)
    noisy = sensor.poisson(np.full(GREY.shape, light), fields, 0.004, 3)
    assert noisy.var() == pytest.approx(0.004 * light + (3 / 255) ** 2, rel=0.03)


def test_darkness_is_a_power_of_the_light():
    np.testing.assert_allclose(sensor.darken(GREY, 1, 1, 1), GREY)
    np.testing.assert_allclose(sensor.darken(GREY, 0.8, 0.5, 3), 0.5 * 0.4**3)


def test_low_light_is_darker(picture):
    for severity in (0, 1):
        assert degrade(picture(), "low_light", seed=1, severity=severity).pixels.mean() < picture().mean() / 255 * 0.8
