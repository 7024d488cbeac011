from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.metrics import psnr
from moesaic.mixture import growth, reference
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.survey import RIDGE
from moesaic.mixture.colours import pack, solve_colours, unpack
from moesaic.mixture.growth import Survey


def case(scatter, kernels=12, channels=3, order=0, seed=0, sigmas=(6.0, 12.0)):
    """A mixture of overlapping kernels, a target, and the survey of one against the other."""
    mixture = scatter(kernels, 40, 30, channels=channels, order=order, seed=seed, sigmas=sigmas, prior=0.3)
    random = torch.Generator().manual_seed(seed + 100)
    target = torch.rand(channels, 30, 40, generator=random, dtype=torch.float64).float()
    packed = pack(mixture.to(dtype=torch.float32))
    listed = cover(packed.centres, packed.geometry, 40, 30, exact_margin(kernels), 1)
    return mixture, target.double(), packed, growth.survey(packed, listed, target.numpy(), 2)


def squared_error(mixture, target):
    return float((reference.render(mixture) - target).square().sum())


def gates_and_offsets(mixture):
    points = reference.pixel_points((40, 30), (0, 0, 40, 30))
    gates = reference.gates(mixture, points)
    dx, dy = (points[:, None] - mixture.centres).unbind(-1)
    f0, f1, f2 = mixture.factors.T
    return gates, torch.stack([f0 * dx + f1 * dy, f2 * dy], dim=-1)


class TestSurvey:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_cost_equals_drawing_without_the_kernel(self, scatter, channels):
        mixture, target, _, found = case(scatter, channels=channels)
        gates, _ = gates_and_offsets(mixture)
        assert float(gates.max()) < 0.99  # beyond which the cost is bounded on purpose
        before = squared_error(mixture, target)
        others = [[k for k in range(12) if k != j] for j in range(12)]
        expected = np.array([squared_error(mixture[rest], target) - before for rest in others])
        np.testing.assert_allclose(found.cost, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    def test_cost_of_kernels_that_own_their_pixels(self, scatter):
        mixture = scatter(2, 40, 30, sigmas=(8.0, 8.001), prior=0.0)
        mixture.centres[:] = torch.tensor([[8.0, 15.0], [32.0, 15.0]])
        target = reference.render(mixture)
        packed = pack(mixture.to(dtype=torch.float32))
        listed = cover(packed.centres, packed.geometry, 40, 30, exact_margin(2), 1)
        found = growth.survey(packed, listed, target.float().numpy(), 1)
        gates, _ = gates_and_offsets(mixture)
        assert 0.999 < float(gates.max()) < 0.9999
        expected = [squared_error(mixture[[other]], target) for other in (1, 0)]
        np.testing.assert_allclose(found.cost, expected, rtol=0.05)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_gain_equals_least_squares(self, scatter, channels):
        mixture, target, _, found = case(scatter, channels=channels)
        gates, offsets = gates_and_offsets(mixture)
        residual = (target - reference.render(mixture)).flatten(1)
        for j in range(12):
            basis = gates[:, j, None] * offsets[:, j]  # (pixels, 2)
            normal = basis.T @ basis + RIDGE * torch.eye(2)
            sides = basis.T @ residual.T  # (2, C)
            lower = torch.linalg.cholesky(normal)
            white = torch.linalg.solve_triangular(lower, sides, upper=False)
            best = float(torch.linalg.eigvalsh(white @ white.T)[-1])
            assert found.gain[j] == pytest.approx(best, rel=1e-3, abs=1e-4)
            axis = torch.tensor(found.axis[j])
            assert float(axis.norm()) == pytest.approx(1.0)
            along = torch.cat([basis @ axis, torch.tensor([RIDGE**0.5])])
            wanted = torch.cat([residual.T, torch.zeros(1, channels)])
            fitted = torch.linalg.lstsq(along[:, None], wanted).solution[0]
            np.testing.assert_allclose(found.difference[j], fitted, rtol=1e-3, atol=1e-4)
            removed = float(wanted.square().sum() - (wanted - along[:, None] * fitted).square().sum())
            assert found.gain[j] == pytest.approx(removed, rel=1e-3, abs=1e-4)

    def test_threads_do_not_change_a_byte(self, scatter):
        _, target, packed, found = case(scatter)
        listed = cover(packed.centres, packed.geometry, 40, 30, exact_margin(12), 3)
        again = growth.survey(packed, listed, target.float().numpy(), 5)
        for name in ("cost", "gain", "axis", "difference"):
            assert np.array_equal(getattr(again, name), getattr(found, name))

    def test_a_perfect_picture_promises_no_gain(self, scatter):
        mixture = scatter(12, 40, 30, sigmas=(3.0, 7.0))
        packed = pack(mixture.to(dtype=torch.float32))
        listed = cover(packed.centres, packed.geometry, 40, 30, exact_margin(12), 1)
        found = growth.survey(packed, listed, reference.render(mixture).float().numpy(), 1)
        assert found.gain.max() < 1e-6
        assert found.cost.min() > 0
        assert all(np.all(np.isfinite(a)) for a in (found.cost, found.gain, found.axis, found.difference))


def invented(cost, gain, channels=3):
    n = len(cost)
    axis = np.tile([1.0, 0.0], (n, 1))
    return Survey(np.asarray(cost, float), np.asarray(gain, float), axis, np.zeros((n, channels)))


class TestMoves:
    def test_takes_the_least_useful_and_splits_the_neediest(self):
        parents, removed = growth.moves(invented([5, 1, 9, 2, 7], [1, 0, 30, 0, 20]), 0.4, 1.0)
        assert parents.tolist() == [2, 4]
        assert removed.tolist() == [1, 3]

    def test_asks_for_a_gain_worth_the_cost(self):
        parents, removed = growth.moves(invented([5, 1, 9, 2, 7], [1, 0, 30, 0, 1.5]), 0.4, 1.0)
        assert (parents.tolist(), removed.tolist()) == ([2], [1])
        assert growth.moves(invented([5, 5], [1, 1]), 0.5, 1.0)[0].size == 0

    @pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
    def test_never_puts_a_kernel_on_both_sides(self, share):
        random = np.random.default_rng(0)
        for _ in range(20):
            found = invented(random.normal(size=30), random.uniform(size=30))
            parents, removed = growth.moves(found, share, 0.1)
            assert len(parents) == len(removed) <= share * 30
            assert len(set(parents) | set(removed)) == 2 * len(parents)

    def test_kernels_outside_the_choice_take_no_part(self):
        among = np.array([True, False, True, True, True, False])
        parents, removed = growth.moves(invented([5, 0, 9, 2, 7, 0], [1, 99, 30, 0, 20, 99]), 1.0, 0.1, among)
        assert set(parents) | set(removed) <= {0, 2, 3, 4}
        assert set(parents).isdisjoint(removed)
        assert len(parents) == 2


def copies(packed):
    return replace(
        packed, centres=packed.centres.copy(), geometry=packed.geometry.copy(), experts=packed.experts.copy()
    )


class TestSplit:
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_leaves_the_picture_nearly_as_it_was(self, scatter, order, seed):
        _, _, packed, found = case(scatter, kernels=20, order=order, seed=seed)
        before = unpack(packed, 40, 30)
        parents = np.argsort(-found.gain)[:6]
        still = replace(found, difference=np.zeros_like(found.difference))
        larger = growth.grown(copies(packed), 6, still)
        assert len(larger.centres) == 26
        after = reference.render(unpack(larger, 40, 30).to(dtype=torch.float64))
        assert psnr(after, reference.render(before.to(dtype=torch.float64))) > 35.0
        assert set(np.flatnonzero(np.any(larger.centres[:20] != packed.centres, axis=1))) == set(parents)

    def test_lowers_the_error_when_colours_may_differ(self, scatter):
        target = torch.linspace(0.2, 0.8, 40, dtype=torch.float64).expand(3, 30, 40).contiguous()
        mixture = solve_colours(case(scatter)[0], target)
        packed = pack(mixture.to(dtype=torch.float32))
        listed = cover(packed.centres, packed.geometry, 40, 30, exact_margin(12), 1)
        found = growth.survey(packed, listed, target.float().numpy(), 1)
        after = unpack(growth.grown(packed, 1, found), 40, 30).to(dtype=torch.float64)
        assert squared_error(after, target) < squared_error(mixture, target) - 0.3 * found.gain.max()

    def test_halves_stand_on_both_sides_along_the_axis(self, scatter):
        _, _, packed, found = case(scatter)
        moved = copies(packed)
        growth.split(moved, np.array([4]), np.array([7]), found)
        middle = (moved.centres[4] + moved.centres[7]) / 2
        np.testing.assert_allclose(middle, packed.centres[4], atol=1e-9)
        f0, f1, f2, _ = packed.geometry[4].astype(float)
        d = moved.centres[7] - packed.centres[4]
        np.testing.assert_allclose([f0 * d[0] + f1 * d[1], f2 * d[1]], growth.APART * found.axis[4], atol=1e-6)
        assert np.array_equal(moved.geometry[4], moved.geometry[7])
        others = [k for k in range(12) if k not in (4, 7)]
        assert np.array_equal(moved.geometry[others], packed.geometry[others])
        assert np.abs(moved.experts[7] - moved.experts[4]).max() <= 2 * growth.LEAP + 1e-6


class TestCounts:
    @pytest.mark.parametrize(("more", "expected"), [(0, 12), (5, 17), (12, 24), (100, 24)])
    def test_grown(self, scatter, more, expected):
        _, _, packed, found = case(scatter)
        before = copies(packed)
        assert len(growth.grown(packed, more, found).centres) == expected
        assert np.array_equal(packed.centres, before.centres)
        assert np.array_equal(packed.geometry, before.geometry)

    @pytest.mark.parametrize(("fewer", "expected"), [(0, 12), (5, 7), (11, 1), (100, 1)])
    def test_pruned(self, scatter, fewer, expected):
        _, _, packed, found = case(scatter)
        fewer_kernels = growth.pruned(packed, fewer, found)
        assert len(fewer_kernels.centres) == len(fewer_kernels.geometry) == len(fewer_kernels.experts) == expected
        dearest = np.sort(np.argsort(found.cost)[-expected:])
        assert np.array_equal(fewer_kernels.centres, packed.centres[dearest])
