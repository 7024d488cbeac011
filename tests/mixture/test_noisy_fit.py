from __future__ import annotations

import numpy as np
import pytest

from moesaic.mixture.fitting import FitConfig
from moesaic.mixture.noisy_fit import NoisyConfig, NoisyFit, begin_with
from moesaic.mixture.observed import Pixels


def new(picture, seed=0):
    return NoisyFit(picture, 0, seed, 1, None, FitConfig(), Pixels(picture))


@pytest.fixture(scope="module")
def halves():
    """A vertical edge in noise of sigma 25: two kernels would do."""
    picture = np.full((3, 48, 64), 0.25, np.float32)
    picture[:, :, 32:] = 0.75
    return picture, (picture + np.random.default_rng(0).normal(0, 25 / 255, picture.shape)).astype(np.float32)


def test_number_follows_the_picture(halves):
    true, noisy = halves
    fit = new(noisy)
    assert fit.settle(25.0, NoisyConfig())
    assert 2 <= len(fit.packed.centres) <= 24  # of the 192 that it began with
    error = fit.render() - true
    assert float(np.sqrt(np.mean(error**2))) < 0.15 * 25 / 255


def test_an_edge_stays_sharp(halves):
    _, noisy = halves
    fit = new(noisy)
    fit.settle(25.0, NoisyConfig())
    columns = fit.render().mean(axis=(0, 1))
    assert columns[30] < 0.35
    assert columns[33] > 0.65


def test_begins_with_more_where_noise_is_small():
    config = NoisyConfig()
    counts = [begin_with(10_000, sigma, config) for sigma in (1.0, 15.0, 20.0, 50.0, 200.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == round(10_000 / config.densest)
    assert counts[-1] == round(10_000 / config.sparsest)
    assert begin_with(1, 50.0, config) == 1


def test_can_be_broken_off(halves):
    asked = []
    fit = new(halves[1])
    assert not fit.settle(25.0, NoisyConfig(), go_on=lambda: asked.append(1) or len(asked) < 2)
    assert len(asked) == 2


def test_ends_with_the_experts_asked_for(halves):
    for experts in (1, 7, 300):
        fit = new(halves[1])
        assert fit.settle(25.0, NoisyConfig(), experts=experts)
        assert len(fit.packed.centres) == experts


def test_longest_is_kept(halves):
    config = NoisyConfig(longest=10, between=5, rest=4, still=0.0)
    fit, rounds = new(halves[1]), []
    fit.settle(25.0, config, go_on=lambda: rounds.append(1) or True)
    assert 2 <= len(rounds) <= 3
