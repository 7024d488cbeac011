from __future__ import annotations

from dataclasses import replace
from math import exp, log

import pytest
import torch

from moesaic.mixture import reference
from moesaic.mixture.model import Mixture

DOUBLE = torch.float64


def by_hand(order):
    """Three kernels on 2x2 pixels: a round one, a narrow one with twice the prior, and a sheared one."""
    return Mixture(
        centres=torch.tensor([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]], dtype=DOUBLE),
        factors=torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=DOUBLE),
        log_priors=torch.tensor([0.0, log(2), 0.0], dtype=DOUBLE),
        colours=torch.tensor([[0.0], [1.0], [4.0]], dtype=DOUBLE),
        slopes=torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[-1.0, 0.5]]], dtype=DOUBLE) if order else None,
        width=2,
        height=2,
    )


# of the pixels at (0.5, 0.5), (1.5, 0.5), (0.5, 1.5) and (1.5, 1.5), each row by kernel
WEIGHTS = [
    [1.0, 2 * exp(-2.0), exp(-1.0)],
    [exp(-0.5), 2.0, exp(-0.5)],
    [exp(-0.5), 2 * exp(-2.5), 1.0],
    [exp(-1.0), 2 * exp(-0.5), exp(-0.5)],
]
VALUES = {
    0: [[0, 1, 4]] * 4,
    1: [[0, 1, 3.5], [1, 1, 2.5], [0, 3, 4], [1, 3, 3]],
}


@pytest.mark.parametrize("order", [0, 1])
def test_three_kernels_on_four_pixels_by_hand(order):
    expected = [
        sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        for weights, values in zip(WEIGHTS, VALUES[order], strict=True)
    ]
    picture = reference.render(by_hand(order))
    assert picture.shape == (1, 2, 2)
    torch.testing.assert_close(picture.flatten(), torch.tensor(expected, dtype=DOUBLE), rtol=0, atol=1e-14)


def test_gates_by_hand_and_in_sum():
    mixture = by_hand(0)
    gates = reference.gates(mixture, reference.pixel_points((2, 2), (0, 0, 2, 2)))
    weights = torch.tensor(WEIGHTS, dtype=DOUBLE)
    torch.testing.assert_close(gates, weights / weights.sum(1, keepdim=True), rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", [0, 1])
def test_passes_gradcheck(scatter, order):
    mixture = scatter(4, 5, 4, channels=2, order=order).requires_grad_()
    tensors = tuple(mixture._tensors().values())
    names = tuple(mixture._tensors())

    def draw(*values):
        return reference.render(replace(mixture, **dict(zip(names, values, strict=True))))

    assert torch.autograd.gradcheck(draw, tensors)


def test_gates_sum_to_one_even_far_away(scatter):
    mixture = scatter(20, 40, 30)
    far = torch.tensor([[-1e4, 3e5], [0.0, 0.0], [20.0, 15.0]], dtype=DOUBLE)
    torch.testing.assert_close(reference.gates(mixture, far).sum(1), torch.ones(3, dtype=DOUBLE))


@pytest.mark.parametrize("order", [0, 1])
def test_order_of_kernels_does_not_matter(scatter, order):
    mixture = scatter(20, 13, 9, order=order)
    torch.testing.assert_close(reference.render(mixture[torch.randperm(20)]), reference.render(mixture))


@pytest.mark.parametrize("order", [0, 1])
def test_a_shift_of_centres_shifts_the_picture(scatter, order):
    mixture = scatter(20, 20, 16, order=order)
    moved = replace(mixture, centres=mixture.centres + torch.tensor([3.0, -2.0]))
    torch.testing.assert_close(
        reference.render(moved, size=(20, 16), region=(3, -2, 23, 14)), reference.render(mixture)
    )


def test_a_common_constant_of_priors_changes_nothing(scatter):
    mixture = scatter(20, 13, 9)
    raised = replace(mixture, log_priors=mixture.log_priors + 40.0)
    torch.testing.assert_close(reference.render(raised), reference.render(mixture))


def test_chunks_do_not_show(scatter):
    mixture = scatter(20, 13, 9)
    torch.testing.assert_close(reference.render(mixture, chunk=5), reference.render(mixture, chunk=1000))


def test_pixel_points_of_a_region():
    points = reference.pixel_points((2, 1), (1.0, 3.0, 5.0, 4.0))
    assert points.tolist() == [[2.0, 3.5], [4.0, 3.5]]
