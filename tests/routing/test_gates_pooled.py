from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from moesaic.routing.gate import ConvPool, PooledLinear, TwoConvPool
from moesaic.routing.grid import boxes, place_mean

GRID = (2, 3)


@pytest.fixture
def x():
    return torch.randn(2, 5, 9, 13, generator=torch.Generator().manual_seed(0))


def means(y):
    """(B, P, C) by slices."""
    return torch.stack([y[:, :, i:j, k:m].mean((2, 3)) for i, j, k, m in boxes(9, 13, GRID)], dim=1)


def test_linear(x):
    torch.manual_seed(0)
    gate = PooledLinear(5, 4, 2)
    with torch.no_grad():
        gate.bias.normal_()
    want = functional.linear(means(x), gate.weight, gate.bias)
    torch.testing.assert_close(gate.scores(x, GRID), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_conv(x, kernel):
    torch.manual_seed(0)
    gate = ConvPool(5, 4, 2, kernel=kernel)
    assert gate.weight.shape == (4, 5, kernel, kernel)
    want = means(functional.conv2d(x, gate.weight, padding=kernel // 2))
    torch.testing.assert_close(gate.scores(x, GRID), want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("norm", ["channel", "batch", "none"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_two_convolutions_are_what_their_description_says(x, norm, activation, kernel, training, last):
    """Convolution, norm, activation, 1x1 convolution, mean, in this order and without short cuts."""
    torch.manual_seed(0)
    gate = TwoConvPool(5, 4, 2, norm=norm, activation=activation, kernel=kernel).train(training)
    hidden = functional.conv2d(x, gate.first, padding=kernel // 2)
    if norm == "channel":
        nn.init.normal_(gate.gain)
        nn.init.normal_(gate.shift)
        hidden = functional.layer_norm(hidden.permute(0, 2, 3, 1), (8,), gate.gain, gate.shift).permute(0, 3, 1, 2)
    if norm == "batch":
        statistics = [None, None] if training else [torch.rand(8), torch.rand(8) + 0.5]
        if not training:
            gate.batch_norm.running_mean.copy_(statistics[0])
            gate.batch_norm.running_var.copy_(statistics[1])
        hidden = functional.batch_norm(hidden, *statistics, training=training)
    if activation is not None:
        hidden = getattr(functional, activation)(hidden)
    want = means(functional.conv2d(hidden, gate.second[:, :, None, None]))
    if last:
        x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(gate.scores(x, GRID), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["channel", "none"])
def test_gradients_of_two_convolutions(x, norm):
    torch.manual_seed(0)
    gate = TwoConvPool(2, 3, 2, hidden=3, norm=norm).double()
    small = x[:1, :2, :4, :5].double().requires_grad_()
    for given in (small, small.detach().to(memory_format=torch.channels_last).requires_grad_()):
        assert torch.autograd.gradcheck(lambda x, w: gate.scores(x, GRID) + 0 * w.sum(), (given, gate.first))


def test_only_the_channel_norm_differs_from_a_linear_map(x):
    """As published, in use: scores of the place's mean are the mean of the pixels' scores."""
    torch.manual_seed(0)
    flat = place_mean(x, (1, 1))[:, 0, :, None, None]
    for norm, linear in (("batch", True), ("none", True), ("channel", False)):
        gate = TwoConvPool(5, 4, 2, norm=norm).eval()
        with torch.no_grad():
            difference = (gate.scores(x, (1, 1)) - gate.scores(flat, (1, 1))).abs().max().item()
        assert (difference < 1e-6) is linear, norm


def test_channel_norm_does_not_look_at_brightness(x):
    torch.manual_seed(0)
    gate = TwoConvPool(5, 4, 2)
    torch.testing.assert_close(gate.scores(20 * x, GRID), gate.scores(x, GRID), atol=1e-3, rtol=1e-3)
    assert (gate.scores(0 * x, GRID) == 0).all()


def test_only_the_batch_norm_looks_at_other_pictures(x):
    torch.manual_seed(0)
    for norm, looks in (("batch", True), ("none", False), ("channel", False)):
        gate = TwoConvPool(5, 4, 2, norm=norm).train()
        together, alone = gate.scores(x, GRID)[:1], gate.scores(x[:1], GRID)
        assert torch.allclose(together, alone, atol=1e-6) is not looks, norm
