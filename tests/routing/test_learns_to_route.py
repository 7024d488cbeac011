"""A task that only routing can solve: what a pixel means depends on a texture that changes from patch to patch.

Each patch of a 3x3 grid carries stripes along its rows or its columns, of random phase and under noise, in channel 0.
Channel 1 holds a value for each pixel, drawn independently. A pixel is of class 1 where its value is above 0 in a patch
of row stripes, and where it is below 0 in a patch of column stripes. Either is in half of the patches at each position.

The network sees the texture through a convolution and a ReLU, and its head is one 3x3 convolution over these features
and the value. A single kernel adds what it makes of texture and value, so it cannot turn the value's sign over; one
kernel for each texture can.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from moesaic.routing.audit import audit
from moesaic.routing.collect import balance_loss
from moesaic.routing.convert import sparsify
from moesaic.routing.resampling import PictureScores

GRID, PATCH = 3, 8
SIDE = GRID * PATCH  # px


def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:  # (n, 2, SIDE, SIDE), (n, SIDE, SIDE)
    """Pictures and labels of the task."""
    generator = torch.Generator().manual_seed(seed)
    whole = (n, SIDE, SIDE)

    def per_patch() -> Tensor:  # of 0 or 1
        coins = torch.randint(0, 2, (n, GRID, GRID), generator=generator)
        return coins.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)

    across, phase = per_patch(), per_patch()
    step = torch.arange(SIDE)
    stripes = torch.where(across == 1, step[:, None], step) + phase
    texture = (stripes % 2) * 2.0 - 1 + torch.randn(whole, generator=generator)
    value = torch.rand(whole, generator=generator) * 2 - 1
    return torch.stack([texture, value], dim=1), ((value > 0) ^ (across == 0)).long()


class Network(nn.Module):
    """Features of the texture, then the head, which is the layer to be routed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.head = nn.Conv2d(7, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.stem(x[:, :1]).relu(), x[:, 1:]], dim=1))


def trained(gate: str | None, *, seed: int = 0, steps: int = 120) -> nn.Module:
    """The network after some steps, dense without a gate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = Network()
    if gate is not None:
        model = sparsify(model, "head", experts=4, k=2, grid=GRID, gate=gate, initial="fresh", seed=seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    x, y = draw(512, seed)
    for step in range(steps):
        part = torch.arange(step * 32, step * 32 + 32) % len(x)
        loss = cross_entropy(model(x[part]), y[part]) + balance_loss(model)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


def accuracy(model, seen):
    """Of the pixels of each picture, the share told right."""
    x, y = draw(100, 1000)
    right = []
    for pictures, labels in zip(x.split(25), y.split(25), strict=True):
        right.append((model(pictures).argmax(1) == labels).float().mean((1, 2)))
        seen(labels)
    return PictureScores.of_means(torch.cat(right), name="accuracy", scale=100)


@pytest.fixture(scope="module")
def found():
    # What the head can do without choosing: one kernel; an even mixture; a kernel for each position; kernels by lot.
    others = {"dense": trained(None)} | {gate: trained(gate) for gate in ("uniform", "position", "random")}
    others = {f"trained {name}": model for name, model in others.items()}
    return audit(trained("two_conv"), accuracy, against=others, classes=2)


def test_routed_succeeds(found):
    assert found.score > 97


def test_dense_fails(found):
    scores = {c.name: c.score for c in found.comparisons if c.trained}
    assert sorted(scores) == ["trained dense", "trained position", "trained random", "trained uniform"]
    assert max(scores.values()) < 60  # a coin has 50


def test_shuffled_fails_as_do_all_controls(found):
    scores = {c.name: c.score for c in found.comparisons if not c.trained}
    assert scores["shuffled"] < 60
    assert len(scores) == 8
    assert max(scores.values()) < 65  # some positions of the test pictures have more of one texture by chance


def test_the_gate_tells_textures_apart(found):
    usage = found.usage["head"]
    assert usage.flatness < 0.1  # decided at each place,
    assert usage.routing_entropy > 0.9  # even over all of them,
    assert usage.position_information < 0.05  # wherever they are,
    assert usage.class_information < 0.01  # and not by the classes, of which every patch has half and half


def test_the_verdict(found):
    assert found.verdict().startswith("Routing helps here")
    # One expert for each texture is enough: others may be chosen second, with next to no weight.
    assert all("chosen but get less than a tenth" in warning for warning in found.warnings())


@pytest.mark.parametrize("seed", [1, 2])
def test_with_other_seeds(seed):
    found = audit(trained("two_conv", seed=seed), accuracy)
    assert found.score > 97
    assert found.outcome == "helps"
