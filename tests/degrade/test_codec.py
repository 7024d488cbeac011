"""JPEG is that of other programs within a little, and both ways back keep what they must."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from moesaic.degrade import codec, filters
from moesaic.degrade.bases import dct_basis, jpeg_tables, resize_taps


def psnr(a, b) -> float:
    return -10 * np.log10(np.mean(np.square(a - b)))


def photograph() -> np.ndarray:
    """Smooth shapes, edges and a little texture (120, 152, 3)."""
    y, x = np.mgrid[:120, :152] / 40.0
    planes = [
        np.sin(x * (c + 1) + y) + np.sign(np.sin(3 * x - 2 * y)) * 0.4 + 0.2 * np.sin(9 * x * y) for c in range(3)
    ]
    stacked = np.stack(planes, 2)
    return (255 * (stacked - stacked.min()) / np.ptp(stacked)).astype(np.uint8)


@pytest.mark.parametrize("quality", [10, 30, 60, 90])
@pytest.mark.parametrize("halved", [True, False])
def test_jpeg_is_as_far_from_the_picture_as_that_of_pillow(quality, halved):
    pixels = photograph()
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=quality, subsampling=2 if halved else 0)
    theirs = np.asarray(Image.open(held)) / 255
    ours = codec.jpeg(pixels / 255.0, quality, halved=halved)
    assert abs(psnr(ours, pixels / 255) - psnr(theirs, pixels / 255)) < 0.3
    assert psnr(ours, theirs) > psnr(ours, pixels / 255) + 6  # nearer to each other than to the picture


def test_the_transform_keeps_lengths():
    np.testing.assert_allclose(dct_basis() @ dct_basis().T, np.eye(64), atol=1e-12)


def test_tables_are_those_of_libjpeg():
    held = io.BytesIO()
    for quality in (5, 37, 50, 75, 98):
        held.seek(0)
        Image.new("RGB", (8, 8)).save(held, "JPEG", quality=quality)
        tables = Image.open(held).quantization
        for ours, theirs in zip(jpeg_tables(quality), tables.values(), strict=True):
            assert ours.tolist() == list(theirs)


@pytest.mark.parametrize("quality", [1, 10, 60])
def test_a_grey_constant_stays_constant_and_grey(quality):
    out = codec.jpeg(np.full((19, 23, 3), 100 / 255), quality)
    assert np.ptp(out) == 0
    assert abs(out[0, 0, 0] - 100 / 255) <= jpeg_tables(quality)[0, 0] / 16 / 255 + 1 / 255


def test_the_finest_jpeg_is_nearly_lossless_and_on_whole_levels():
    pixels = photograph()
    out = codec.jpeg(pixels / 255.0, 100, halved=False) * 255
    assert np.abs(out - pixels).max() <= 4
    assert np.abs(out - pixels).mean() < 0.6
    np.testing.assert_allclose(out, np.round(out), atol=1e-9)


SIZES = [(60, 76), (40, 38), (119, 151), (240, 170), (1, 1)]


# Of a box that ends within a sample Pillow takes a share; here it is taken or not, so whole boxes are compared.
@pytest.mark.parametrize(
    ("method", "size"), [*((m, s) for m in ("bicubic", "bilinear") for s in SIZES), ("area", SIZES[0])]
)
def test_resizing_is_that_of_pillow(method, size):
    plane = photograph()[..., 0].astype(np.float32)
    names = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}
    theirs = np.asarray(Image.fromarray(plane).resize(size[::-1], names[method]))
    ours = filters.resize(plane[..., None].astype(np.float64), *size, method)[..., 0]
    np.testing.assert_allclose(ours, theirs, atol=1e-2)


@pytest.mark.parametrize("before", [1, 2, 7, 40])
@pytest.mark.parametrize("after", [1, 3, 11, 80])
@pytest.mark.parametrize("method", ["bicubic", "bilinear", "area"])
def test_a_constant_survives_every_size(before, after, method):
    _, weights = resize_taps(before, after, method)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)


def test_no_change_of_size_is_no_change():
    light = photograph() / 255.0
    np.testing.assert_allclose(codec.shrink_and_enlarge(light, 1.0), light, atol=1e-12)
