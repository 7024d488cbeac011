"""Slopes and curvatures in one pass: those of the plain passes, those of the definition, and steps that hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.mixture import reference
from moesaic.mixture.backends import cpu, curved
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.layout import DEEP
from moesaic.mixture.backends.loops import depth
from moesaic.mixture.colours import pack
from moesaic.predict.kernels import CHANGE, SIX, Kernels, moved

SIZES = [(1, 1), (40, 5), (16, 16), (37, 21), (50, 33)]  # px, width and height; tiles are 16 px wide
AROUND = (-15.0, -12.0, 60.0, 45.0)  # px: a box that reaches beyond every canvas


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def listing(packed, width, height, threads=1):
    return cover(packed.centres, packed.geometry, width, height, exact_margin(len(packed.centres)), threads)


def case(scatter, kernels=14, width=37, height=21, channels=3, seed=0, **options):
    """A mixture, a target, and what is found of the one beside the other."""
    mixture = scatter(kernels, width, height, channels=channels, seed=seed, **options)
    packed, target = pack(mixture.to(dtype=torch.float32)), noise(channels, height, width, seed=seed)
    listed = listing(packed, width, height)
    return mixture, packed, listed, target, curved.bent(packed, listed, target, 1)


def every(found):
    return {name: getattr(found, name) for name in ("error", "left", "slope", "bends")}


def check_plain(packed, listed, target, found):
    """The picture and the slope are those of the plain passes to the bit, the error to rounding."""
    picture, _ = cpu.forward(packed, listed, 1)
    errors, slope = cpu.squared_error(packed, listed, target, 1)
    assert np.array_equal(found.left, picture - target)
    assert np.array_equal(found.slope, slope)
    assert found.error == pytest.approx(errors.sum(dtype=np.float64), rel=1e-6)
    assert np.isfinite(found.bends).all()


def points_of(mixture):
    return reference.pixel_points((mixture.width, mixture.height), (0, 0, mixture.width, mixture.height))


def phi_of(mixture, points):
    """The slope of each logit by the six numbers of its kernel, (P, N, 6)."""
    dx, dy = (points[:, None] - mixture.centres).unbind(-1)
    f0, f1, f2 = mixture.factors.T
    u, v = f0 * dx + f1 * dy, f2 * dy
    return torch.stack([torch.ones_like(u), -(u * u + v * v), (v * v - u * u) / 2, -u * v, v, u], dim=-1)


def blocks_of(mixture):
    """H of each kernel by its definition, in float64."""
    points = points_of(mixture)
    gates, drawn = reference.gates(mixture, points), reference.evaluate(mixture, points)
    far = (mixture.colours - drawn[:, None]).square().sum(-1)  # (P, N)
    phi = phi_of(mixture, points)
    return torch.einsum("pn,pni,pnj->nij", gates.square() * far, phi, phi).numpy(), gates.sum(0).numpy()


def moved_by(mixture, six):  # (N, 6)
    """A mixture of three channels whose kernels have been changed."""
    zeros = torch.zeros(len(mixture), CHANGE, dtype=mixture.dtype)
    before = Kernels(**{n: getattr(mixture, n) for n in ("centres", "factors", "log_priors", "colours")}, change=zeros)
    after = moved(before, torch.cat([six, zeros[:, SIX:]], dim=1))
    names = ("centres", "factors", "log_priors", "colours")
    return replace(mixture, **{name: getattr(after, name) for name in names})


def error_of(mixture, target):
    return (reference.render(mixture) - target).square().sum()


def closest(found, wanted, share):
    """Every kernel's values agree but for a share of its largest, or of a thousandth of the largest of all."""
    size = np.abs(wanted).reshape(len(wanted), -1).max(1)
    allowed = share * np.maximum(size, 1e-3 * size.max())
    off = np.abs(found - wanted).reshape(len(wanted), -1).max(1)
    assert np.all(off <= allowed), (off / allowed).max()


class TestOnePass:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("size", SIZES)
    def test_equals_the_plain_passes(self, scatter, channels, size):
        _, *rest = case(scatter, 20, *size, channels=channels, seed=channels, box=AROUND)
        check_plain(*rest)

    @pytest.mark.parametrize("seed", range(6))
    def test_equals_them_for_wild_kernels(self, scatter, seed):
        """Needles and blankets, with priors that rule whole regions; tiles are plain, steep and deep."""
        _, *rest = case(scatter, 40, 50, 33, seed=seed, sigmas=(0.2, 40.0), prior=10.0**seed / 30, box=AROUND)
        check_plain(*rest)

    def test_a_target_need_not_be_contiguous(self, scatter):
        _, packed, listed, target, found = case(scatter)
        turned = np.ascontiguousarray(target.transpose(1, 2, 0)).transpose(2, 0, 1)
        assert np.array_equal(curved.bent(packed, listed, turned, 1).slope, found.slope)

    @pytest.mark.parametrize("threads", [2, 5])
    @pytest.mark.parametrize("sharp", [1.5, 0.2])
    def test_threads_do_not_change_a_byte(self, scatter, threads, sharp):
        _, packed, _, target, found = case(scatter, 60, 90, 70, sigmas=(sharp, 6.0))
        again = curved.bent(packed, listing(packed, 90, 70, threads), target, threads)
        assert all(np.array_equal(value, every(again)[name]) for name, value in every(found).items())

    def test_a_picture_that_is_right_has_no_slope_and_still_bends(self, scatter):
        _, packed, listed, _, _ = case(scatter)
        found = curved.bent(packed, listed, cpu.forward(packed, listed, 1)[0], 1)
        assert found.error == 0
        assert not found.left.any()
        assert not found.slope.any()
        assert not curved.downhill(packed, found.slope).any()
        assert np.all(found.bends[:, 0] > 0)

    def test_one_kernel_is_the_picture_and_does_not_bend(self, scatter):
        mixture, _, _, target, found = case(scatter, 1)
        expected = mixture.colours[0, :, None, None].numpy() - target
        np.testing.assert_allclose(found.left, expected, atol=1e-6)
        assert found.bends[0, -1] == pytest.approx(37 * 21, rel=1e-5)
        assert np.abs(found.bends[0, :-1]).max() < 1e-6

    def test_kernels_that_no_pixel_sees_have_nothing(self, scatter):
        mixture = scatter(14, 37, 21)
        mixture.centres[4] += 10_000.0
        packed = pack(mixture.to(dtype=torch.float32))
        found = curved.bent(packed, listing(packed, 37, 21), noise(3, 21, 37), 1)
        assert not found.slope[4].any()
        assert not found.bends[4].any()
        assert found.bends[:, -1].sum() == pytest.approx(37 * 21, rel=1e-5)


class TestDeepTiles:
    def sharp_ones(self):
        """Needles of huge priors over one blanket, and the same alone far from most of the picture."""
        centres = np.array([[8.0, 8.0], [30.2, 20.1], [24.0, 16.0]])
        geometry = np.array([[5, 0, 5, 900], [4, 1, 5, 2000], [0.05, 0.01, 0.05, 0]], np.float32)
        return cpu.Packed(centres, geometry, noise(3, 3), 3, 0)

    @pytest.mark.parametrize("which", [[0, 1, 2], [0, 1], [0], [1, 2]])
    def test_all_is_finite_and_as_in_the_plain_passes(self, which):
        packed = self.sharp_ones().chosen(np.array(which))
        listed, target = listing(packed, 50, 33), noise(3, 33, 50)
        spans = [depth(tile, cpu.work(packed, listed)) for tile in range(len(listed.bars))]
        assert max(spans) > DEEP
        found = curved.bent(packed, listed, target, 1)
        check_plain(packed, listed, target, found)
        assert all(np.isfinite(value).all() for value in every(found).values())
        assert np.isfinite(curved.blocks(found.bends)).all()
        assert np.isfinite(curved.downhill(packed, found.slope)).all()

    def test_the_rest_of_the_picture_bends_as_ever(self, scatter):
        """A needle makes one tile deep; a kernel three tiles further on does not notice."""
        mixture = scatter(8, 96, 16, sigmas=(2.0, 4.0), box=(64.0, 0.0, 96.0, 16.0), prior=0.0)
        packed = pack(mixture.to(dtype=torch.float32))
        packed.centres[0], packed.geometry[0] = (8.0, 8.0), (5.0, 0.0, 5.0, 900.0)
        listed = listing(packed, 96, 16)
        assert depth(0, cpu.work(packed, listed)) > DEEP >= depth(5, cpu.work(packed, listed))
        found = curved.bent(packed, listed, noise(3, 16, 96), 1)
        inside = packed.centres[:, 0] > 84.0
        assert inside.any()
        assert np.all(found.bends[inside, 0] > 0)


class TestBlocks:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("size", SIZES[1:])
    def test_equal_sums_over_pixels(self, scatter, channels, size):
        mixture, *_, found = case(scatter, 20, *size, channels=channels, seed=channels + 10, box=AROUND)
        wanted, mass = blocks_of(mixture)
        closest(curved.blocks(found.bends), wanted, 2e-4)
        np.testing.assert_allclose(found.bends[:, -1], mass, rtol=1e-4, atol=1e-4 * mass.max())

    @pytest.mark.parametrize("seed", range(4))
    def test_equal_them_for_slender_kernels(self, scatter, seed):
        mixture, *_, found = case(scatter, 30, 50, 33, seed=seed, sigmas=(0.4, 25.0), prior=3.0)
        closest(curved.blocks(found.bends), blocks_of(mixture)[0], 1e-3)

    def test_are_symmetric_and_never_negative(self, scatter):
        *_, found = case(scatter, 40, 50, 33)
        h = curved.blocks(found.bends)
        assert np.array_equal(h, h.transpose(0, 2, 1))
        lowest, *_, highest = np.linalg.eigvalsh(h).T
        assert np.all(lowest >= -1e-5 * highest.max())

    def test_logits_change_as_kernels_do(self, scatter):
        """The six numbers here are those by which `moved` changes a kernel."""
        mixture = scatter(9, 13, 7, seed=3)
        points, step = points_of(mixture), 1e-6

        def logits(six):
            there = moved_by(mixture, six)
            return reference.logits(there.centres, there.factors, there.log_priors, points)

        for k in range(SIX):
            along = torch.zeros(9, SIX, dtype=torch.float64)
            along[:, k] = step
            slope = (logits(along) - logits(-along)) / (2 * step)
            torch.testing.assert_close(slope, phi_of(mixture, points)[..., k], rtol=1e-6, atol=1e-6)

    def test_say_how_the_error_of_a_right_picture_grows(self, scatter):
        """By p^T H p, where one kernel alone is changed by p."""
        mixture = scatter(10, 37, 21, seed=5)
        target = reference.render(mixture)
        packed = pack(mixture.to(dtype=torch.float32))
        h = curved.blocks(curved.bent(packed, listing(packed, 37, 21), target.float().numpy(), 1).bends)
        random = torch.Generator().manual_seed(1)
        for j in range(10):
            six = torch.zeros(10, SIX, dtype=torch.float64)
            six[j] = 1e-4 * torch.randn(SIX, generator=random, dtype=torch.float64)
            grown = float(error_of(moved_by(mixture, six), target))
            p = six[j].numpy()
            assert grown == pytest.approx(p @ h[j] @ p, rel=5e-3)


class TestDownhill:
    @pytest.mark.parametrize("size", SIZES)
    def test_equals_autograd_through_what_moves_kernels(self, scatter, size):
        mixture, packed, _, target, found = case(scatter, 16, *size, seed=2, box=AROUND)
        six = torch.zeros(16, SIX, dtype=torch.float64, requires_grad=True)
        (error_of(moved_by(mixture, six), torch.from_numpy(target).double()) / 2).backward()
        closest(curved.downhill(packed, found.slope), six.grad.numpy(), 1e-3)

    def test_equals_finite_differences(self, scatter):
        mixture, packed, _, target, found = case(scatter, 4, 24, 18, seed=7)
        target, step = torch.from_numpy(target).double(), 1e-6
        wanted = np.empty((4, SIX))
        for j in range(4):
            for k in range(SIX):
                six = torch.zeros(4, SIX, dtype=torch.float64)
                six[j, k] = step
                errors = [float(error_of(moved_by(mixture, sign * six), target)) for sign in (1, -1)]
                wanted[j, k] = (errors[0] - errors[1]) / (4 * step)
        closest(curved.downhill(packed, found.slope), wanted, 1e-3)


class TestSolved:
    def solve(self, h, slopes, damping, floor):
        x = np.full(SIX, np.nan)
        curved.solved(h, slopes, damping, floor, np.full((SIX, SIX), np.nan), x)
        return x

    def damped(self, h, damping, floor):
        return h + damping * np.diag(np.diag(h)) + (floor + 1e-9) * np.eye(SIX)

    @pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
    @pytest.mark.parametrize(("damping", "floor"), [(0.0, 0.0), (0.1, 1e-4), (1.0, 1e-3)])
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_a_plain_solver(self, scale, damping, floor, seed):
        random = np.random.default_rng(seed)
        part = random.normal(size=(SIX, 10)) * random.uniform(0.3, 3.0, (SIX, 1))
        h, slopes = scale * part @ part.T, (scale * random.normal(size=SIX)).astype(np.float32)
        expected = np.linalg.solve(self.damped(h, damping, floor), -slopes.astype(np.float64))
        np.testing.assert_allclose(self.solve(h, slopes, damping, floor), expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize(("damping", "floor"), [(0.1, 0.0), (1.0, 0.0), (0.1, 1e-3)])
    def test_equals_it_where_curvature_runs_one_way(self, damping, floor):
        way = np.array([1.0, -2.0, 0.5, 0.1, 3.0, 0.0])
        h, slopes = np.outer(way, way), np.array([0.3, -0.2, 0.1, 0.4, 1.0, 1e-9], np.float32)
        expected = np.linalg.solve(self.damped(h, damping, floor), -slopes.astype(np.float64))
        np.testing.assert_allclose(self.solve(h, slopes, damping, floor), expected, rtol=1e-6)

    def test_without_curvature_the_floor_decides(self):
        slopes = np.arange(SIX, dtype=np.float32)
        np.testing.assert_allclose(self.solve(np.zeros((SIX, SIX)), slopes, 0.1, 0.5), -slopes / 0.5, rtol=1e-7)
        assert not self.solve(np.zeros((SIX, SIX)), np.zeros(SIX, np.float32), 0.1, 0.0).any()

    def test_what_rounding_made_indefinite_stays_finite(self):
        h = np.ones((SIX, SIX)) - 1e-7 * np.eye(SIX)
        assert np.isfinite(self.solve(h, np.ones(SIX, np.float32), 0.0, 0.0)).all()

    def test_a_step_lowers_the_error(self, scatter):
        """One kernel after another, with the rest as they are."""
        mixture, packed, _, target, found = case(scatter, 12, 37, 21, seed=4)
        target, slopes = torch.from_numpy(target).double(), curved.downhill(packed, found.slope)
        before = float(error_of(mixture, target))
        for j, h in enumerate(curved.blocks(found.bends)):
            six = torch.zeros(12, SIX, dtype=torch.float64)
            six[j] = torch.from_numpy(self.solve(h, slopes[j], 1.0, 1e-3 * found.bends[j, -1])).clamp(-0.1, 0.1)
            assert float(error_of(moved_by(mixture, six), target)) < before
