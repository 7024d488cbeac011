"""Ellipses lie where a kernel has fallen by one standard deviation, and crops hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.explain.ellipses import colours_of, crop, drawn, outlines


def test_outlines_lie_at_one_deviation(make_mixture):
    mixture = make_mixture(7)
    corners = outlines(mixture)
    offsets = corners - mixture.centres.double().numpy()[:, None]
    f0, f1, f2 = mixture.factors.double().numpy().T[..., None]
    dx, dy = offsets[..., 0], offsets[..., 1]
    np.testing.assert_allclose((f0 * dx + f1 * dy) ** 2 + (f2 * dy) ** 2, 1.0, rtol=1e-5)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (4000, 12), (5, 900)])
def test_a_crop_holds_about_as_many_as_wanted(make_mixture, size):
    mixture = make_mixture(3000, width=size[0], height=size[1])
    left, top, right, bottom = crop(mixture, 100)
    assert 0 <= left < right <= size[0] + 1e-6
    assert 0 <= top < bottom <= size[1] + 1e-6
    x, y = mixture.centres.numpy().T
    count = ((x >= left) & (x < right) & (y >= top) & (y < bottom)).sum()
    assert 80 <= count <= 150


def test_few_kernels_need_no_crop(make_mixture):
    assert crop(make_mixture(100), 100) == (0.0, 0.0, 50.0, 37.0)


def test_drawing_counts_what_is_seen(make_mixture):
    mixture = make_mixture(30)
    white = np.full((74, 100, 3), 255, np.uint8)
    image, count = drawn(mixture, white, (0.0, 0.0, 50.0, 37.0))
    assert (image.size, count) == ((100, 74), 30)
    assert (np.asarray(image) < 200).any()
    empty, none = drawn(mixture, white, (900.0, 900.0, 950.0, 937.0))
    assert none == 0
    assert (np.asarray(empty) == 255).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colours_of_experts(make_mixture, channels):
    mixture = make_mixture(9, channels=channels)
    mixture.colours[0] = 5.0
    found = colours_of(mixture)
    assert found.shape == (9, 3)
    assert (found[0] == 1).all()
    if channels == 2:
        mixture.colours[1, 1] = 0.0  # through what is transparent, white is seen
        mixture.colours[1, 0] = 0.0
        assert (colours_of(mixture)[1] == 1).all()
