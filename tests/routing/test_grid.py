from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.grid import bounds, boxes, join, patches, place_mean, read_grid, spread


@given(st.integers(1, 40), st.integers(0, 60))
def test_bounds_cut_a_length_into_runs_that_differ_by_one(parts, more):
    ends = bounds(parts + more, parts)
    runs = [b - a for a, b in itertools.pairwise(ends)]
    assert (ends[0], ends[-1], len(runs)) == (0, parts + more, parts)
    assert max(runs) - min(runs) <= 1
    assert runs[-1] == max(runs) == -(-(parts + more) // parts)  # what windows of one size rely on


def test_a_grid_that_divides_the_map_makes_no_phantom_patch():
    assert boxes(6, 6, (3, 3))[-1] == (4, 6, 4, 6)
    assert len(boxes(6, 6, (3, 3))) == 9


@pytest.mark.parametrize("size", [(7, 9), (3, 2), (12, 8)])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_join_undoes_patches(size, grad, form):
    x = torch.randn(2, 4, *size).to(memory_format=form)
    with torch.set_grad_enabled(grad):
        assert torch.equal(join(patches(x, (3, 2)), (3, 2)), x)


def test_spread_is_constant_over_each_patch():
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    expected = torch.tensor([[1.0, 2.0, 2.0], [3.0, 4.0, 4.0], [3.0, 4.0, 4.0]])
    assert torch.equal(spread(values, 3, 3, (2, 2))[0, 0], expected)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(7, 11), (6, 9)])
def test_place_mean_is_the_mean_of_each_patch(form, size):
    x = torch.randn(2, 5, *size).to(memory_format=form)
    expected = torch.stack([patch.mean((2, 3)) for patch in patches(x, (3, 3))], dim=1)
    assert torch.allclose(place_mean(x, (3, 3)), expected, atol=1e-6)


def test_place_mean_is_exact_in_half_precision_and_under_autocast():
    x = torch.randn(1, 3, 30, 30)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(place_mean(x, (3, 3)), place_mean(x, (3, 3)).float())
        assert torch.allclose(
            place_mean(x, (3, 3)), torch.stack([p.mean((2, 3)) for p in patches(x, (3, 3))], 1), atol=1e-6
        )
    assert place_mean(x.bfloat16(), (3, 3)).dtype == torch.float32


def test_place_mean_has_the_right_gradient():
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: place_mean(x, (2, 3)), (x,))


@pytest.mark.parametrize("grid", [0, -1, (3, 0), (3,), (1, 2, 3), "3", 2.5, True, None])
def test_what_is_no_grid_is_refused(grid):
    with pytest.raises(ArgumentError, match="grid"):
        read_grid(grid)


def test_a_grid_larger_than_the_map_is_refused():
    with pytest.raises(ShapeError, match="grid of 3 patches does not fit a map of 2"):
        place_mean(torch.zeros(1, 1, 2, 8), (3, 3))
