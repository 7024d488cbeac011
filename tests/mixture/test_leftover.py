from __future__ import annotations

import numpy as np
import pytest

from moesaic.mixture.leftover import give_back, weigh_cosines

SIGMA = 0.1


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0, SIGMA, shape).astype(np.float32)


def stripes(height, width):
    wave = 0.5 + 0.3 * np.sin(np.arange(width) * 1.3) * np.ones((height, 1))
    return np.tile(wave, (3, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
class TestGiveBack:
    def test_noise_stays_out(self, channels):
        flat = np.full((channels, 64, 64), 0.5, np.float32)
        found = give_back(flat, flat + noise(flat.shape), SIGMA)
        assert float(np.mean((found - flat) ** 2)) < 0.02 * SIGMA**2

    def test_texture_comes_back(self, channels):
        true = np.tile(stripes(64, 64)[:1], (channels, 1, 1))
        flat = np.full_like(true, 0.5)
        found = give_back(flat, true + noise(true.shape), SIGMA)
        assert float(np.mean((found - true) ** 2)) < 0.4 * float(np.mean((flat - true) ** 2))

    def test_nothing_left(self, channels):
        flat = np.full((channels, 20, 30), 0.3, np.float32)
        assert give_back(flat, flat.copy(), SIGMA) == pytest.approx(flat)


class TestWeighCosines:
    def test_less_error_than_either(self):
        true = stripes(60, 80)
        pilot = 0.5 + 0.7 * (true - 0.5)  # a picture that lost contrast
        noisy = true + noise(true.shape)
        found = weigh_cosines(pilot, noisy, SIGMA)
        errors = [float(np.mean((x - true) ** 2)) for x in (found, pilot, noisy)]
        assert errors[0] < 0.7 * min(errors[1:])

    def test_flat_stays_flat(self):
        flat = np.full((3, 50, 50), 0.5, np.float32)
        found = weigh_cosines(flat, flat + noise(flat.shape), SIGMA)
        assert float(np.std(found)) < 0.1 * SIGMA

    def test_without_noise_nothing_changes(self):
        true = stripes(33, 47)
        assert weigh_cosines(true, true.copy(), 1e-6) == pytest.approx(true, abs=1e-4)

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (11, 40), (12, 13), (130, 29)])
    def test_sizes(self, size):
        true = np.random.default_rng(1).uniform(size=(3, *size)).astype(np.float32)
        found = weigh_cosines(true, true.copy(), 1e-6)
        assert found.shape == true.shape
        assert found == pytest.approx(true, abs=1e-4)
        assert np.isfinite(give_back(true, true + noise(true.shape), SIGMA)).all()
