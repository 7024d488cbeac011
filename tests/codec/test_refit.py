from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.codec.file import decode_bytes, write_plan
from moesaic.codec.plan import place
from moesaic.codec.quantise import FINE, Steps
from moesaic.codec.refit import refit
from moesaic.codec.rounding import round_shapes
from moesaic.codec.sensitivity import curvatures
from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture import reference
from moesaic.mixture.colours import solve_colours
from moesaic.mixture.fit import fit
from moesaic.mixture.render import render


def moved(mixture, by):
    """The mixture with the six numbers of each kernel changed by `by` (N, 6), as the text of `sensitivity` says."""
    xx, yx, yy = mixture.factors.T
    across, down = xx * torch.exp(by[:, 1] + by[:, 2] / 2), yy * torch.exp(by[:, 1] - by[:, 2] / 2)
    shear = yx / yy * torch.exp(by[:, 2]) + by[:, 3]
    dy = by[:, 4] / down
    dx = by[:, 5] / across - shear * down / across * dy
    return replace(
        mixture,
        centres=mixture.centres + torch.stack([dx, dy], 1),
        factors=torch.stack([across, shear * down, down], 1),
        log_priors=mixture.log_priors + by[:, 0],
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", [0, 1])
def test_curvatures_are_those_of_the_dense_mixture(make_mixture, channels, order):
    mixture = make_mixture(7, channels=channels, order=order, width=33, height=20, seed=3).to(dtype=torch.float64)
    n, c = len(mixture), channels
    found = curvatures(mixture, threads=1)

    def draw(numbers):
        by, colours = numbers[:, :6], mixture.colours + numbers[:, 6:]
        return reference.render(replace(moved(mixture, by), colours=colours)).flatten()

    jacobian = torch.autograd.functional.jacobian(draw, torch.zeros(n, 6 + c, dtype=torch.float64))  # (P, N, 6 + C)
    for j in range(n):
        full = (jacobian[:, j].T @ jacobian[:, j]).numpy()
        ridge = np.eye(c) * 0.02
        expected = full[:6, :6] - full[:6, 6:] @ np.linalg.solve(full[6:, 6:] + ridge, full[6:, :6])
        np.testing.assert_allclose(found[j], expected, atol=2e-3 * max(np.abs(full[:6, :6]).max(), 1e-3))


def test_curvatures_do_not_depend_on_threads(make_mixture):
    mixture = make_mixture(150)
    np.testing.assert_array_equal(curvatures(mixture, threads=1), curvatures(mixture, threads=3))


class TestRounding:
    STEPS = Steps(size=400, prior=2000)

    def test_feedback_lessens_the_expected_error(self, make_mixture):
        mixture = make_mixture(400)
        curvature = curvatures(mixture)

        def error(rounded):
            shapes, steps = rounded.shapes, self.STEPS
            xx, yx, yy = mixture.factors.double().numpy().T
            middle = mixture.log_priors.sort().values[199].item()
            octave = np.log(2) / FINE
            aspect = shapes["aspect"] * steps.aspect * octave - np.log(xx / yy)
            ratio = np.exp(shapes["aspect"] * steps.aspect * octave)
            size = np.exp(shapes["size"] * steps.size * octave)
            d = rounded.centres - mixture.centres.double().numpy()
            shear = shapes["shear"] * steps.shear / FINE
            by = np.stack(
                [
                    shapes["prior"] * steps.prior / FINE - (mixture.log_priors.double().numpy() - middle),
                    shapes["size"] * steps.size * octave - np.log(xx * yy) / 2,
                    aspect,
                    shear - yx / yy * np.exp(aspect),
                    d[:, 1] * size / np.sqrt(ratio),
                    (d[:, 0] + shear / ratio * d[:, 1]) * size * np.sqrt(ratio),
                ],
                1,
            )
            return np.einsum("ni,nij,nj->", by, curvature, by)

        plain, fed = (error(round_shapes(mixture, self.STEPS, h)) for h in (None, curvature))
        assert fed < 0.9 * plain

    def test_without_curvature_nothing_but_the_shear_makes_up(self, make_mixture):
        mixture = make_mixture(50)
        rounded = round_shapes(mixture, self.STEPS)
        np.testing.assert_array_equal(rounded.centres, mixture.centres.double().numpy())

    def test_kernels_that_nobody_sees_are_rounded_plainly(self, make_mixture):
        mixture = make_mixture(30)
        a, b = round_shapes(mixture, self.STEPS), round_shapes(mixture, self.STEPS, np.zeros((30, 6, 6)))
        for name, values in a.shapes.items():
            np.testing.assert_array_equal(values, b.shapes[name])


@pytest.fixture(scope="module")
def fitted(photo):
    target = torch.from_numpy(photo.transpose(2, 0, 1).copy())
    return fit(target, experts=250, steps=120), target


def decibels(mixture, target) -> float:
    return float(-10 * torch.log10(((render(mixture) - target) ** 2).mean()))


class TestRefit:
    def test_it_is_better_than_rounding(self, fitted):
        mixture, target = fitted
        steps = Steps().scaled(1.5)
        plain = place(mixture, steps)
        plain = plain.recoloured(solve_colours(plain.mixture(), target))
        better = refit(mixture, target, steps)
        assert decibels(better.mixture(), target) > decibels(plain.mixture(), target) + 0.3
        assert len(write_plan(better.finished())) < 1.03 * len(write_plan(plain.finished()))

    def test_without_rounds_it_still_feeds_back(self, fitted):
        mixture, target = fitted
        steps = Steps().scaled(1.5)
        plain = place(mixture, steps)
        plain = plain.recoloured(solve_colours(plain.mixture(), target))
        assert decibels(refit(mixture, target, steps, rounds=0).mixture(), target) > decibels(plain.mixture(), target)

    def test_the_file_holds_what_was_planned(self, fitted):
        mixture, target = fitted
        planned = refit(mixture, target, Steps(), rounds=3).finished()
        assert torch.equal(decode_bytes(write_plan(planned)).mixture.colours, planned.mixture().colours)

    def test_threads_do_not_matter(self, fitted):
        mixture, target = fitted
        one, three = (write_plan(refit(mixture, target, Steps(), rounds=4, threads=n).finished()) for n in (1, 3))
        assert one == three

    @pytest.mark.parametrize("rounds", [0, 3])
    @pytest.mark.parametrize("channels", [1, 2, 4])
    @pytest.mark.parametrize("order", [0, 1])
    def test_all_kinds_of_mixtures(self, make_mixture, rounds, channels, order):
        mixture = make_mixture(30, channels=channels, order=order, width=40, height=30)
        target = render(mixture)
        after = refit(mixture, target, Steps().scaled(0.5), rounds=rounds).mixture()
        assert float((render(after) - target).abs().mean()) < 0.03

    def test_one_kernel(self, make_mixture):
        mixture = make_mixture(1, width=1, height=1)
        after = refit(mixture, torch.full((3, 1, 1), 0.25), Steps()).mixture()
        torch.testing.assert_close(render(after), torch.full((3, 1, 1), 0.25), atol=0.02, rtol=0)

    def test_it_leaves_its_arguments_alone(self, fitted):
        mixture, target = fitted
        before = [t.clone() for t in (mixture.centres, mixture.factors, mixture.colours, target)]
        refit(mixture, target, Steps(), rounds=2)
        after = (mixture.centres, mixture.factors, mixture.colours, target)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    def test_errors(self, fitted):
        mixture, target = fitted
        with pytest.raises(ArgumentError, match="without kernels"):
            refit(mixture[:0], target, Steps())
        with pytest.raises(ShapeError):
            refit(mixture, target[:, 1:], Steps())
