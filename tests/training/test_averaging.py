"""Averaged weights against their formula, and a network that gets its own back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.training.averaging import Average


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _change(model, number):
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
            else:
                value.fill_(number)


def test_is_the_bias_corrected_mean_of_what_it_saw(model):
    average = Average(model, 0.9)
    seen = []
    for number in range(1, 6):
        _change(model, number)
        average.update(model)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
    shares = torch.tensor([0.9 ** (5 - i) for i in range(1, 6)], dtype=torch.float64)
    shares /= shares.sum()
    for name, value in average.weights().items():
        if value.is_floating_point():
            wanted = sum(share * one[name].double() for share, one in zip(shares, seen, strict=True))
            torch.testing.assert_close(value.double(), wanted, atol=1e-6, rtol=1e-6)
        else:
            assert int(value) == 5


def test_without_decay_it_follows(model):
    average = Average(model, 0.0)
    for number in (1, 2):
        _change(model, number)
        average.update(model)
    torch.testing.assert_close(dict(average.weights()), dict(model.state_dict()), atol=0, rtol=0)


def test_is_applied_within_a_block_only(model):
    average = Average(model, 0.5)
    _change(model, 1)
    average.update(model)
    averaged = {name: value.clone() for name, value in average.weights().items()}
    _change(model, 2)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.applied(model):
        assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
        model(torch.rand(2, 3, 8, 8))  # the statistics of the norm move
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, averaged[name]) for name, value in average.weights().items())


def test_goes_on_from_its_state(model):
    first, second = Average(model, 0.7), Average(model, 0.7)
    for number in (1, 2):
        _change(model, number)
        first.update(model)
    second.load_state_dict(first.state_dict())
    _change(model, 3)
    first.update(model)
    second.update(model)
    assert all(torch.equal(value, second.weights()[name]) for name, value in first.weights().items())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decays_that_cannot_be(model, decay):
    with pytest.raises(ArgumentError, match="decay"):
        Average(model, decay)
