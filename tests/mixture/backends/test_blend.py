from __future__ import annotations

import numpy as np
import pytest

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover, exact_margin

SIZE = 40  # px; two whole tiles and a half


def slanted(sharp, long, angle, kernels=30, prior=0.0):
    """Kernels of standard deviations sharp and long (px), all turned alike, over a few that cover the canvas."""
    random = np.random.default_rng(round(1000 * sharp + 10 * long + angle))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[c, -s], [s, c]])
    lower = np.linalg.cholesky(turn @ np.diag([sharp**-2.0, long**-2.0]) @ turn.T)
    factors = np.tile([lower[0, 0], lower[1, 0], lower[1, 1]], (kernels, 1))
    factors[:3] = [0.05, 0.01, 0.05]
    priors = random.normal(0, 1, kernels) + prior
    priors[:3] = 0.0
    geometry = np.concatenate([factors, priors[:, None]], axis=1).astype(np.float32)
    centres = random.uniform(-2, SIZE + 2, (kernels, 2))
    return cpu.Packed(centres, geometry, random.uniform(0, 1, (kernels, 3)).astype(np.float32), 3, 0)


def dense(packed, slope):
    """The picture, and the gradient of sum(slope * picture), in float64 over all kernels and pixels."""
    y, x = (grid[..., None] + 0.5 for grid in np.mgrid[:SIZE, :SIZE])
    f0, f1, f2, prior = packed.geometry.astype(np.float64).T
    dx, dy = x - packed.centres[:, 0], y - packed.centres[:, 1]
    u, v = f0 * dx + f1 * dy, f2 * dy
    logits = prior - 0.5 * (u * u + v * v)
    gates = np.exp(logits - logits.max(-1, keepdims=True))
    gates /= gates.sum(-1, keepdims=True)  # (H, W, N)
    colours = packed.experts.astype(np.float64)
    picture = np.einsum("hwn,nc->chw", gates, colours)
    worth = np.einsum("chw,nc->hwn", slope, colours) - np.einsum("chw,chw->hw", slope, picture)[..., None]
    d = gates * worth
    by_logit = [f0 * u, f1 * u + f2 * v, -u * dx, -u * dy, -v * dy, np.ones_like(u)]
    by_geometry = [np.einsum("hwn,hwn->n", d, part) for part in by_logit]
    return picture, np.concatenate([np.stack(by_geometry, 1), np.einsum("hwn,chw->nc", gates, slope)], axis=1)


@pytest.mark.parametrize("angle", [0, 3, 30, 45, 80, 90, 135])
@pytest.mark.parametrize(
    ("sharp", "long"), [(0.05, 3.0), (0.2, 6.0), (0.3, 0.3), (0.6, 20.0), (2.0, 9.0), (1.0, 100.0)]
)
@pytest.mark.parametrize("prior", [0.0, 30.0])
def test_weights_that_rise_and_fall_along_a_column(sharp, long, angle, prior):
    """Thin kernels cross rows from far below the smallest float to their peak and back."""
    packed = slanted(sharp, long, angle, prior=prior)
    listed = cover(packed.centres, packed.geometry, SIZE, SIZE, exact_margin(len(packed.centres)), 1)
    slope = np.random.default_rng(0).normal(size=(3, SIZE, SIZE)).astype(np.float32)
    picture, gradient = dense(packed, slope.astype(np.float64))
    drawn, sums = cpu.forward(packed, listed, 1)
    assert np.abs(drawn - picture).max() < 1e-4
    found = cpu.backward(packed, listed, drawn, sums, slope, 1)
    for columns in (slice(0, 2), slice(2, 5), slice(5, 6), slice(6, 9)):
        error = np.linalg.norm(found[:, columns] - gradient[:, columns])
        assert error < 1e-3 * np.linalg.norm(gradient[:, columns])
    target = picture.astype(np.float32) - slope / 2
    errors, together = cpu.squared_error(packed, listed, target, 1)
    np.testing.assert_allclose(errors.sum(), (slope.astype(np.float64) ** 2).sum() / 4, rtol=1e-4)
    np.testing.assert_allclose(together, found, rtol=2e-3, atol=2e-3 * np.abs(found).max())


def test_small_gradients_keep_their_digits():
    packed = slanted(1.0, 4.0, 20.0)
    listed = cover(packed.centres, packed.geometry, SIZE, SIZE, 12.0, 1)
    slope = np.random.default_rng(1).normal(size=(3, SIZE, SIZE)).astype(np.float32)
    drawn, sums = cpu.forward(packed, listed, 1)
    whole = cpu.backward(packed, listed, drawn, sums, slope, 1)
    small = cpu.backward(packed, listed, drawn, sums, slope * np.float32(2.0**-50), 1)
    np.testing.assert_allclose(small * 2.0**50, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


def test_arrays_need_not_be_contiguous():
    packed = slanted(1.0, 4.0, 20.0)
    listed = cover(packed.centres, packed.geometry, SIZE, SIZE, 12.0, 1)
    slope = np.random.default_rng(1).normal(size=(SIZE, SIZE, 3)).astype(np.float32).transpose(2, 0, 1)
    drawn, sums = cpu.forward(packed, listed, 1)
    found = cpu.backward(packed, listed, drawn, sums, slope, 1)
    assert np.array_equal(found, cpu.backward(packed, listed, drawn, sums, slope.copy(), 1))
    errors, gradient = cpu.squared_error(packed, listed, slope, 1)
    again = cpu.squared_error(packed, listed, slope.copy(), 1)
    assert np.array_equal(errors, again[0])
    assert np.array_equal(gradient, again[1])
