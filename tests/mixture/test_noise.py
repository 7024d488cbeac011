from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.noise import clipped_moments, estimate_noise, noise_by_channel

SIGMAS = (5, 10, 15, 25, 50, 75)
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "camera", "coins")
TEXTURES = {"brick": 5, "gravel": 10, "grass": 15}  # all over the picture, and the noise from which it stands out
DRAWN = ("even", "ramp", "discs", "ink")


def photograph(name):
    """The middle of a photograph, (C, H, W) in [0, 1]."""
    pixels = np.atleast_3d(getattr(data, name)())
    top, left = (max(0, side - 256) // 2 for side in pixels.shape[:2])
    return np.moveaxis(pixels[top:, left:][:256, :256], 2, 0).astype(np.float32) / 255


def drawn(name, side=192):
    y, x = np.mgrid[:side, :side] / side
    if name == "even":
        picture = np.full((side, side), 0.6)
    elif name == "ramp":
        picture = 0.1 + 0.8 * x
    else:
        picture = np.full((side, side), 0.25 if name == "discs" else 1.0)
        for k in range(12):
            inside = (x - (0.13 + 0.29 * (k % 4))) ** 2 + (y - (0.17 + 0.33 * (k // 4))) ** 2 < 0.004 * (1 + k % 3)
            picture[inside] = 0.3 + 0.05 * k if name == "discs" else 0.0
    return np.stack([picture, 0.5 * picture, 1 - picture]).astype(np.float32)


def with_noise(picture, sigma, seed, *, clipped):
    noise = np.random.default_rng(seed).normal(0, sigma / 255, picture.shape)
    if clipped:
        return np.rint(np.clip(picture + noise, 0, 1) * 255).astype(np.float32) / np.float32(255)
    return (picture + noise).astype(np.float32)


@pytest.mark.parametrize("clipped", [False, True], ids=["unclipped", "clipped"])
class TestWithinTenPercent:
    @pytest.mark.parametrize("name", PHOTOGRAPHS)
    def test_on_photographs(self, name, clipped):
        picture = photograph(name)
        ratios = {
            (sigma, seed): estimate_noise(with_noise(picture, sigma, seed, clipped=clipped)) / sigma
            for sigma in SIGMAS
            for seed in (0, 1)
        }
        assert {case: ratio for case, ratio in ratios.items() if not 0.9 <= ratio <= 1.1} == {}

    @pytest.mark.parametrize("name", TEXTURES)
    def test_on_textures_that_fill_the_picture(self, name, clipped):
        for sigma in (s for s in SIGMAS if s >= TEXTURES[name]):
            noisy = with_noise(photograph(name), sigma, 0, clipped=clipped)
            assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.1), sigma

    @pytest.mark.parametrize("name", DRAWN)
    def test_on_drawings(self, name, clipped):
        for sigma in SIGMAS:
            for seed in (0, 1):
                noisy = with_noise(drawn(name), sigma, seed, clipped=clipped)
                assert estimate_noise(noisy) == pytest.approx(sigma, rel=0.1), (sigma, seed)

    @pytest.mark.parametrize(("height", "width", "within"), [(64, 64, 0.1), (32, 32, 0.15), (8, 8, 0.5), (500, 9, 0.1)])
    def test_on_few_pixels(self, height, width, within, clipped):
        noisy = with_noise(np.full((3, height, width), 0.5, np.float32), 20, 0, clipped=clipped)
        assert estimate_noise(noisy) == pytest.approx(20, rel=within)


class TestByChannel:
    def test_channels_of_different_noise(self):
        picture = photograph("astronaut")
        levels = np.array([5.0, 40.0, 15.0])
        noisy = picture + np.random.default_rng(0).normal(size=picture.shape) * levels[:, None, None] / 255
        found = noise_by_channel(noisy.astype(np.float32))
        np.testing.assert_allclose(found, levels, rtol=0.1)
        assert estimate_noise(noisy.astype(np.float32)) == pytest.approx(np.sqrt(np.mean(found**2)))

    def test_grey_stored_as_colour_is_that_grey(self):
        grey = with_noise(photograph("camera"), 10, 0, clipped=False)
        alone, threefold = noise_by_channel(grey), noise_by_channel(np.repeat(grey, 3, axis=0))
        assert np.array_equal(threefold, np.repeat(alone, 3))

    def test_texture_that_the_channels_share_is_no_noise(self):
        texture = np.random.default_rng(1).normal(0.5, 0.1, (1, 256, 256))
        for axis in (1, 2):  # more energy at low frequencies than at high ones, as texture has
            texture = (texture + np.roll(texture, 1, axis=axis)) / 2
        picture = np.repeat(texture, 3, axis=0).astype(np.float32)
        assert estimate_noise(with_noise(picture, 5, 0, clipped=False)) == pytest.approx(5, rel=0.1)


class TestDefinedEverywhere:
    @pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 2), (1, 1, 50), (3, 7, 7), (3, 8, 8), (1, 40, 30)])
    def test_one_colour_has_no_noise(self, shape, value):
        assert estimate_noise(np.full(shape, value, np.float32)) == 0.0

    def test_a_drawing_without_noise(self):
        assert estimate_noise(drawn("ink")) == 0.0
        assert estimate_noise(drawn("discs")) == 0.0

    def test_a_part_without_change_does_not_count(self):
        noisy = with_noise(drawn("ramp"), 10, 0, clipped=False)
        noisy[:, :, :60] = 0.2
        assert estimate_noise(noisy) == pytest.approx(10, rel=0.1)

    @pytest.mark.parametrize("shape", [(1, 1, 300), (3, 5, 90), (1, 90, 3)])
    def test_strips_too_narrow_for_patches(self, shape):
        noise = np.random.default_rng(0).normal(0.5, 20 / 255, shape).astype(np.float32)
        assert estimate_noise(noise) == pytest.approx(20, rel=0.3)

    def test_two_by_two_tells_nothing(self):
        assert estimate_noise(np.array([[[0.0, 1.0], [1.0, 0.0]]], np.float32)) == 0.0

    def test_only_black_and_white(self):
        picture = np.random.default_rng(0).integers(0, 2, (1, 64, 64)).astype(np.float32)
        assert 0.0 < estimate_noise(picture) <= 255.0

    def test_same_picture_same_estimate(self):
        noisy = with_noise(photograph("coffee"), 25, 0, clipped=True)
        assert estimate_noise(noisy) == estimate_noise(noisy.copy())

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("side", [4, 32])
    def test_refuses_what_is_no_number(self, value, side):
        picture = np.full((3, side, side), 0.5, np.float32)
        picture[1, 2, 3] = value
        with pytest.raises(ArgumentError, match="finite"):
            estimate_noise(picture)

    @pytest.mark.parametrize("shape", [(8, 8), (3, 0, 8), (0, 8, 8), (1, 3, 8, 8)])
    def test_refuses_what_is_no_picture(self, shape):
        with pytest.raises(ShapeError, match="channels"):
            estimate_noise(np.zeros(shape, np.float32))


class TestClippedMoments:
    @pytest.mark.parametrize("clipped", [(False, False), (True, False), (False, True), (True, True)])
    @pytest.mark.parametrize("sigma", [0.05, 0.3])
    def test_are_those_of_many_draws(self, clipped, sigma):
        means = np.array([-0.1, 0.0, 0.2, 0.5, 0.97, 1.2])
        draws = np.random.default_rng(0).normal(0, sigma, 200_000) + means[:, None]
        low, high = 0.0 if clipped[0] else -np.inf, 1.0 if clipped[1] else np.inf
        drawn = np.clip(draws, low, high)
        mean, variance = clipped_moments(means, sigma, clipped)
        np.testing.assert_allclose(mean, drawn.mean(axis=1), atol=0.01 * sigma)
        np.testing.assert_allclose(variance, drawn.var(axis=1), atol=0.01 * sigma**2)
