"""All routed layers of a model at once; that the losses add up is in test_convert.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.routing import balance_loss, collect, recording, routed_layers, sparsify


@pytest.fixture
def model():
    torch.manual_seed(0)
    return sparsify(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)), ["0", "2"], 3).eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))


def test_layers_by_name_in_the_order_of_modules(model):
    assert list(routed_layers(model)) == ["0", "2"]
    assert list(routed_layers(model[0])) == [""]
    assert routed_layers(model[1]) == {}


def test_in_use_nothing_is_recorded_unless_asked(model, x):
    model(x)
    for read in (collect, balance_loss):
        with pytest.raises(ArgumentError, match=r"'0' has recorded nothing: .* within recording\(model\)"):
            read(model)


def test_recording_ends_with_its_block_and_what_it_recorded_stays(model, x):
    with recording(model):
        model(x)
    first = collect(model)
    model(-x)
    assert all(collect(model)[name] is routing for name, routing in first.items())


def test_recording_ends_after_an_error_and_within_another(model, x):
    with recording(model):
        with pytest.raises(RuntimeError, match="stop"), recording(model):
            raise RuntimeError("stop")
        assert all(layer.record for layer in routed_layers(model).values())
    assert not any(layer.record for layer in routed_layers(model).values())


def test_the_last_pass_counts_and_batches_may_differ(model, x):
    model.train()
    model(x)
    model(x[:1])
    assert {routing.weights.shape[0] for routing in collect(model).values()} == {1}


def test_a_dense_model_has_a_loss_of_nothing():
    dense = nn.Conv2d(3, 3, 1).double()
    assert balance_loss(dense).shape == ()
    assert balance_loss(dense) == 0
    assert balance_loss(nn.ReLU()) == 0
    assert collect(dense) == {}


def test_losses_reach_a_gate_but_not_the_experts_behind_it(model, x):
    model.train()
    model(x)
    balance_loss(model).backward()
    layers = routed_layers(model)
    assert all(p.grad.abs().max() > 0 for p in layers["0"].gate.parameters())
    assert all(p.grad is None for p in layers["2"].experts.parameters())
