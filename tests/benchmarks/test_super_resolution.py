"""The super-resolution protocol by hand-made figures, and the page that its records become."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from benchmarks import report_enlarge
from benchmarks.record import Record, read
from benchmarks.super_resolution import eight_bits, luma, made_small, resized, score


def test_luma_of_black_white_and_green():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [0, 255, 0]]], np.uint8)
    np.testing.assert_allclose(luma(colours), [[16.0, 235.0, 144.553]])


def test_pictures_are_cropped_to_a_multiple_of_the_scale():
    picture = np.arange(13 * 11 * 3, dtype=np.uint32).astype(np.uint8).reshape(13, 11, 3)
    large, small = made_small(picture, 3)
    assert (large.shape, small.shape) == ((12, 9, 3), (4, 3, 3))
    np.testing.assert_array_equal(large, picture[:12, :9])
    np.testing.assert_array_equal(small, resized(large, (3, 4), "bicubic"))


def test_rounding():
    np.testing.assert_array_equal(eight_bits(np.array([-0.1, 0.0, 0.5, 0.9999, 1.2])), [0, 0, 128, 255, 255])


def test_the_border_does_not_count_and_errors_do():
    truth = np.full((20, 24, 3), 100, np.uint8)
    framed = truth.copy()
    framed[:2] = framed[-2:] = 0
    framed[:, :2] = framed[:, -2:] = 255
    assert score(framed, truth, 2)["psnr_rgb"] > 100
    assert score(framed, truth, 1)["psnr_rgb"] < 30
    off = score(truth + np.uint8(2), truth, 2)
    assert off["psnr_rgb"] == pytest.approx(20 * math.log10(255 / 2), abs=1e-3)
    assert off["psnr_y"] == pytest.approx(20 * math.log10(255 / (2 * 219 / 255)), abs=1e-3)


def test_ssim_is_that_of_scikit_image_on_luma(photo):
    truth = eight_bits(photo)
    other = eight_bits(photo**1.1)
    inner = (slice(3, -3), slice(3, -3))
    y, of_truth = luma(other)[inner] / 255, luma(truth)[inner] / 255
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    assert score(other, truth, 3)["ssim_y"] == pytest.approx(structural_similarity(y, of_truth, **options), abs=1e-5)


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x"])
    made = Record("enlarge", settings={}, folder=tmp_path)
    for number, gain in enumerate((1.5, -0.25)):
        methods = {
            name: {"psnr_y": 30.0, "psnr_rgb": 29.0, "ssim_y": 0.9, "seconds": 0.0} for name in report_enlarge.METHODS
        }
        methods["moesaic"] |= {"psnr_y": 30.0 + gain, "seconds": 4.0}
        row = {"set": "Set5", "picture": f"p{number}", "scale": 3, "width": 500, "height": 400, "methods": methods}
        made.put("pictures", row["picture"], row)
    return read(made.path)


def test_the_page_holds_the_figures(record):
    blocks = report_enlarge.blocks({"enlarge": record})
    assert "- x3: +0.62 to +0.62 dB over Lanczos and" in blocks["enlarging verdict"]
    assert "Of 2 enlargements, moesaic is below Lanczos on Set5 p1 x3." in blocks["enlarging verdict"]
    assert "| 30.62 / 29.00 / 0.9000 |" in blocks["enlarging sets"]
    assert "| Set5 | x3 | 200,000 | 4.0 | 20.0 |" in blocks["enlarging seconds"]
    assert blocks["enlarging settings"].startswith("Not measured")


def test_without_records_the_page_says_so():
    assert all(text.startswith("Not measured") for text in report_enlarge.blocks({}).values())
