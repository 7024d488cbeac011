"""Enlarging: better than Lanczos, edges that stay single, any factor, and what must be refused."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, LimitError, PictureError, ShapeError
from moesaic.image import Picture, read_picture
from moesaic.metrics import psnr
from moesaic.mixture.enlarge import SAMPLINGS, EnlargeConfig, enlarge, fit_sampled
from moesaic.mixture.sampling import resize

QUICK = EnlargeConfig(fits=2, opening=5, steps=20)


def made_smaller(picture, factor, kernel="bicubic"):  # (H, W, C) float in [0, 1]
    height, width = picture.shape[:2]
    fine = np.ascontiguousarray(picture.transpose(2, 0, 1))
    small = resize(kernel, (width, height), (width // factor, height // factor))(fine)
    return np.clip(small.transpose(1, 2, 0), 0.0, 1.0)


def by_lanczos(small, width, height):
    fine = np.ascontiguousarray(small.transpose(2, 0, 1))
    return np.clip(resize("lanczos", (small.shape[1], small.shape[0]), (width, height))(fine).transpose(1, 2, 0), 0, 1)


class TestQuality:
    @pytest.mark.parametrize("factor", [2, 3])
    def test_is_better_than_lanczos(self, photo, factor):
        truth = photo[:84, :120]
        small = made_smaller(truth, factor)
        ours = enlarge(small, scale=factor).pixels
        assert psnr(ours, truth) > psnr(by_lanczos(small, 120, 84), truth) + 0.3

    @pytest.mark.parametrize("kernel", ["area", "bicubic"])
    def test_becomes_the_small_picture_again(self, photo, kernel):
        small = made_smaller(photo, 2, kernel)
        large = enlarge(small, sampling=kernel, config=QUICK).pixels
        assert psnr(made_smaller(large, 2, kernel), small) > 45.0

    def test_the_sampling_that_was_is_the_best_guess(self, photo):
        truth = photo[:80, :120]
        small = made_smaller(truth, 2, "area")
        reached = {kind: psnr(enlarge(small, sampling=kind).pixels, truth) for kind in ("point", "area", "bilinear")}
        assert max(reached, key=reached.get) == "area"

    def test_more_fits_are_better_than_one(self, photo):
        small = made_smaller(photo, 2)
        one, six = (psnr(enlarge(small, config=EnlargeConfig(fits=n)).pixels, photo) for n in (1, 6))
        assert six > one + 0.3

    @pytest.mark.parametrize("sampling", ["area", "bicubic"])
    def test_a_slanted_edge_stays_single(self, sampling):
        rows, columns = np.mgrid[:96, :96] + 0.5
        truth = np.where(columns + 0.4 * rows < 68, 0.2, 0.8).astype(np.float32)[..., None]
        small = made_smaller(truth, 4, sampling)
        inner = (slice(8, -8), slice(8, -8))
        edge, ours = truth[inner], enlarge(small, scale=4, sampling=sampling).pixels[inner]
        theirs = by_lanczos(small, 96, 96)[inner]
        assert psnr(ours, edge) > psnr(theirs, edge) + 2.0
        across, of_lanczos = np.diff(ours[..., 0], axis=1), np.diff(theirs[..., 0], axis=1)
        assert across.min() > 0.8 * of_lanczos.min()  # hardly a ring, and no second edge beside it
        assert (across > 0.1).sum(axis=1).max() <= 4  # px, in a picture enlarged by 4

    def test_smooth_places_stay_smooth(self):
        rows, columns = np.mgrid[:24, :24] / 24
        small = np.stack([0.3 + 0.4 * rows, 0.7 - 0.4 * columns, 0.5 * np.ones_like(rows)], axis=2).astype(np.float32)
        large = enlarge(small, scale=3).pixels
        assert np.abs(large - by_lanczos(small, 72, 72))[6:-6, 6:-6].max() < 0.02


class TestSizes:
    @pytest.mark.parametrize(
        ("asked", "size"),
        [
            ({}, (20, 16)),
            ({"scale": 2}, (20, 16)),
            ({"scale": 1.5}, (15, 12)),
            ({"scale": np.float32(2.5)}, (25, 20)),
            ({"size": (31, 8)}, (31, 8)),
            ({"size": (np.int64(10), 9)}, (10, 9)),
        ],
    )
    def test_any_factor(self, photo, asked, size):
        large = enlarge(photo[:8, :10], config=QUICK, **asked)
        assert (large.width, large.height) == size

    @pytest.mark.parametrize(
        "asked",
        [
            {"scale": 1},
            {"scale": 1.01},
            {"scale": 0.5},
            {"scale": 0},
            {"scale": -2},
            {"scale": math.nan},
            {"scale": math.inf},
            {"scale": "two"},
            {"size": (9, 30)},
            {"size": (10, 8)},
            {"size": (0, 0)},
            {"size": (20.5, 16)},
            {"size": (20,)},
            {"size": (20, 16, 3)},
            {"size": 20},
            {"scale": 2, "size": (20, 16)},
        ],
    )
    def test_what_is_no_enlargement(self, photo, asked):
        with pytest.raises(ArgumentError):
            enlarge(photo[:8, :10], **asked)

    def test_a_limit_that_is_no_number_stops_everything(self, photo):
        with pytest.raises(LimitError):
            enlarge(photo[:8, :10], scale=2, pixel_limit=math.nan)

    @pytest.mark.parametrize("asked", [{"scale": 1e5}, {"scale": 1e300}, {"size": (2**20, 2**20)}])
    def test_more_than_the_limit(self, photo, asked):
        with pytest.raises(LimitError, match="pixel_limit"):
            enlarge(photo[:8, :10], **asked)

    def test_the_limit_is_adjustable(self, photo):
        with pytest.raises(LimitError):
            enlarge(photo[:8, :10], pixel_limit=319)
        assert enlarge(photo[:8, :10], pixel_limit=320, config=QUICK).width == 20


class TestPictures:
    @pytest.mark.parametrize("sampling", SAMPLINGS)
    @pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (7, 1), (3, 2)])
    def test_tiny_ones(self, photo, height, width, sampling):
        large = enlarge(photo[:height, :width], scale=3, sampling=sampling, config=QUICK)
        assert large.pixels.shape == (3 * height, 3 * width, 3)
        assert np.abs(large.pixels.mean() - photo[:height, :width].mean()) < 0.1

    @pytest.mark.parametrize("sampling", SAMPLINGS)
    def test_one_colour_stays_that_colour(self, sampling):
        plain = np.full((9, 12, 3), [0.2, 0.5, 1.0], np.float32)
        large = enlarge(plain, sampling=sampling).pixels
        assert np.abs(large - np.array([0.2, 0.5, 1.0])).max() < 0.5 / 255

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_channels(self, photo, channels):
        pixels = np.concatenate([photo, photo[..., :1]], axis=2)[:12, :14, :channels]
        assert enlarge(pixels, config=QUICK).channels == channels

    def test_transparent_pixels_lend_no_colour(self):
        pixels = np.zeros((16, 16, 4), np.float32)
        pixels[:, :8] = [0.0, 1.0, 0.0, 1.0]  # opaque green
        pixels[:, 8:] = [1.0, 0.0, 0.0, 0.0]  # red that cannot be seen
        large = enlarge(pixels, scale=3).pixels
        seen = large[large[..., 3] > 0.1]
        assert seen[:, 0].max() < 0.05
        assert seen[:, 1].min() > 0.9
        assert large[:, :18, 3].min() > 0.95
        assert large[:, 30:, 3].max() < 0.05

    def test_depth_and_metadata_are_carried(self, photo):
        deep = Picture(pixels=photo[:8, :10].copy(), depth=16, icc=b"profile", exif=b"Exif\0\0..", xmp=b"<x/>")
        large = enlarge(deep, config=QUICK)
        assert (large.depth, large.icc, large.exif, large.xmp) == (16, b"profile", b"Exif\0\0..", b"<x/>")

    def test_16_bits_keep_their_steps(self):
        ramp = np.linspace(30000, 30100, 16).astype(np.uint16)
        large = enlarge(np.tile(ramp, (16, 1)))
        assert large.depth == 16
        assert 0 < np.diff(large.pixels[16, 8:-8, 0]).max() < 20 / 65535  # smooth, where 8 bits would jump by 257

    def test_all_kinds_of_input(self, photo, tmp_path):
        small = np.rint(photo[:8, :10] * 255).astype(np.uint8)
        Image.fromarray(small).save(tmp_path / "a.png")
        small.flags.writeable = False
        want = enlarge(small, config=QUICK).pixels
        tensor = torch.from_numpy(small.transpose(2, 0, 1).copy())
        for source in (tmp_path / "a.png", Image.fromarray(small), tensor, read_picture(small)):
            np.testing.assert_array_equal(enlarge(source, config=QUICK).pixels, want)

    def test_what_is_no_picture(self, photo):
        with pytest.raises(ShapeError):
            enlarge(np.zeros((0, 5, 3), np.float32))
        broken = photo[:8, :10].copy()
        broken[3, 3, 1] = np.nan
        with pytest.raises(ArgumentError, match="numbers"):
            enlarge(broken)
        with pytest.raises(PictureError):
            enlarge("nowhere.png")


class TestFits:
    def test_same_seed_same_bytes_for_any_number_of_threads(self, photo):
        small = photo[:24, :40]
        first, second, third = (enlarge(small, seed=3, threads=n, config=QUICK).pixels for n in (1, 2, 3))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)
        assert not np.array_equal(first, enlarge(small, seed=4, threads=1, config=QUICK).pixels)

    @pytest.mark.parametrize("sampling", ["point", "bicubic"])
    def test_mixtures_lie_on_the_small_canvas(self, photo, sampling):
        small = np.ascontiguousarray(photo[:20, :30].transpose(2, 0, 1))
        config = EnlargeConfig(fits=3, steps=60, pixels_per_expert=(4.0, 8.0))
        mixtures = fit_sampled(small, sampling=sampling, config=config)
        assert [len(mixture) for mixture in mixtures] == [150, 75, 150]
        assert {(mixture.width, mixture.height) for mixture in mixtures} == {(30, 20)}
        fine = mixtures[0].render(scale=2).numpy()
        seen = resize("bicubic", (60, 40), (30, 20))(fine) if sampling == "bicubic" else mixtures[0].render().numpy()
        assert psnr(np.clip(seen, 0, 1), small) > 30.0

    def test_an_opening_is_a_better_start(self, photo):
        small = made_smaller(photo, 2)
        without, with_it = (psnr(enlarge(small, config=EnlargeConfig(opening=n)).pixels, photo) for n in (0, 30))
        assert with_it > without

    def test_no_kernel_is_sharper_than_allowed(self, photo):
        small = np.ascontiguousarray(photo[:20, :30].transpose(2, 0, 1))
        for mixture in fit_sampled(small, config=EnlargeConfig(fits=1, sharpest=0.8)):
            assert mixture.factors[:, ::2].max() <= 0.8001

    def test_a_weight_on_the_variation_makes_the_picture_plainer(self, photo):
        small = photo[:24, :32]
        rough, plain = (
            enlarge(small, config=EnlargeConfig(fits=1, filling=0, variation=weight)).pixels for weight in (0.0, 0.05)
        )
        assert np.abs(np.diff(plain, axis=1)).sum() < 0.9 * np.abs(np.diff(rough, axis=1)).sum()

    def test_progress_counts_all_fits(self, photo):
        news = []
        enlarge(photo[:8, :10], config=QUICK, progress=news.append)
        assert [now.step for now in news] == list(range(1, 51))
        assert {now.steps for now in news} == {50}
        assert news[-1].seconds_left == 0
        assert all(a.seconds <= b.seconds for a, b in pairwise(news))

    @pytest.mark.parametrize("sampling", ["point", "bicubic"])
    @pytest.mark.parametrize("last", [3, 9, 30])  # in the opening, after it, in the second fit
    def test_progress_can_stop_it(self, photo, sampling, last):
        news = []

        def until_then(now):
            news.append(now)
            return now.step == last

        assert enlarge(photo[:8, :10], sampling=sampling, config=QUICK, progress=until_then).width == 20
        assert len(news) == last

    @pytest.mark.parametrize(
        "wrong",
        [
            {"sampling": "nearest"},
            {"seed": -1},
            {"seed": 0.5},
            {"threads": 0},
            {"config": EnlargeConfig(fits=0)},
            {"config": EnlargeConfig(steps=0)},
            {"config": EnlargeConfig(opening=-1)},
            {"config": EnlargeConfig(filling=-1)},
            {"config": EnlargeConfig(pixels_per_expert=())},
            {"config": EnlargeConfig(pixels_per_expert=(0.0,))},
            {"config": EnlargeConfig(pixels_per_expert=(math.nan,))},
            {"config": EnlargeConfig(sharpest=math.nan)},
            {"config": EnlargeConfig(variation=-1.0)},
        ],
    )
    def test_numbers_out_of_range(self, photo, wrong):
        with pytest.raises(ArgumentError):
            enlarge(photo[:8, :10], **wrong)
