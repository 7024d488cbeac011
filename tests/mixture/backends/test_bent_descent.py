"""A step by curvature: what it solves, how momentum and pace follow, and what it never leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.mixture.backends import bent_descent, cpu, curved
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.colours import pack
from moesaic.predict.kernels import SIX, Kernels, moved

FREE = {"sharpest": 1e3, "widest": 1e-6, "right": 1e6, "bottom": 1e6, "left": -1e6, "top": -1e6}
GAIT = {"rate": 0.5, "rate_colour": 0.4, "decay": 0.9, "up": 1.2, "down": 0.8, "longest": 0.1}


class Case:
    """Kernels beside a target, with blocks, and room for momentum."""

    def __init__(self, scatter, kernels=12, seed=0, damping=0.2, floor=3e-4):
        mixture = scatter(kernels, 37, 21, seed=seed)
        self.target = np.random.default_rng(seed).random((3, 21, 37), dtype=np.float32)
        self.packed = pack(mixture.to(dtype=torch.float32)).copy()
        self.listed = cover(self.packed.centres, self.packed.geometry, 37, 21, exact_margin(kernels), 1)
        self.bent = curved.bent(self.packed, self.listed, self.target, 1)
        self.slope, self.bends = self.bent.slope.copy(), self.bent.bends.copy()
        self.velocity, self.pace = np.zeros((kernels, 9), np.float32), np.ones(kernels, np.float32)
        self.damping, self.floor = damping, floor

    def factors(self, begin=0, end=None):
        found = np.full((len(self.pace), SIX, SIX), np.nan, np.float32)
        bent_descent.factor(begin, end or len(found), self.bends, self.damping, self.floor, found)
        return found

    def step(self, begin=0, end=None, **options):
        arrays = (self.packed.centres, self.packed.geometry, self.packed.experts, self.slope, self.bends)
        end = len(self.pace) if end is None else end
        rest = {**GAIT, **FREE, **options}
        bent_descent.step(begin, end, *arrays, self.factors(), self.velocity, self.pace, **rest)

    def newton(self):
        """The steps by definition, in float64."""
        blocks, slopes = curved.blocks(self.bends), curved.downhill(self.packed, self.slope).astype(float)
        for block, mass in zip(blocks, self.bends[:, -1], strict=True):
            block[np.diag_indices(SIX)] *= 1.0 + self.damping
            block[np.diag_indices(SIX)] += self.floor * (mass + bent_descent.FAINT)
        return -np.linalg.solve(blocks, slopes[..., None])[..., 0]

    def colours(self):
        return -0.5 * self.slope[:, SIX:] / (self.bends[:, -1:] + bent_descent.FAINT)

    def error(self):
        listed = cover(self.packed.centres, self.packed.geometry, 37, 21, exact_margin(len(self.pace)), 1)
        return float(cpu.squared_error(self.packed, listed, self.target, 1)[0].sum())


@pytest.fixture
def case(scatter):
    return Case(scatter)


def changed(packed, change):
    """What the network's own way to move kernels makes of a change."""
    shape = torch.from_numpy(packed.geometry.copy())
    before = Kernels(
        centres=torch.from_numpy(packed.centres.copy()),
        factors=shape[:, :3],
        log_priors=shape[:, 3],
        colours=torch.from_numpy(packed.experts.copy()),
        change=torch.zeros(len(shape), 9),
    )
    return moved(before, torch.from_numpy(change))


def test_blocks_are_factored_as_linear_algebra_does(case):
    found = np.tril(case.factors().astype(float))
    blocks = curved.blocks(case.bends)
    for block, factor, mass in zip(blocks, found, case.bends[:, -1], strict=True):
        block[np.diag_indices(SIX)] *= 1.0 + case.damping
        block[np.diag_indices(SIX)] += case.floor * (mass + bent_descent.FAINT)
        np.testing.assert_allclose(factor @ factor.T, block, rtol=1e-4, atol=1e-6 * np.abs(block).max())


def test_some_kernels_are_factored_alone(case):
    found = case.factors(3, 7)
    assert np.isfinite(found[3:7][:, *np.tril_indices(SIX)]).all()
    assert np.isnan(found[:3]).all()
    assert np.isnan(found[7:]).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_first_step_is_newtons(scatter, seed):
    case = Case(scatter, seed=seed)
    newton, colours = case.newton(), case.colours()
    longest = 1e4
    case.step(longest=longest)
    np.testing.assert_allclose(case.velocity[:, :SIX], 0.5 * newton, rtol=2e-3, atol=1e-4 * np.abs(newton).max())
    np.testing.assert_allclose(case.velocity[:, SIX:], np.clip(0.4 * colours, -0.1, 0.1), rtol=1e-4, atol=1e-7)


def test_kernels_move_as_those_of_a_network(case):
    before = case.packed.copy()
    case.step()
    wanted = changed(before, case.velocity)
    np.testing.assert_allclose(case.packed.centres, wanted.centres.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(case.packed.geometry[:, :3], wanted.factors.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.packed.geometry[:, 3], wanted.log_priors.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.packed.experts, wanted.colours.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_step_lowers_the_error(scatter, seed):
    case = Case(scatter, seed=seed)
    before = case.error()
    case.step(rate=0.2, rate_colour=0.2)
    assert case.error() < before


def test_momentum_adds_up_where_it_leads_downhill(case):
    newton = 0.5 * case.newton()
    case.velocity[:, :SIX] = 1e-3 * np.sign(newton) * (np.abs(newton) > 1e-6)
    slopes = curved.downhill(case.packed, case.slope)
    case.velocity[:, :SIX] = -1e-3 * np.sign(slopes)
    before = case.velocity[:, :SIX].copy()
    case.step(longest=1e4)
    np.testing.assert_allclose(case.velocity[:, :SIX], 0.9 * before + newton, rtol=2e-3, atol=1e-4)
    assert np.all(case.pace == 1.0)


def test_momentum_is_forgotten_where_it_leads_uphill(case):
    case.velocity[:, :SIX] = 1e-2 * np.sign(curved.downhill(case.packed, case.slope))
    newton = case.newton()
    case.step(longest=1e4)
    np.testing.assert_allclose(case.velocity[:, :SIX], 0.5 * 0.8 * newton, rtol=2e-3, atol=1e-4 * np.abs(newton).max())
    np.testing.assert_allclose(case.pace, 0.8)


def test_a_pace_has_bounds(case):
    case.velocity[:, :SIX] = 1e-2 * np.sign(curved.downhill(case.packed, case.slope))
    case.step(down=1e-6)
    np.testing.assert_allclose(case.pace, bent_descent.SLOWEST)
    case.velocity[:] = 0.0
    case.step(up=1e6)
    assert np.all(case.pace == 1.0)


def test_no_change_is_longer_than_allowed(case):
    case.slope *= 1e6
    before = case.packed.copy()
    case.step(longest=0.07)
    assert np.abs(case.velocity[:, :SIX]).max() <= 0.07
    assert np.abs(case.packed.experts - before.experts).max() <= bent_descent.BRIGHTEST + 1e-6
    assert np.abs(case.packed.geometry[:, 3] - before.geometry[:, 3]).max() <= 0.07 + 1e-6


def test_what_no_pixel_sees_stays(case):
    case.bends[2], case.slope[2] = 0.0, 0.0
    before = case.packed.copy()
    case.step()
    assert np.array_equal(case.packed.centres[2], before.centres[2])
    np.testing.assert_allclose(case.packed.geometry[2], before.geometry[2], rtol=1e-6)
    assert np.array_equal(case.packed.experts[2], before.experts[2])


def test_stays_within_bounds(case):
    bounds = {"sharpest": 0.5, "widest": 0.3, "right": 20.0, "bottom": 11.0, "left": 5.0, "top": 4.0}
    case.step(**bounds)
    assert np.all((case.packed.geometry[:, [0, 2]] >= 0.3 - 1e-6) & (case.packed.geometry[:, [0, 2]] <= 0.5 + 1e-6))
    assert np.all((case.packed.centres >= [5, 4]) & (case.packed.centres <= [20, 11]))


def test_moves_none_but_those_asked_for(scatter):
    whole, parts = Case(scatter), Case(scatter)
    whole.step()
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        parts.step(begin, end)
    for name in ("centres", "geometry", "experts"):
        assert np.array_equal(getattr(whole.packed, name), getattr(parts.packed, name))
    assert np.array_equal(whole.velocity, parts.velocity)
    assert np.array_equal(whole.pace, parts.pace)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_channels(scatter, channels):
    mixture = scatter(9, 20, 20, channels=channels)
    packed = pack(mixture.to(dtype=torch.float32)).copy()
    target = np.random.default_rng(1).random((channels, 20, 20), dtype=np.float32)
    listed = cover(packed.centres, packed.geometry, 20, 20, exact_margin(9), 1)
    bent = curved.bent(packed, listed, target, 1)
    factors = np.empty((9, SIX, SIX), np.float32)
    bent_descent.factor(0, 9, bent.bends, 0.2, 3e-4, factors)
    velocity, pace = np.zeros((9, SIX + channels), np.float32), np.ones(9, np.float32)
    arrays = (packed.centres, packed.geometry, packed.experts, bent.slope, bent.bends, factors, velocity, pace)
    bent_descent.step(0, 9, *arrays, **GAIT, **FREE)
    expected = -0.4 * 0.5 * bent.slope[:, 6:] / (bent.bends[:, -1:] + bent_descent.FAINT)
    np.testing.assert_allclose(velocity[:, SIX:], np.clip(expected, -0.1, 0.1), rtol=1e-4, atol=1e-7)
