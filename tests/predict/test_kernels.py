"""Kernels and their changes: each number does what its name says, new ones come where they are missing, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.mixture import start
from moesaic.predict.kernels import (
    CHANGE,
    CHANNELS,
    SHARPEST,
    SIX,
    WIDEST,
    Kernels,
    begun,
    detached,
    grown,
    moved,
)
from moesaic.predict.stages import compared
from moesaic.predict.teacher import between, optimised
from tests.mixture.conftest import build

PRIOR, SIZE, ASPECT, SHEAR, DOWN, ACROSS = range(SIX)
COLOUR = slice(SIX, CHANGE)
PARTS = ("centres", "factors", "log_priors", "colours")


def scattered(count=12, width=50, height=33, seed=0, dtype=torch.float64, **options):
    """Random kernels whose last change was none."""
    mixture = build(count, width, height, seed=seed, **options).to(dtype=dtype)
    return Kernels(**{name: getattr(mixture, name) for name in PARTS}, change=torch.zeros(count, CHANGE, dtype=dtype))


def drawn(seed, count=12, scale=0.3, dtype=torch.float64):
    return scale * torch.randn(count, CHANGE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alone(which, value, count=12):
    """A change of one number, for all kernels alike."""
    change = torch.zeros(count, CHANGE, dtype=torch.float64)
    change[:, which] = value
    return change


def waves(height=33, width=50):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([0.5 + 0.4 * np.sin(columns / (4 + c) + rows / (9 - 2 * c)) for c in range(3)]).astype(np.float32)


def same(a, b, but=()):
    for name in PARTS:
        if name not in but:
            assert torch.equal(getattr(a, name), getattr(b, name)), name


class TestMoved:
    def test_by_nothing_is_the_same(self):
        before = scattered()
        after = moved(before, torch.zeros(12, CHANGE, dtype=torch.float64))
        same(after, before, but=["factors"])
        torch.testing.assert_close(after.factors, before.factors, rtol=1e-15, atol=0)

    def test_by_nothing_is_nearly_the_same_in_single_precision(self):
        before = scattered(dtype=torch.float32)
        after = moved(before, torch.zeros(12, CHANGE))
        same(after, before, but=["factors"])
        assert torch.equal(after.factors[:, [0, 2]], before.factors[:, [0, 2]])
        torch.testing.assert_close(after.factors, before.factors, rtol=1e-6, atol=0)

    def test_remembers_the_change(self):
        change = drawn(1)
        assert moved(scattered(), change).change is change

    def test_priors_and_colours_are_added(self):
        before, change = scattered(), drawn(1)
        change[:, SIZE : ACROSS + 1] = 0
        after = moved(before, change)
        same(after, before, but=["factors", "log_priors", "colours"])
        torch.testing.assert_close(after.log_priors - before.log_priors, change[:, PRIOR])
        torch.testing.assert_close(after.colours - before.colours, change[:, COLOUR])

    @pytest.mark.parametrize("size", [-0.4, 0.7])
    def test_size_scales_the_whole_factor(self, size):
        before = scattered()
        after = moved(before, alone(SIZE, size))
        same(after, before, but=["factors"])
        torch.testing.assert_close(after.factors, before.factors * np.exp(size))

    @pytest.mark.parametrize("aspect", [-0.4, 0.7])
    def test_aspect_changes_the_ratio_and_leaves_the_area(self, aspect):
        before = scattered()
        after = moved(before, alone(ASPECT, aspect))
        same(after, before, but=["factors"])
        (a0, a1, a2), (b0, b1, b2) = before.factors.T, after.factors.T
        torch.testing.assert_close(b0 * b2, a0 * a2)
        torch.testing.assert_close(b0 / b2, a0 / a2 * np.exp(aspect))
        torch.testing.assert_close(b1 / b0, a1 / a0)  # the direction along which u stays

    @pytest.mark.parametrize("shear", [-0.4, 0.7])
    def test_shear_leans_the_kernel_and_leaves_the_area(self, shear):
        before = scattered()
        after = moved(before, alone(SHEAR, shear))
        same(after, before, but=["factors"])
        assert torch.equal(after.factors[:, [0, 2]], before.factors[:, [0, 2]])
        torch.testing.assert_close(after.factors[:, 1] - before.factors[:, 1], shear * before.factors[:, 2])

    @pytest.mark.parametrize(("down", "across"), [(0.5, 0.0), (0.0, -0.3), (0.2, 0.9)])
    def test_offsets_count_standard_deviations_of_the_kernel(self, down, across):
        before = scattered()
        after = moved(before, alone(DOWN, down) + alone(ACROSS, across))
        same(after, before, but=["factors", "centres"])
        (dx, dy), (f0, f1, f2) = (after.centres - before.centres).T, before.factors.T
        torch.testing.assert_close(f0 * dx + f1 * dy, torch.full((12,), across, dtype=torch.float64))
        torch.testing.assert_close(f2 * dy, torch.full((12,), down, dtype=torch.float64))

    def test_factors_stay_within_what_a_render_takes(self):
        change = drawn(2, scale=20.0)
        after = moved(scattered(), change)
        diagonal = after.factors[:, [0, 2]]
        assert float(diagonal.max()) == SHARPEST
        assert float(diagonal.min()) == WIDEST
        assert bool((moved(scattered(), alone(SIZE, 30.0)).factors[:, [0, 2]] == SHARPEST).all())
        assert bool((moved(scattered(), alone(SIZE, -30.0)).factors[:, [0, 2]] == WIDEST).all())
        assert all(bool(getattr(after, name).isfinite().all()) for name in PARTS)

    def test_gradients_reach_kernels_and_changes(self):
        before = scattered(4)
        leaves = [getattr(before, name).clone().requires_grad_() for name in PARTS]
        change = drawn(1, 4).requires_grad_()

        def parts(change, *given):
            after = moved(replace(before, **dict(zip(PARTS, given, strict=True))), change)
            return tuple(getattr(after, name) for name in PARTS)

        assert torch.autograd.gradcheck(parts, (change, *leaves))
        small = replace(before, **dict(zip(PARTS, leaves, strict=True)))
        cut = detached(moved(small, change))
        assert not any(getattr(cut, name).requires_grad for name in (*PARTS, "change"))

    def test_kernels_do_not_notice_each_other(self):
        before, change, order = scattered(), drawn(3), torch.randperm(12, generator=torch.Generator().manual_seed(0))
        whole = moved(before, change)
        part = moved(replace(before, **{name: getattr(before, name)[order] for name in PARTS}), change[order])
        assert all(torch.equal(getattr(whole, name)[order], getattr(part, name)) for name in PARTS)


class TestBetween:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_the_way_from_one_to_the_other(self, seed):
        a, b = scattered(seed=seed), scattered(seed=seed + 100)
        found = moved(a, between(a, b))
        for name in PARTS:
            torch.testing.assert_close(getattr(found, name), getattr(b, name), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("seed", range(5))
    def test_finds_the_change_again(self, seed):
        a, change = scattered(seed=seed), drawn(seed)
        torch.testing.assert_close(between(a, moved(a, change)), change, rtol=1e-8, atol=1e-10)

    def test_of_the_same_is_nothing(self):
        a = scattered()
        assert not between(a, a).any()

    def test_has_gradients(self):
        a, change = scattered(4), drawn(2, 4).requires_grad_()
        assert torch.autograd.gradcheck(lambda c: between(moved(a, c), a), (change,))


class TestOptimised:
    def test_brings_the_same_kernels_closer_and_leaves_those_given(self):
        picture = waves()
        before = begun(picture, 40, np.random.default_rng(0))
        kept = Kernels(**{name: getattr(before, name).clone() for name in (*PARTS, "change")})
        after = optimised(before, picture, 20)
        same(before, kept)
        assert len(after) == 40
        assert compared(after, picture, 1).error < 0.5 * compared(before, picture, 1).error
        assert float((after.centres - before.centres).norm(dim=1).median()) < 4  # px: each is still where it was

    def test_has_no_gradients(self):
        picture = waves()
        before = begun(picture, 10, np.random.default_rng(0))
        before = moved(before, torch.zeros(10, CHANGE, requires_grad=True))
        after = optimised(before, picture, 3)
        assert not any(getattr(after, name).requires_grad for name in (*PARTS, "change"))
        assert between(before, after).requires_grad


class TestBegun:
    @pytest.mark.parametrize("count", [1, 40, 3000])
    @pytest.mark.parametrize("shape", [(33, 50), (1, 1), (1, 60), (60, 1)])
    def test_is_the_start_of_a_fit(self, shape, count):
        picture = np.random.default_rng(1).random((CHANNELS, *shape), dtype=np.float32)
        found = begun(picture, count, np.random.default_rng(5))
        expected = start.begin(picture, count, 0, np.random.default_rng(5))
        assert len(found) == count
        packed = found.packed()
        assert np.array_equal(packed.centres, expected.centres.astype(np.float32))
        assert np.array_equal(packed.geometry, expected.geometry)
        assert np.array_equal(packed.experts, expected.experts)
        assert (packed.channels, packed.order) == (CHANNELS, 0)
        assert found.change.shape == (count, CHANGE)
        assert not found.change.any()

    def test_arrays_are_what_the_loops_take(self):
        picture = waves()
        kernels = begun(picture, 30, np.random.default_rng(0))
        packed = moved(kernels, torch.zeros(30, CHANGE, requires_grad=True)).packed()
        assert packed.centres.dtype == np.float64
        assert packed.geometry.dtype == packed.experts.dtype == np.float32
        assert all(a.flags.c_contiguous for a in (packed.centres, packed.geometry, packed.experts))


class TestGrown:
    def more(self, left, count=100, seed=0, **given):
        picture = waves(*left.shape[1:])
        before = given.get("before") or begun(picture, 30, np.random.default_rng(1))
        return before, grown(before, picture, left.astype(np.float32), count, np.random.default_rng(seed))

    @pytest.mark.parametrize("count", [1, 7, 500])
    def test_adds_as_many_and_keeps_those_there(self, count):
        picture = waves()
        kernels = begun(picture, 30, np.random.default_rng(1))
        before, after = self.more(0.1 * picture, count, before=moved(kernels, drawn(1, 30, dtype=torch.float32)))
        assert len(after) == 30 + count
        assert all(torch.equal(getattr(after, name)[:30], getattr(before, name)) for name in (*PARTS, "change"))
        assert not after.change[30:].any()
        assert not after.log_priors[30:].any()
        assert not after.factors[30:, 1].any()

    def test_new_ones_come_where_the_most_is_missing(self):
        left = np.zeros((3, 33, 50))
        left[1, :12, 40:] = -0.3
        _, after = self.more(left, 200)
        x, y = after.centres[30:].T
        there = (x > 38) & (y < 14)
        assert float(there.float().mean()) > 0.85
        assert int((x < 30).sum()) >= 4  # a twentieth is spread evenly
        sizes = 1 / after.factors[30:, 0]
        assert float(sizes[there].median()) < 0.4 * float(sizes[~there].median())

    def test_new_ones_take_their_colour_from_the_picture(self):
        picture = waves()
        _, after = self.more(0.2 * picture)
        columns, rows = after.centres[30:].int().T
        assert np.array_equal(after.colours[30:].numpy(), picture[:, rows, columns].T)

    def test_where_nothing_is_missing_they_are_spread_evenly(self):
        _, after = self.more(np.zeros((3, 32, 32)), 64)
        counts, *_ = np.histogram2d(*after.centres[30:].T.numpy(), bins=4, range=[[0, 32], [0, 32]])
        assert counts.min() >= 3
        assert counts.max() <= 5

    def test_the_seed_decides(self):
        left = waves() - 0.5
        one, same_seed, other = (self.more(left, seed=seed)[1].centres for seed in (1, 1, 2))
        assert torch.equal(one, same_seed)
        assert not torch.equal(one, other)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
    def test_thin_pictures(self, shape):
        _, after = self.more(np.random.default_rng(0).normal(size=(3, *shape)), 20)
        assert len(after) == 50
        assert all(bool(getattr(after, name).isfinite().all()) for name in PARTS)

    def test_gradients_of_those_there_stay(self):
        picture = waves()
        change = torch.zeros(30, CHANGE, requires_grad=True)
        _, after = self.more(picture, 5, before=moved(begun(picture, 30, np.random.default_rng(1)), change))
        sum(getattr(after, name).square().sum() for name in PARTS).backward()
        assert change.grad is not None
        assert bool(change.grad.isfinite().all())
