"""The exactness tests of `test_render`, on the GPU backend: on a device, or smaller under Triton's interpreter."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from moesaic.errors import BackendError, LimitError
from moesaic.mixture import gpu_ops, reference
from moesaic.mixture import render as module
from moesaic.mixture.backends import gpu
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.gpu_canvas import canvas
from moesaic.mixture.backends.layout import DEEP, STEEP
from moesaic.mixture.render import force_backend, render
from tests.mixture.exactness import SINGLE, TOLERANCE, check, gradients

INTERPRETED = gpu.interpreted()
DEVICE = "cpu" if INTERPRETED else "cuda"


def exact(mixture, **view):
    check(mixture, backend="gpu", device=DEVICE, **view)


def n(many, few):
    """How many, on a device, or under the interpreter."""
    return few if INTERPRETED else many


class TestExactness:
    @pytest.mark.parametrize(("channels", "order"), [(1, 0), (2, 1), (3, 0), (4, 0), (3, 1), (4, 1)])
    def test_random(self, scatter, channels, order):
        exact(scatter(n(60, 12), n(50, 35), n(37, 20), channels=channels, order=order, seed=channels))

    @pytest.mark.parametrize("order", [0, 1])
    def test_kernels_far_from_everything(self, scatter, order):
        """Deep tiles, and steep ones between."""
        side = n(512, 60)
        box = (200, 200, 260, 260) if side == 512 else (0, 0, 8, 8)
        exact(scatter(3, side, side // 3, order=order, box=box, sigmas=(0.6, 2.0)), stride=7)

    def test_these_tests_meet_tiles_of_every_depth(self, scatter):
        mixture = scatter(3, 60, 20, box=(0, 0, 8, 8), sigmas=(0.6, 2.0))
        centres, geometry = (t.to(DEVICE) for t in packed(mixture))
        kernels = gpu.Kernels(centres, geometry, geometry[:, :1].contiguous(), 1, 0)
        sheet = canvas(((60, 20),), (3,), centres.device)
        span = gpu.put(sheet, kernels, gpu.list_exactly(sheet, kernels, exact_margin(3))).span
        assert bool((span < STEEP).any())
        assert bool(((span > STEEP) & (span < DEEP)).any())
        assert bool((span > DEEP).any())

    def test_crowded_tile(self, scatter):
        exact(scatter(n(1000, 90), 16, 16, sigmas=(0.5, 3.0)))

    def test_axes_of_a_hundred_to_one(self, scatter):
        many = n(80, 16)
        mixture = scatter(many, n(64, 32), n(48, 32), sigmas=(0.4, 0.4001))
        angle = torch.linspace(0, torch.pi, many, dtype=torch.float64)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
        sharp = torch.tensor([1 / 0.4, 1 / 40.0], dtype=torch.float64)
        lower = torch.linalg.cholesky(turn @ torch.diag(sharp**2) @ turn.mT)
        factors = torch.stack([lower[:, 0, 0], lower[:, 1, 0], lower[:, 1, 1]], dim=1)
        exact(replace(mixture, factors=factors.float().double()))

    def test_centres_outside_the_canvas(self, scatter):
        exact(scatter(n(40, 20), 30, 20, box=(-60, -60, 100, 90), sigmas=(3.0, 20.0)))
        exact(scatter(6, 30, 20, box=(100, 100, 140, 140), sigmas=(3.0, 20.0)), floor=1e-7)

    @pytest.mark.parametrize("canvas", [(1, 1), (17, 33), (15, 16), (1, 40), (129, 2), (32, 32)])
    def test_sizes_that_no_tile_divides(self, scatter, canvas):
        exact(scatter(n(12, 5), *canvas, order=1))

    def test_one_kernel(self, scatter):
        exact(scatter(1, 20, 17), floor=1e-7)
        exact(scatter(1, n(300, 60), 5, order=1, sigmas=(0.5, 1.0), box=(0, 0, 1, 1)), floor=1e-7)

    def test_coincident_and_identical_kernels(self, scatter):
        mixture = scatter(5, 20, 15)
        exact(mixture[[0, 1, 2] * 3])
        exact(replace(mixture, centres=mixture.centres[:1].expand(5, 2).clone()))

    @pytest.mark.parametrize("difference", [50.0, 300.0])
    def test_huge_differences_of_priors(self, scatter, difference):
        many = n(30, 14)
        mixture = scatter(many, n(48, 32), n(40, 20), order=1, sigmas=(0.5, 12.0))
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(many // 2)
        exact(replace(mixture, log_priors=mixture.log_priors + difference * sign))

    def test_raised_priors_of_small_kernels(self, scatter):
        small, wide = scatter(8, 32, 20, sigmas=(0.3, 0.8), seed=1), scatter(4, 32, 20, sigmas=(20.0, 80.0), seed=2)
        mixture = module.Mixture.join([small, wide])
        lifted = torch.where(torch.arange(12) < 8, 300.0, 0.0)
        exact(replace(mixture, log_priors=(mixture.log_priors + lifted).float().double()))

    def test_very_sharp_beside_very_wide(self, scatter):
        sharp = scatter(8, 24, 20, sigmas=(0.05, 0.06), prior=0.1, seed=1)
        wide = scatter(3, 24, 20, sigmas=(900.0, 1000.0), prior=0.1, seed=2)
        pixels = sharp.centres.floor() + 0.5 + 0.02 * (sharp.centres - sharp.centres.floor() - 0.5)
        sharp = replace(sharp, centres=pixels.float().double(), log_priors=sharp.log_priors + 1.0)
        exact(module.Mixture.join([sharp, wide]).to(dtype=SINGLE).to(dtype=torch.float64))

    def test_a_region_far_from_the_origin(self, scatter):
        mixture = scatter(n(200, 60), 20000, 20000, box=(19800, 19700, 20000, 19800), sigmas=(1.0, 8.0))
        exact(mixture, size=(24, 18), region=(19850.3, 19720.9, 19874.3, 19738.9))

    def test_views(self, scatter):
        mixture = scatter(n(60, 10), 50, 37, order=1)
        exact(mixture, size=(13, 40))
        exact(mixture, size=(33, 21), region=(-20, -9.5, 30, 20))
        exact(mixture, size=(20, 11), region=(3.25, 4.7, 17.9, 30.01))

    @pytest.mark.parametrize("diagonal", [1e-9, 1e9])
    def test_the_widest_and_the_sharpest_factors(self, scatter, diagonal):
        mixture = scatter(3, 20, 17)
        factors = torch.tensor([diagonal, 0.0, diagonal]).expand(3, 3).double() * (0.99 if diagonal > 1 else 1.01)
        mixture = replace(mixture, factors=factors)
        drawn = render(mixture.to(device=DEVICE), backend="gpu").cpu()
        assert float((drawn - reference.render(mixture)).abs().max()) <= 2e-4


class TestProperties:
    def test_the_same_bytes_every_time(self, scatter):
        mixture = scatter(n(500, 12), n(200, 40), n(100, 20), order=1).to(dtype=SINGLE, device=DEVICE)
        slope = torch.randn(3, mixture.height, mixture.width, generator=torch.Generator().manual_seed(1))
        (picture, slopes), (again, others) = (
            gradients(mixture, lambda m: render(m, backend="gpu"), slope) for _ in range(2)
        )
        assert torch.equal(picture, again)
        assert all(torch.equal(slopes[name], others[name]) for name in slopes)

    def test_order_of_kernels_does_not_matter(self, scatter):
        mixture = scatter(20, 33, 21, order=1).to(device=DEVICE)
        turned = mixture[torch.randperm(20, generator=torch.Generator().manual_seed(1))]
        drawn, other = render(mixture, backend="gpu"), render(turned, backend="gpu")
        torch.testing.assert_close(drawn, other, rtol=0, atol=1e-5)

    def test_regions_join_without_seams(self, scatter):
        mixture = scatter(30, 40, 20, sigmas=(0.5, 8.0)).to(device=DEVICE)
        parts = [render(mixture, region=box, backend="gpu") for box in ((0, 0, 13, 20), (13, 0, 40, 20))]
        torch.testing.assert_close(torch.cat(parts, dim=2), render(mixture, backend="gpu"), rtol=0, atol=1e-5)


def packed(mixture):
    """A mixture as both backends take it: centres and geometry."""
    geometry = torch.cat([mixture.factors, mixture.log_priors[:, None]], dim=1).float().contiguous()
    return mixture.centres.contiguous(), geometry


class TestLists:
    """Lists by the same rule as the CPU's, from other bars."""

    def found(self, mixture, margin):
        centres, geometry = (t.to(DEVICE) for t in packed(mixture))
        kernels = gpu.Kernels(centres, geometry, geometry[:, :1].contiguous(), 1, 0)
        sheet = canvas(((mixture.width, mixture.height),), (len(mixture),), centres.device)
        lists = gpu.list_exactly(sheet, kernels, margin)
        start, kernel = lists.start.tolist(), lists.kernel.tolist()
        return lists, [kernel[a:b] for a, b in pairwise(start)]

    @pytest.mark.parametrize("seed", [1, 2])
    def test_bars_are_bounds_and_nothing_within_the_margin_is_missing(self, scatter, seed):
        mixture = scatter(50, 100, 70, sigmas=(0.5, 30.0), prior=5.0, seed=seed)
        lists, listed = self.found(mixture, 6.0)
        points = reference.pixel_points((100, 70), (0, 0, 100, 70))
        logits = reference.logits(mixture.centres, mixture.factors, mixture.log_priors, points)  # (P, N)
        tile = (points[:, 1] // 16 * 7 + points[:, 0] // 16).long()
        best = logits.amax(dim=1)
        assert bool((lists.bars.cpu()[tile] <= best + 1e-9).all())
        for t, members in enumerate(listed):
            assert members == sorted(set(members))
            needed = (logits[tile == t] >= best[tile == t][:, None] - 6.0).any(dim=0).nonzero().flatten()
            assert set(needed.tolist()) <= set(members)

    def test_lists_are_about_as_short_as_the_cpus(self, scatter):
        mixture = scatter(120, 80, 64, sigmas=(0.8, 5.0))
        centres, geometry = packed(mixture)
        other = cover(centres.numpy(), geometry.numpy(), 80, 64, exact_margin(120), 1)
        _, listed = self.found(mixture, exact_margin(120))
        pairs = sum(map(len, listed))
        assert 0.9 * len(other.pair_kernel) <= pairs <= 1.2 * len(other.pair_kernel)

    def test_lists_too_long_for_their_room_are_made_again(self, scatter, monkeypatch):
        mixture = scatter(40, 48, 32, sigmas=(5.0, 9.0))
        monkeypatch.setattr(gpu, "first_room", lambda sheet, margin: (16,) * len(sheet.levels))
        _, listed = self.found(mixture, 20.0)
        monkeypatch.undo()
        _, usual = self.found(mixture, 20.0)
        assert listed == usual

    def test_lists_too_long_to_address_are_refused(self, scatter, monkeypatch):
        monkeypatch.setattr(gpu, "first_room", lambda sheet, margin: (16,) * len(sheet.levels))
        monkeypatch.setattr(gpu, "MOST", 5000)
        with pytest.raises(LimitError, match="draw the picture in parts"):
            self.found(scatter(60, 48, 32, sigmas=(5.0, 9.0)), 20.0)
        with pytest.raises(LimitError, match="too many at once"):
            gpu.check_size(canvas(((80, 40),), (1,), torch.device(DEVICE)), 4)


class TestOps:
    def arguments(self, mixture, *, grad=True):
        experts = mixture.colours
        if mixture.slopes is not None:
            experts = torch.cat([experts, mixture.slopes.flatten(1)], dim=1)
        tensors = [mixture.centres, mixture.factors.float(), mixture.log_priors.float(), experts.float()]
        leaves = [t.to(DEVICE).clone().requires_grad_(grad) for t in tensors]
        still = [t.detach() for t in leaves[:3]]
        return leaves, gpu_ops.gpu_cover(*still, mixture.width, mixture.height, 12.0)

    def test_opcheck(self, scatter):
        mixture = scatter(3, 17, 10)
        leaves, lists = self.arguments(mixture, grad=False)
        torch.library.opcheck(gpu_ops.gpu_cover, (*leaves[:3], 17, 10, 12.0))
        picture, level = gpu_ops.gpu_blend(*leaves, *lists, 17, 10, 0)
        torch.library.opcheck(
            gpu_ops.gpu_blend_backward, (torch.ones_like(picture), picture, level, *leaves, *lists, 0)
        )

    @pytest.mark.parametrize("order", [0, 1])
    def test_opcheck_of_the_gradient(self, scatter, order):
        leaves, lists = self.arguments(scatter(3, 17, 10, order=order))
        torch.library.opcheck(gpu_ops.gpu_blend, (*leaves, *lists, 17, 10, order))

    def test_only_some_parameters_may_ask_for_gradients(self, scatter):
        mixture = scatter(5, 20, 10).to(dtype=SINGLE, device=DEVICE)
        mixture.log_priors.requires_grad_()
        (slope,) = torch.autograd.grad(render(mixture, backend="gpu").permute(2, 1, 0).sum(), mixture.log_priors)
        other = mixture.detach().to(device="cpu", dtype=torch.float64)
        other.log_priors.requires_grad_()
        (true,) = torch.autograd.grad(reference.render(other).sum(), other.log_priors)
        torch.testing.assert_close(slope.cpu().double(), true, rtol=1e-3, atol=1e-4)


class TestChoice:
    def test_an_explicit_choice_that_cannot_run_says_why(self, scatter, monkeypatch):
        monkeypatch.setattr(module, "gpu_problem", lambda: "ModuleNotFoundError: No module named 'triton'")
        with pytest.raises(BackendError, match="No module named 'triton'"):
            render(scatter(3, 10, 10), backend="gpu")

    def test_auto_warns_once_and_takes_the_cpu(self, monkeypatch, caplog):
        monkeypatch.setattr(module, "gpu_problem", lambda: "RuntimeError: no C compiler")
        module._warn.cache_clear()
        with caplog.at_level(logging.WARNING):
            assert [module._backend("auto", torch.device("cuda")) for _ in range(3)] == ["cpu"] * 3
        assert caplog.text.count("no C compiler") == 1

    def test_auto_takes_the_gpu_where_it_runs(self):
        assert module.gpu_problem() is None
        assert module._backend("auto", torch.device("cuda")) == "gpu"
        assert module._backend("auto", torch.device("cpu")) == "cpu"

    def test_problems_are_kept(self, monkeypatch):
        module.gpu_problem.cache_clear()
        monkeypatch.setattr(gpu, "launch_once", lambda: (_ for _ in ()).throw(OSError("trace\nno compiler found")))
        assert module.gpu_problem() == "OSError: no compiler found"
        monkeypatch.undo()
        assert module.gpu_problem() == "OSError: no compiler found"
        module.gpu_problem.cache_clear()

    def test_mixtures_elsewhere_are_refused(self, scatter, monkeypatch):
        monkeypatch.setattr(gpu, "interpreted", lambda: False)
        monkeypatch.setattr(module, "gpu_problem", lambda: None)
        with pytest.raises(BackendError, match="to\\(device='cuda'\\)"):
            render(scatter(3, 10, 10), backend="gpu")

    def test_tests_may_force_it(self, scatter):
        mixture = scatter(3, 10, 10).to(device=DEVICE)
        with force_backend("gpu"):
            drawn = render(mixture)
        assert float((drawn.cpu() - reference.render(mixture.to(device="cpu"))).abs().max()) <= TOLERANCE["picture"]

    @pytest.mark.gpu
    def test_falling_back_moves_there_and_back_with_gradients(self, scatter, monkeypatch):
        monkeypatch.setattr(module, "gpu_problem", lambda: "RuntimeError: no C compiler")
        mixture = scatter(5, 20, 10).to(dtype=SINGLE, device="cuda").requires_grad_()
        picture = render(mixture)
        picture.sum().backward()
        assert picture.device == mixture.centres.grad.device == mixture.device
