from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture import reference
from moesaic.mixture.colours import pack, solve_colours, unpack
from moesaic.mixture.render import render


def basis(mixture):
    """The matrix (pixels, K) whose product with a channel's experts is that channel of the picture."""
    points = reference.pixel_points((mixture.width, mixture.height), (0, 0, mixture.width, mixture.height))
    gates = reference.gates(mixture, points)
    if mixture.order == 0:
        return gates
    offsets = points[:, None] - mixture.centres
    return torch.cat([gates, gates * offsets[..., 0], gates * offsets[..., 1]], dim=1)


def experts(mixture):
    if mixture.slopes is None:
        return mixture.colours
    return torch.cat([mixture.colours, mixture.slopes[..., 0], mixture.slopes[..., 1]], dim=0)


def random_target(mixture, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(mixture.channels, mixture.height, mixture.width, generator=random, dtype=torch.float64)


def error(mixture, target):
    return float((reference.render(mixture) - target).square().sum())


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("damping", [0.05, 3.0])
def test_equals_dense_least_squares(scatter, order, damping):
    mixture = scatter(12, 24, 18, order=order, sigmas=(2.0, 4.0))
    target = random_target(mixture)
    matrix, before = basis(mixture), experts(mixture)
    damped = torch.cat([matrix, damping**0.5 * torch.eye(matrix.shape[1])])
    sides = torch.cat([target.flatten(1).T, damping**0.5 * before])
    expected = torch.linalg.lstsq(damped, sides).solution
    solved = solve_colours(mixture, target, steps=300 if order else 60, damping=damping)
    torch.testing.assert_close(experts(solved), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("steps", [1, 10])
def test_crowds_whose_products_find_no_room_are_solved_all_the_same(scatter, steps, monkeypatch):
    mixture = scatter(40, 40, 30)
    kept = solve_colours(mixture, random_target(mixture), steps=steps)
    monkeypatch.setattr("moesaic.mixture.colours._ROOM", 0)
    monkeypatch.delattr("moesaic.mixture.colours.gram")
    drawn = solve_colours(mixture, random_target(mixture), steps=steps)
    torch.testing.assert_close(drawn.colours, kept.colours, rtol=0, atol=2e-4)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_is_never_worse_than_before(scatter, order, steps):
    mixture = scatter(40, 40, 30, order=order, seed=steps)
    target = random_target(mixture)
    some = error(solve_colours(mixture, target, steps=steps), target)
    assert some < error(mixture, target)
    assert error(solve_colours(mixture, target, steps=2 * steps), target) <= some * (1 + 1e-6)


def test_finds_the_colours_that_drew_the_target(scatter):
    mixture = scatter(12, 40, 30, sigmas=(2.0, 4.0))
    target = reference.render(mixture)
    grey = replace(mixture, colours=torch.full_like(mixture.colours, 0.5))
    solved = solve_colours(grey, target, steps=60, damping=1e-6)
    torch.testing.assert_close(solved.colours, mixture.colours, rtol=0, atol=2e-3)


def test_keeps_what_is_already_best(scatter):
    mixture = scatter(12, 40, 30, order=1)
    target = reference.render(mixture)
    assert error(solve_colours(mixture, target), target) < 1e-6


def test_leaves_geometry_and_the_given_mixture_alone(scatter):
    mixture = scatter(12, 40, 30, order=1).requires_grad_()
    before = mixture.colours.detach().clone()
    solved = solve_colours(mixture, random_target(mixture))
    assert solved.centres is mixture.centres
    assert torch.equal(mixture.colours, before)
    assert solved.colours.dtype == mixture.dtype
    assert not solved.colours.requires_grad


def test_kernels_that_no_pixel_sees_keep_their_colours(scatter):
    mixture = scatter(12, 40, 30)
    mixture.centres[4] += 10_000.0
    solved = solve_colours(mixture, random_target(mixture))
    torch.testing.assert_close(solved.colours[4], mixture.colours[4])
    assert bool(solved.colours.isfinite().all())


def test_no_steps_change_nothing(scatter):
    mixture = scatter(12, 40, 30)
    assert torch.equal(solve_colours(mixture, random_target(mixture), steps=0).colours, mixture.colours)


@pytest.mark.parametrize("order", [0, 1])
def test_pack_and_unpack_are_inverse(scatter, order):
    mixture = scatter(7, 40, 30, channels=2, order=order).to(dtype=torch.float32)
    back = unpack(pack(mixture), 40, 30)
    assert all(torch.equal(t, getattr(back, name)) for name, t in mixture._tensors().items())
    assert torch.equal(render(back), render(mixture))


@pytest.mark.parametrize("shape", [(1, 30, 40), (3, 40, 30), (30, 40)])
def test_refuses_targets_of_another_shape(scatter, shape):
    with pytest.raises(ShapeError, match="target"):
        solve_colours(scatter(5, 40, 30), torch.zeros(shape))


@pytest.mark.parametrize("option", [{"steps": -1}, {"damping": -0.1}])
def test_refuses_negative_numbers(scatter, option):
    mixture = scatter(5, 40, 30)
    with pytest.raises(ArgumentError, match="negative"):
        solve_colours(mixture, random_target(mixture), **option)


def test_refuses_what_cannot_be_drawn(scatter):
    mixture = scatter(5, 40, 30)
    with pytest.raises(ShapeError, match="without kernels"):
        solve_colours(mixture[:0], random_target(mixture))
    mixture.centres[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match="centres"):
        solve_colours(mixture, random_target(mixture))
