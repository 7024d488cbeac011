"""Resizing as weighted sums: against Pillow, against hand-made means, and against its own transpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moesaic.mixture.sampling import KERNELS, resize

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}
SIDES = st.integers(1, 23)


def noise(*shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("before", "after"), [((48, 36), (24, 12)), ((24, 18), (48, 54)), ((40, 30), (17, 22))])
def test_equals_pillow(kernel, before, after):
    if kernel == "area" and before == (40, 30):
        pytest.skip("Pillow's box takes whole samples, ours their exact overlap")
    if kernel == "area" and before[0] < after[0]:
        pytest.skip("an area is for making smaller")
    picture = noise(before[1], before[0])
    theirs = np.asarray(Image.fromarray(picture).resize(after, PILLOW[kernel]))
    assert np.abs(resize(kernel, before, after)(picture[None])[0] - theirs).max() < 2e-6


def test_an_area_is_the_mean_over_the_pixel():
    picture = noise(2, 6, 9)
    means = picture.reshape(2, 3, 2, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resize("area", (9, 6), (3, 3))(picture), means, atol=1e-6)


def test_an_area_takes_shares_of_the_pixels_at_its_border():
    row = np.array([[[1.0, 2.0, 4.0]]], np.float32)
    expected = [(1.0 + 0.5 * 2.0) / 1.5, (0.5 * 2.0 + 4.0) / 1.5]
    np.testing.assert_allclose(resize("area", (3, 1), (2, 1))(row)[0, 0], expected, atol=1e-6)


@given(kernel=st.sampled_from(KERNELS), before=st.tuples(SIDES, SIDES), after=st.tuples(SIDES, SIDES))
def test_any_sizes(kernel, before, after):
    there = resize(kernel, before, after)
    back = there.transposed()
    flat = there(np.full((1, before[1], before[0]), 0.25, np.float32))
    assert flat.shape == (1, after[1], after[0])
    np.testing.assert_allclose(flat, 0.25, atol=1e-5)
    x, y = noise(2, before[1], before[0]), noise(2, after[1], after[0])
    assert float((there(x) * y).sum()) == pytest.approx(float((x * back(y)).sum()), rel=1e-4, abs=1e-4)


def test_takes_arrays_of_any_layout_and_leaves_them_alone():
    picture = noise(12, 10, 3).transpose(2, 0, 1)
    picture.flags.writeable = False
    there = resize("bicubic", (10, 12), (5, 6))
    np.testing.assert_array_equal(there(picture), there(np.ascontiguousarray(picture)))
