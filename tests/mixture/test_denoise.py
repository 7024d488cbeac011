from __future__ import annotations

import math

import numpy as np
import pytest

from moesaic import metrics
from moesaic.errors import ArgumentError, LimitError, PictureError, ShapeError
from moesaic.image import read_picture
from moesaic.mixture.denoise import Denoised, denoise, denoise_pixels, unclip
from moesaic.mixture.fitting import Progress
from moesaic.mixture.noisy_fit import NoisyConfig


@pytest.fixture(scope="module")
def photograph():
    from skimage import data

    return (data.astronaut()[20:148, 150:278].transpose(2, 0, 1) / 255).astype(np.float32)  # (3, 128, 128)


def with_noise(picture, sigma, seed=0):
    return (picture + np.random.default_rng(seed).normal(0, sigma / 255, picture.shape)).astype(np.float32)


def decibels(found, clean):
    return metrics.psnr(np.clip(found, 0, 1).transpose(1, 2, 0), clean.transpose(1, 2, 0))


class TestQuality:
    @pytest.mark.parametrize("sigma", [15, 25, 50])
    def test_better_than_total_variation(self, photograph, sigma):
        from skimage.restoration import denoise_tv_chambolle

        noisy = with_noise(photograph, sigma)
        clean, mixtures = denoise_pixels(noisy, sigma, models=4)
        best = max(
            decibels(denoise_tv_chambolle(noisy, weight=w * sigma / 255, channel_axis=0), photograph)
            for w in (0.4, 0.6, 0.9, 1.4)
        )
        assert decibels(clean, photograph) > best + 0.5
        assert len(mixtures) == 4

    def test_several_mixtures_are_better_than_one(self, photograph):
        noisy = with_noise(photograph, 25)
        together, mixtures = denoise_pixels(noisy, 25, finish="mixtures")
        alone = [decibels(mixture.render().numpy(), photograph) for mixture in mixtures]
        assert decibels(together, photograph) > max(alone) + 0.5

    def test_finish_gives_texture_back(self, photograph):
        noisy = with_noise(photograph, 25)
        plain, _ = denoise_pixels(noisy, 25, models=4, finish="mixtures")
        full, _ = denoise_pixels(noisy, 25, models=4)
        assert decibels(full, photograph) > decibels(plain, photograph) + 0.1

    def test_more_noise_leaves_fewer_experts(self, photograph):
        counts = [len(denoise_pixels(with_noise(photograph, s), s, models=1)[1][0]) for s in (15, 30, 60)]
        assert counts[0] > 1.5 * counts[1] > 2.0 * counts[2]

    def test_pure_noise_leaves_next_to_nothing(self):
        noisy = with_noise(np.full((3, 96, 96), 0.5, np.float32), 25)
        clean, mixtures = denoise_pixels(noisy, 25)
        assert float(np.std(clean - 0.5)) < 1.5 / 255
        assert max(map(len, mixtures)) <= 64  # of the 576 that it began with

    def test_clipping_is_undone(self, photograph):
        dark = 0.3 * photograph
        noisy = np.clip(with_noise(dark, 50), 0, 1)
        clean, _ = denoise_pixels(noisy, 50, models=4)
        raw, _ = denoise_pixels(noisy + 1e-6, 50, models=4)  # no pixel lies at 0 any more
        assert abs(float(np.mean(clean - dark))) < 0.3 * abs(float(np.mean(raw - dark)))
        assert decibels(clean, dark) > decibels(raw, dark) + 1.0


class TestUnclip:
    @pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9, 1.0])
    def test_mean_of_clipped_noise(self, level):
        noisy = np.clip(np.random.default_rng(0).normal(level, 50 / 255, (1, 400, 400)), 0, 1).astype(np.float32)
        noisy[0, 0, :400], noisy[0, 1, :400] = 0, 1  # both bounds occur
        mean = np.full((1, 4, 4), noisy[0, 2:].mean(), np.float32)
        assert unclip(mean, noisy, 50.0) == pytest.approx(level, abs=0.01)

    def test_nothing_at_the_bounds(self):
        noisy = np.random.default_rng(0).uniform(0.1, 0.9, (3, 20, 20)).astype(np.float32)
        assert unclip(noisy, noisy, 50.0) is noisy

    def test_values_beyond_the_range_say_that_nothing_was_clipped(self):
        noisy = np.random.default_rng(0).normal(0.5, 0.4, (3, 50, 50)).astype(np.float32)
        noisy[:, :10] = 0.0
        assert unclip(noisy, noisy, 100.0) is noisy

    def test_one_side(self):
        noisy = np.clip(np.random.default_rng(0).normal(0.05, 0.1, (1, 50, 50)), 0, None).astype(np.float32)
        noisy[0, 0, 0] = 0.7
        mended = unclip(noisy, noisy, 25.5)
        assert mended[0, 0, 0] == pytest.approx(0.7, abs=1e-3)
        assert float(mended.mean()) < float(noisy.mean())


class TestSame:
    def test_bytes_for_any_number_of_threads(self, photograph):
        noisy = with_noise(photograph[:, :64, :64], 25)
        first, one = denoise_pixels(noisy, 25, models=3, threads=1)
        second, two = denoise_pixels(noisy, 25, models=3, threads=2)
        third, _ = denoise_pixels(noisy, 25, models=1, threads=2)
        fourth, _ = denoise_pixels(noisy, 25, models=1, threads=1)
        assert first.tobytes() == second.tobytes()
        assert third.tobytes() == fourth.tobytes()
        assert [len(m) for m in one] == [len(m) for m in two]

    def test_seeds_differ(self, photograph):
        noisy = with_noise(photograph[:, :64, :64], 25)
        first, _ = denoise_pixels(noisy, 25, models=1, seed=0)
        second, _ = denoise_pixels(noisy, 25, models=1, seed=1)
        assert float(np.abs(first - second).max()) > 1e-3

    def test_input_is_left_alone(self, photograph):
        noisy = with_noise(photograph[:, :48, :48], 25)
        before = noisy.copy()
        noisy.flags.writeable = False
        denoise_pixels(noisy, 25, models=1)
        assert (noisy == before).all()


class TestPictures:
    def test_sigma_is_estimated(self, photograph):
        noisy = np.clip(with_noise(photograph, 25), 0, 1).transpose(1, 2, 0)
        found = denoise(noisy, models=2)
        assert isinstance(found, Denoised)
        assert found.estimated
        assert 22.5 <= found.sigma <= 27.5
        assert found.models == 2
        assert found.experts == round(np.mean([len(m) for m in found.mixtures]))
        told = denoise(noisy, sigma=25, models=1)
        assert not told.estimated
        assert told.sigma == 25.0

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_channels_and_alpha(self, photograph, channels):
        pixels = np.clip(with_noise(photograph, 20), 0, 1).transpose(1, 2, 0)[:40, :56]
        if channels in (1, 2):
            pixels = pixels[..., :1]
        if channels in (2, 4):
            alpha = np.tile(np.linspace(0, 1, 56, dtype=np.float32), (40, 1))[..., None]
            pixels = np.concatenate([pixels, alpha], axis=2)
        found = denoise(pixels, sigma=20, models=1)
        assert found.picture.pixels.shape == pixels.shape
        if channels in (2, 4):
            assert (found.picture.pixels[..., -1] == pixels[..., -1]).all()

    def test_what_a_picture_carries(self, photograph):
        picture = read_picture(np.clip(photograph[:, :32, :32], 0, 1).transpose(1, 2, 0)).with_depth(16)
        found = denoise(picture, sigma=10, models=1)
        assert found.picture.depth == 16

    def test_mixtures_render_at_any_size(self, photograph):
        found = denoise(np.clip(photograph[:, :32, :40], 0, 1).transpose(1, 2, 0), sigma=20, models=1)
        assert tuple(found.mixtures[0].render(scale=2).shape) == (3, 64, 80)


class TestOptions:
    def test_number_of_experts(self, photograph):
        _, mixtures = denoise_pixels(with_noise(photograph[:, :64, :64], 25), 25, models=2, experts=70)
        assert [len(m) for m in mixtures] == [70, 70]

    def test_a_short_time_still_finishes_one(self, photograph):
        _, mixtures = denoise_pixels(with_noise(photograph[:, :64, :64], 25), 25, models=64, seconds=1e-3)
        assert 1 <= len(mixtures) < 8

    def test_progress_ends_it_early(self, photograph):
        told = []

        def watch(now: Progress):
            told.append(now)
            return len(told) == 5

        _, mixtures = denoise_pixels(with_noise(photograph[:, :64, :64], 25), 25, models=32, progress=watch)
        assert 1 <= len(mixtures) < 8
        assert len(told) == 5
        assert all(0 < now.step < now.steps and now.seconds_left >= 0 and math.isnan(now.psnr) for now in told)

    def test_no_noise_is_left_alone(self, photograph):
        pixels = photograph.transpose(1, 2, 0)
        found = denoise(pixels, sigma=0)
        assert (found.picture.pixels == pixels).all()
        assert (found.models, found.experts) == (0, 0)

    def test_little_noise_does_no_harm(self, photograph):
        noisy = with_noise(photograph, 4)
        clean, _ = denoise_pixels(noisy, 4, models=2)
        assert decibels(clean, photograph) > decibels(noisy, photograph) - 0.1

    def test_a_strict_threshold_leaves_fewer(self, photograph):
        noisy = with_noise(photograph[:, :64, :64], 25)
        counts = [
            len(denoise_pixels(noisy, 25, models=1, config=NoisyConfig(worth=worth))[1][0]) for worth in (20.0, 200.0)
        ]
        assert counts[0] > 2 * counts[1]


class TestBadInput:
    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 5), (15, 16), (17, 2)])
    def test_small_pictures(self, shape):
        noisy = np.random.default_rng(0).uniform(size=(*shape, 3)).astype(np.float32)
        for sigma in (None, 25):
            found = denoise(noisy, sigma=sigma, models=2)
            assert found.picture.pixels.shape == noisy.shape
            assert np.isfinite(found.picture.pixels).all()

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_constant_pictures(self, value):
        plain = np.full((40, 50, 3), value, np.float32)
        assert np.abs(denoise(plain).picture.pixels - value).max() < 1 / 255
        assert np.abs(denoise(plain, sigma=25, models=2).picture.pixels - value).max() < 1 / 255

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_no_numbers(self, bad):
        noisy = np.full((3, 20, 20), 0.5, np.float32)
        noisy[1, 3, 4] = bad
        with pytest.raises(ArgumentError, match="finite"):
            denoise_pixels(noisy, 25)
        with pytest.raises(ArgumentError):
            denoise(noisy.transpose(1, 2, 0))

    @pytest.mark.parametrize("shape", [(3, 0, 5), (3, 5, 0), (0, 5, 5), (5, 8, 8), (8, 8), (1, 3, 8, 8)])
    def test_shapes(self, shape):
        with pytest.raises(ShapeError):
            denoise_pixels(np.zeros(shape, np.float32), 25)

    @pytest.mark.parametrize(
        "options",
        [
            {"sigma": -1},
            {"sigma": math.nan},
            {"sigma": math.inf},
            {"sigma": 256},
            {"sigma": "25"},
            {"models": 0},
            {"models": 10**6},
            {"threads": 10**6},
            {"seconds": math.inf},
            {"models": 1.5},
            {"models": True},
            {"experts": 0},
            {"experts": 401},
            {"experts": "many"},
            {"seconds": 0},
            {"seconds": math.nan},
            {"seconds": "1"},
            {"seed": -1},
            {"threads": 0},
            {"finish": "half"},
        ],
    )
    def test_options(self, options):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            denoise(np.full((20, 20, 3), 0.5, np.float32), **({"sigma": 25} | options))

    def test_files(self, tmp_path):
        with pytest.raises(PictureError):
            denoise(tmp_path / "none.png")

    @pytest.mark.parametrize("limit", [399, math.nan])
    def test_pixel_limit(self, limit):
        with pytest.raises(LimitError):
            denoise(np.full((20, 20, 3), 0.5, np.float32), sigma=10, pixel_limit=limit)
