"""What a fit is compared with: errors, gradients and what a survey is told, for pixels seen through a sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesaic.mixture import start
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.fitting import FitConfig, Fitting
from moesaic.mixture.observed import SOFT, Pixels, Sampled, variation_slope
from moesaic.mixture.sampling import resize

WIDTH, HEIGHT = 20, 16


@pytest.fixture
def canvas(photo):
    return np.ascontiguousarray(photo[:HEIGHT, :WIDTH].transpose(2, 0, 1))


@pytest.fixture
def kernels(canvas):
    return start.begin(canvas, 24, 0, np.random.default_rng(0))


def listed(packed):
    return cover(packed.centres, packed.geometry, WIDTH, HEIGHT, exact_margin(len(packed.centres)), 1)


def drawn(packed):
    return cpu.forward(packed, listed(packed), 1)[0]


def variation(picture):
    right = np.diff(picture, axis=2, append=picture[:, :, -1:])
    down = np.diff(picture, axis=1, append=picture[:, -1:])
    return np.sqrt((right**2 + down**2).sum(axis=0) + SOFT**2).sum()


@pytest.mark.parametrize("weight", [0.0, 0.05])
@pytest.mark.parametrize("kernel", ["area", "bicubic"])
def test_the_gradient_is_that_of_the_loss(canvas, kernels, kernel, weight):
    small = resize(kernel, (WIDTH, HEIGHT), (10, 8))
    observed = Sampled.through(small, small(canvas[:, ::-1]), weight)  # another picture than the kernels began with

    def loss(packed):
        picture = drawn(packed).astype(np.float64)
        return ((small(picture) - observed.seen).astype(np.float64) ** 2).sum() + weight * variation(picture)

    error, slope = observed.error(kernels, listed(kernels), 1)
    missed = small(drawn(kernels)) - observed.seen
    assert error == pytest.approx(float(np.mean(missed**2)), rel=1e-5)
    random = np.random.default_rng(1)
    along = random.normal(size=kernels.experts.shape).astype(np.float32)
    step = 1e-2
    ahead, behind = (replace(kernels, experts=kernels.experts + sign * step * along) for sign in (1, -1))
    assert (slope[:, 6:] * along).sum() == pytest.approx((loss(ahead) - loss(behind)) / (2 * step), rel=1e-2)
    along = random.normal(size=kernels.centres.shape)
    ahead, behind = (replace(kernels, centres=kernels.centres + sign * step * along) for sign in (1, -1))
    assert (slope[:, :2] * along).sum() == pytest.approx((loss(ahead) - loss(behind)) / (2 * step), rel=2e-2)


def test_the_slope_of_the_variation_of_an_edge_pulls_its_sides_together():
    edge = np.zeros((1, 4, 6), np.float32)
    edge[:, :, 3:] = 1.0
    slope = variation_slope(edge)
    assert (slope[0, :, 2] < -0.99).all()
    assert (slope[0, :, 3] > 0.99).all()
    assert not slope[0, :, [0, 1, 4, 5]].any()


def test_what_is_wanted_explains_the_pixels_better(canvas, kernels):
    small = resize("area", (WIDTH, HEIGHT), (10, 8))
    observed = Sampled.through(small, small(canvas))
    wanted = observed.wanted(kernels, listed(kernels), 1)
    np.testing.assert_allclose(small(wanted), observed.seen, atol=1e-5)  # exact where no two sums share a pixel
    assert np.abs(small(drawn(kernels)) - observed.seen).max() > 0.02


def test_of_pixels_of_its_own_the_target_is_wanted(canvas, kernels):
    observed = Pixels(canvas)
    assert observed.wanted(kernels, listed(kernels), 1) is canvas
    error, _ = observed.error(kernels, listed(kernels), 1)
    assert error == pytest.approx(float(np.mean((drawn(kernels) - canvas) ** 2)), rel=1e-5)


def test_a_fit_through_a_sampling_meets_the_pixels_seen(canvas):
    small = resize("bicubic", (WIDTH, HEIGHT), (10, 8))
    seen = small(canvas)
    guide = resize("lanczos", (10, 8), (WIDTH, HEIGHT))(seen)
    found = Fitting(guide, 0, 0, 1, None, FitConfig(), Sampled.through(small, seen))
    found.fit(60, steps=150, seconds=None)
    assert float(np.mean((small(drawn(found.packed)) - seen) ** 2)) < 1e-4
    assert len(found.packed.centres) == 60
