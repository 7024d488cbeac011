from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moesaic.errors import ArgumentError, BackendError, LimitError, ShapeError
from moesaic.mixture import reference
from moesaic.mixture import render as module
from moesaic.mixture.render import force_backend, gate_mass, render
from tests.mixture.exactness import SINGLE, TOLERANCE, check, gradients


class TestExactness:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("order", [0, 1])
    def test_random(self, scatter, channels, order):
        check(scatter(60, 50, 37, channels=channels, order=order, seed=channels))

    @pytest.mark.parametrize("order", [0, 1])
    def test_five_kernels_far_from_everything(self, scatter, order):
        check(scatter(5, 512, 512, order=order, box=(200, 200, 260, 260)), stride=29)

    @pytest.mark.parametrize("order", [0, 1])
    def test_a_thousand_kernels_in_one_tile(self, scatter, order):
        check(scatter(1000, 16, 16, order=order, sigmas=(0.5, 3.0)))

    @pytest.mark.parametrize("order", [0, 1])
    def test_axes_of_a_hundred_to_one(self, scatter, order):
        mixture = scatter(80, 64, 48, order=order, sigmas=(0.4, 0.4001))
        angle = torch.linspace(0, torch.pi, 80, dtype=torch.float64)
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
        sharp = torch.tensor([1 / 0.4, 1 / 40.0], dtype=torch.float64)
        lower = torch.linalg.cholesky(turn @ torch.diag(sharp**2) @ turn.mT)
        factors = torch.stack([lower[:, 0, 0], lower[:, 1, 0], lower[:, 1, 1]], dim=1)
        check(replace(mixture, factors=factors.float().double()))

    def test_centres_outside_the_canvas(self, scatter):
        check(scatter(40, 40, 30, box=(-60, -60, 100, 90), sigmas=(3.0, 20.0)))
        check(scatter(6, 40, 30, box=(100, 100, 140, 140), sigmas=(15.0, 40.0)))
        check(scatter(6, 40, 30, box=(100, 100, 140, 140), sigmas=(3.0, 20.0)), floor=1e-7)  # one gate owns nearly all

    @pytest.mark.parametrize("canvas", [(1, 1), (17, 33), (15, 16), (16, 15), (1, 40), (129, 2), (32, 32)])
    def test_sizes_that_no_tile_divides(self, scatter, canvas):
        check(scatter(12, *canvas, order=1))

    def test_one_kernel(self, scatter):
        check(scatter(1, 40, 30), floor=1e-7)
        check(scatter(1, 300, 10, order=1, sigmas=(0.5, 1.0), box=(0, 0, 1, 1)), floor=1e-7)
        assert float((render(scatter(1, 70, 50)) - scatter(1, 70, 50).colours[0][:, None, None]).abs().max()) < 1e-6

    def test_identical_kernels(self, scatter):
        mixture = scatter(3, 40, 30)
        check(mixture[[0, 1, 2] * 4])

    def test_coincident_centres(self, scatter):
        mixture = scatter(12, 40, 30)
        check(replace(mixture, centres=mixture.centres[:1].expand(12, 2).clone()))

    @pytest.mark.parametrize("difference", [50.0, 300.0])
    @pytest.mark.parametrize("order", [0, 1])
    def test_huge_differences_of_priors(self, scatter, difference, order):
        mixture = scatter(30, 48, 40, order=order, sigmas=(0.5, 12.0))
        sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(15)
        check(replace(mixture, log_priors=mixture.log_priors + difference * sign))

    def test_raised_priors_of_small_kernels(self, scatter):
        small, wide = scatter(20, 48, 40, sigmas=(0.3, 0.8), seed=1), scatter(10, 48, 40, sigmas=(20.0, 80.0), seed=2)
        for raised in (50.0, 300.0):
            mixture = module.Mixture.join([small, wide])
            lifted = torch.where(torch.arange(30) < 20, raised, 0.0)
            check(replace(mixture, log_priors=(mixture.log_priors + lifted).float().double()))

    def test_very_sharp_beside_very_wide(self, scatter):
        sharp = scatter(30, 40, 30, sigmas=(0.05, 0.06), prior=0.1, seed=1)
        wide = scatter(5, 40, 30, sigmas=(900.0, 1000.0), prior=0.1, seed=2)
        pixels = sharp.centres.floor() + 0.5 + 0.02 * (sharp.centres - sharp.centres.floor() - 0.5)
        sharp = replace(sharp, centres=pixels.float().double(), log_priors=sharp.log_priors + 1.0)
        check(module.Mixture.join([sharp, wide]).to(dtype=SINGLE).to(dtype=torch.float64))

    def test_empty_corners(self, scatter):
        check(scatter(8, 120, 90, box=(40, 30, 80, 60), sigmas=(1.0, 3.0)))


class TestViews:
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("size", [(25, 19), (200, 148), (50, 37), (13, 90), (200, 5)])
    def test_sizes(self, scatter, size, order):
        check(scatter(60, 50, 37, order=order), size=size)

    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize(
        "region",
        [(10, 5, 30, 25), (3.25, 4.7, 17.9, 30.01), (-20, -9.5, 30, 20), (45, 30, 90, 80), (100, 100, 120, 110)],
    )
    def test_regions(self, scatter, region, order):
        check(scatter(60, 50, 37, order=order), size=(33, 21), region=region)

    @pytest.mark.parametrize("view", [{"size": (300, 200)}, {"size": (61, 47), "region": (-100.3, 17.0, 411.7, 555.5)}])
    def test_views_far_from_every_kernel(self, scatter, view):
        check(scatter(5, 512, 512, box=(200, 200, 260, 260)), stride=7, **view)

    def test_a_region_far_from_the_origin(self, scatter):
        mixture = scatter(200, 20000, 20000, box=(19800, 19700, 20000, 19800), sigmas=(1.0, 8.0))
        check(mixture, size=(64, 48), region=(19850, 19720, 19914, 19768))
        check(mixture, size=(64, 48), region=(19850.3, 19720.9, 19866.3, 19732.9))

    def test_scales_and_their_sizes(self, scatter):
        mixture = scatter(5, 50, 37)
        assert render(mixture, scale=0.5).shape == (3, 18, 25)
        assert render(mixture, scale=4).shape == (3, 148, 200)
        assert render(mixture, scale=1e-6).shape == (3, 1, 1)
        assert render(mixture, scale=2, region=(0, 0, 10.2, 5)).shape == (3, 10, 20)
        assert torch.equal(render(mixture, scale=2), render(mixture, size=(100, 74)))

    @pytest.mark.parametrize("side", [1e-3, 1e-6, 1e-12, 1e-20, 1e-40, 1e-300])
    def test_a_tiny_region_is_exact_or_refused(self, scatter, side):
        mixture = scatter(5, 50, 37, sigmas=(2.0, 6.0))
        view = {"size": (20, 20), "region": (0.0, 0.0, side, side)}
        try:
            picture = render(mixture, **view)
        except ArgumentError:
            assert side < 1e-6
        else:
            assert float((picture - reference.render(mixture, **view)).abs().max()) <= TOLERANCE["picture"]

    @pytest.mark.parametrize("diagonal", [1e-9, 1e9])
    def test_the_widest_and_the_sharpest_factors(self, scatter, diagonal):
        mixture = scatter(5, 50, 37)
        factors = torch.tensor([diagonal, 0.0, diagonal]).expand(5, 3).double() * 1.01
        if diagonal > 1:
            factors = factors / 1.02
        check_picture = render(replace(mixture, factors=factors), backend="cpu")
        assert float((check_picture - reference.render(replace(mixture, factors=factors))).abs().max()) <= 2e-4

    def test_keeps_the_type_of_the_mixture(self, scatter):
        mixture = scatter(5, 20, 10, order=1)
        assert render(mixture).dtype == torch.float64
        assert render(mixture.to(dtype=torch.float32)).dtype == torch.float32
        half = mixture.to(dtype=torch.bfloat16)
        assert render(half).dtype == torch.bfloat16

    def test_draws_parameters_that_are_not_contiguous(self, scatter):
        mixture = scatter(9, 20, 10, order=1).to(dtype=SINGLE)
        strided = mixture._map(lambda t: torch.stack([t, t], dim=-1)[..., 0])
        assert not strided.factors.is_contiguous()
        assert torch.equal(render(strided), render(mixture))


class TestProperties:
    """What must hold for every mixture; the seeds decide everything about one."""

    shapes = st.tuples(st.integers(1, 50), st.integers(1, 40))

    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), kernels=st.integers(2, 60), shape=shapes, order=st.integers(0, 1))
    def test_order_of_kernels_does_not_matter(self, scatter, seed, kernels, shape, order):
        mixture = scatter(kernels, *shape, order=order, seed=seed)
        other = mixture[torch.randperm(kernels, generator=torch.Generator().manual_seed(seed))]
        torch.testing.assert_close(render(other), render(mixture), rtol=0, atol=1e-4)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), x=st.integers(-40, 40), y=st.integers(-40, 40), order=st.integers(0, 1))
    def test_whole_pixel_shifts(self, scatter, seed, x, y, order):
        mixture = scatter(25, 40, 30, order=order, seed=seed)
        moved = replace(mixture, centres=mixture.centres + torch.tensor([x, y]))
        picture = render(moved, region=(x, y, 40 + x, 30 + y))
        torch.testing.assert_close(picture, render(mixture), rtol=0, atol=1e-6)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), x=st.integers(1, 39), y=st.integers(1, 29), order=st.integers(0, 1))
    def test_regions_join_without_seams(self, scatter, seed, x, y, order):
        mixture = scatter(40, 40, 30, order=order, seed=seed, sigmas=(0.5, 8.0))
        rows = [
            torch.cat([render(mixture, region=(a, c, b, d)) for a, b in ((0, x), (x, 40))], dim=2)
            for c, d in ((0, y), (y, 30))
        ]
        torch.testing.assert_close(torch.cat(rows, dim=1), render(mixture), rtol=0, atol=1e-4)

    @settings(max_examples=15)
    @given(seed=st.integers(0, 10**6), kernels=st.integers(1, 80), shape=shapes, order=st.integers(0, 1))
    def test_threads_do_not_change_a_byte(self, scatter, seed, kernels, shape, order):
        mixture = scatter(kernels, *shape, order=order, seed=seed).to(dtype=SINGLE)
        slope = torch.randn(3, shape[1], shape[0], generator=torch.Generator().manual_seed(seed))
        results = []
        for threads in (1, 2, 3, 7, 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("moesaic.mixture.ops.threads", threads)
                results.append(gradients(mixture, render, slope))
        for picture, slopes in results[1:]:
            assert torch.equal(picture, results[0][0])
            assert all(torch.equal(slopes[name], results[0][1][name]) for name in slopes)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), kernels=st.integers(1, 60))
    def test_pixels_stay_between_the_colours(self, scatter, seed, kernels):
        mixture = scatter(kernels, 33, 21, seed=seed, prior=20.0, sigmas=(0.1, 30.0))
        picture = render(mixture).flatten(1)
        assert bool((picture >= mixture.colours.amin(0)[:, None] - 1e-5).all())
        assert bool((picture <= mixture.colours.amax(0)[:, None] + 1e-5).all())

    @settings(max_examples=15)
    @given(seed=st.integers(0, 10**6), kernels=st.integers(1, 40), width=st.integers(1, 50), height=st.integers(1, 40))
    def test_exact_on_anything(self, scatter, seed, kernels, width, height):
        draw = torch.Generator().manual_seed(seed)
        widest = float(10 ** (3 * torch.rand(1, generator=draw)))
        mixture = scatter(kernels, width, height, seed=seed, sigmas=(0.2, widest), prior=10.0, order=1, channels=1)
        mixture = replace(mixture, slopes=mixture.slopes * mixture.factors[:, :1, None])
        error = (render(mixture) - reference.render(mixture)).abs().max()
        bound = TOLERANCE["picture"] * max(1.0, float(reference.render(mixture).abs().max()))
        assert float(error) <= bound


class TestGateMass:
    def test_sums_to_the_area_and_equals_the_gates(self, scatter):
        mixture = scatter(30, 41, 29)
        points = reference.pixel_points((41, 29), (0, 0, 41, 29))
        expected = reference.gates(mixture, points).sum(0)
        mass = gate_mass(mixture)
        torch.testing.assert_close(mass, expected, rtol=1e-3, atol=1e-3)
        assert float(mass.sum()) == pytest.approx(41 * 29, rel=1e-5)

    def test_leaves_gradients_alone(self, scatter):
        mixture = scatter(5, 20, 10).requires_grad_()
        assert not gate_mass(mixture).requires_grad
        assert mixture.colours.grad is None


class TestBackends:
    def test_force_backend_overrules(self, scatter, monkeypatch):
        mixture = scatter(5, 20, 10)
        monkeypatch.setattr(module, "draw", lambda *_: pytest.fail("the cpu backend was used"))
        with force_backend("reference"):
            picture = render(mixture, backend="cpu")
        assert torch.equal(picture, reference.render(mixture))

    def test_reference_takes_every_view(self, scatter):
        mixture = scatter(5, 20, 10, order=1)
        view = {"scale": 1.5, "region": (2, 3, 12, 9)}
        exact = render(mixture, backend="reference", **view)
        torch.testing.assert_close(render(mixture, backend="cpu", **view), exact, rtol=0, atol=1e-4)

    def test_other_devices_fall_back_with_a_warning(self, scatter, caplog):
        mixture = scatter(5, 20, 10).to(device="meta")
        name = module._backend("auto", mixture.device)
        assert name == "reference"
        assert "no fast backend for meta" in caplog.text
        with pytest.raises(BackendError, match="to\\(device='cpu'\\)"):
            module._backend("cpu", mixture.device)

    def test_unknown_backends_are_named(self, scatter):
        with pytest.raises(ArgumentError, match="'cuda13' is unknown; choose one of auto, cpu"):
            render(scatter(5, 20, 10), backend="cuda13")


class TestErrors:
    @pytest.mark.parametrize(
        "region",
        [(0, 0, 0, 5), (0, 5, 5, 5), (5, 0, 1, 5), (0, 0, math.nan, 5), (0, 0, math.inf, 5), (-2e7, 0, 1, 1)],
    )
    def test_regions(self, scatter, region):
        with pytest.raises(ArgumentError, match="region"):
            render(scatter(5, 20, 10), region=region)

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
    def test_scales(self, scatter, scale):
        with pytest.raises(ArgumentError, match="scale"):
            render(scatter(5, 20, 10), scale=scale)

    @pytest.mark.parametrize("size", [(0, 5), (5, -1)])
    def test_sizes(self, scatter, size):
        with pytest.raises(ArgumentError, match="size"):
            render(scatter(5, 20, 10), size=size)

    def test_scale_and_size(self, scatter):
        with pytest.raises(ArgumentError, match="not both"):
            render(scatter(5, 20, 10), scale=2, size=(5, 5))

    @pytest.mark.parametrize("view", [{"size": (2**15, 2**15)}, {"scale": 1e9}, {"scale": 1e308}])
    def test_too_many_pixels(self, scatter, view):
        with pytest.raises(LimitError, match="pixel_limit"):
            render(scatter(5, 20, 10), **view)

    def test_the_limit_is_adjustable(self, scatter):
        mixture = scatter(5, 20, 10)
        assert render(mixture, pixel_limit=200).shape == (3, 10, 20)
        with pytest.raises(LimitError, match="limit of 199"):
            render(mixture, pixel_limit=199)

    def test_no_kernels(self, scatter):
        with pytest.raises(ShapeError, match="without kernels"):
            render(scatter(5, 20, 10)[:0])
        with pytest.raises(ShapeError, match="without kernels"):
            gate_mass(scatter(5, 20, 10)[:0])

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e9])
    @pytest.mark.parametrize("name", ["centres", "factors", "log_priors", "colours", "slopes"])
    def test_values_that_no_backend_may_meet(self, scatter, name, value):
        mixture = scatter(5, 20, 10, order=1)
        getattr(mixture, name).view(-1)[-1] = value
        with pytest.raises(ArgumentError, match=name):
            render(mixture)

    @pytest.mark.parametrize("place", [0, 2])
    @pytest.mark.parametrize("value", [0.0, -1.0, 1e-12])
    def test_factors_that_are_no_cholesky_factors(self, scatter, place, value):
        mixture = scatter(5, 20, 10)
        mixture.factors[3, place] = value
        with pytest.raises(ArgumentError, match="Cholesky"):
            render(mixture)
