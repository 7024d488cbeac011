"""The judge of pictures: its shapes, its norm, its losses by their formulas, and that it learns."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.adversarial import UNetDiscriminator, judge_loss, maker_loss


def judge(**options) -> UNetDiscriminator:
    torch.manual_seed(0)
    return UNetDiscriminator(**{"width": 8, "depth": 2, **options})


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (1, 5), (3, 1)])
def test_every_pixel_gets_a_verdict(height, width):
    assert judge()(torch.rand(2, 3, height, width)).shape == (2, 1, height, width)
    assert judge(channels=1)(torch.rand(2, 1, height, width)).shape == (2, 1, height, width)


def test_its_norm_is_about_one():
    network = judge()
    with torch.no_grad():
        for _ in range(60):
            network(torch.rand(1, 3, 8, 8))
    network.eval()
    layers = [*network.down, *network.up, network.mix]
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2) == pytest.approx(1, abs=0.05)


def test_hinge_equals_the_formula():
    real, made = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.25])
    assert float(judge_loss(real, made)) == pytest.approx(0.5 / 2 + 1.25 / 2)
    assert float(maker_loss(made)) == pytest.approx(2.75 / 2)


def test_relativistic_equals_the_formula():
    real, made = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.25])
    chance = torch.nn.functional.binary_cross_entropy_with_logits
    one, two = real - made.mean(), made - real.mean()
    for_judge = (chance(one, torch.ones(2)) + chance(two, torch.zeros(2))) / 2
    for_maker = (chance(one, torch.zeros(2)) + chance(two, torch.ones(2))) / 2
    torch.testing.assert_close(judge_loss(real, made, "relativistic"), for_judge)
    torch.testing.assert_close(maker_loss(made, real, "relativistic"), for_maker)


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_it_learns_to_tell_sharp_from_soft(kind):
    network, generator = judge(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(30):
        real = torch.rand(2, 3, 8, 8, generator=generator)
        made = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1)
        optimiser.zero_grad()
        loss = judge_loss(network(real), network(made), kind)
        loss.backward()
        optimiser.step()
    assert network(real).mean() > network(made).mean() + 0.3
    made.requires_grad_()
    maker_loss(network(made), network(real), kind).backward()
    assert bool((made.grad != 0).any())


def test_what_means_nothing_is_refused():
    for options in ({"channels": 0}, {"width": 1.5}, {"depth": 0}):
        with pytest.raises(ArgumentError):
            judge(**options)
    for bad in (torch.rand(2, 4, 8, 8), torch.rand(3, 8, 8), torch.rand(1, 3, 0, 8)):
        with pytest.raises(ShapeError):
            judge()(bad)
    for call in (lambda: judge_loss(bad, bad, "wgan"), lambda: maker_loss(bad, bad, "wgan")):
        with pytest.raises(ArgumentError, match="hinge, relativistic"):
            call()
    with pytest.raises(ArgumentError, match="real pictures"):
        maker_loss(bad, None, "relativistic")
