from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.routing.conftest import forced_routing, make_routing


def test_sizes_are_read_from_the_tensors():
    routing = make_routing(2, 5, 3, (2, 4))
    assert (routing.experts, routing.k, routing.places) == (5, 3, 8)


def test_dense_by_hand():
    chosen = torch.tensor([[[2, 0], [1, 3]]])
    weights = torch.tensor([[[0.75, 0.25], [0.5, 0.5]]])
    routing = forced_routing(chosen, weights, 4, (1, 2))
    assert routing.dense().tolist() == [[[0.25, 0, 0.75, 0], [0, 0.5, 0, 0.5]]]


def test_dense_keeps_the_kind_of_the_weights_and_their_gradient():
    routing = make_routing(2, 4, 2, (3, 3), dtype=torch.float64)
    dense = routing.dense()
    assert dense.dtype == torch.float64
    factors = torch.randn(2, 9, 4, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((dense * factors).sum(), routing.weights)
    assert torch.equal(gradient, factors.gather(2, routing.chosen))


def test_a_record_is_not_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_routing(1, 2, 1, (1, 1)).grid = (2, 2)
