"""Kernels decay; biases, norms and single numbers do not."""

from __future__ import annotations

from torch import nn

from moesaic.training.optimiser import parameter_groups


def test_kernels_decay_and_the_rest_does_not():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model.register_parameter("experts_bias", nn.Parameter(model[2].weight.detach().clone()))  # of two axes
    model[2].bias.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert {id(p) for p in plain["params"]} == {
        id(p) for p in (model[0].bias, model[1].weight, model[1].bias, model.experts_bias)
    }
