from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.restore.cost import macs, work
from moesaic.restore.published import MoceIR
from moesaic.restore.window_mixing import mix_windows
from moesaic.routing import RoutedExperts, Routing, sparsify
from moesaic.routing.gate import make_gate


class Windows(nn.Module):
    """Nothing but FFTs: three for each window and channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return mix_windows(x, x, 4)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.routed = RoutedExperts(
            [nn.Identity(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=2)],
            make_gate("uniform", 4, 3, 1),
            grid=1,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.routed(self.stem(x))


def test_by_hand():
    pixels = 4 * 5
    stem, experts = pixels * 4 * 27, (0, pixels * 16, pixels * 4 * 18)
    assert work(Tiny(), 8, 10).experts == {"routed": experts}
    for expert, more in enumerate(experts):
        assert macs(Tiny(), 8, 10, experts=expert) == stem + more
        assert macs(Tiny(), 8, 10, experts={"routed": expert}) == stem + more
    assert macs(Tiny(), 8, 10) == stem + max(experts)
    assert work(Tiny(), 8, 10, within="routed").fixed == 0
    assert macs(nn.Conv2d(3, 2, 1), 8, 10) == 8 * 10 * 6


def test_ffts():
    # 6x5 px are 2x2 windows of 16 numbers; two transforms forth and one back.
    assert macs(Windows(), 6, 5) == 3 * (3 * 4) * 2.5 * 16 * math.log2(16)
    assert macs(Windows(), 6, 5, with_ffts=False) == 0


def test_the_network_is_left_alone():
    network = Tiny().train()
    before = {name: p.clone() for name, p in network.named_parameters()}
    work(network, 8, 8)
    assert network.training
    assert network.routed.how == "auto"
    assert network.routed.routing is None
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_cost_of_routings():
    found = work(Tiny(), 8, 10)
    logits = torch.tensor([[[2.0, 0.0, 1.0]], [[0.0, 0.0, 3.0]]], requires_grad=True)
    p = logits.softmax(-1)
    routing = Routing(
        weights=torch.ones(2, 1, 1), chosen=p.argmax(-1)[..., None], probabilities=p, logits=logits, grid=(1, 1)
    )
    costs = found.cost({"routed": routing})
    torch.testing.assert_close(costs, torch.tensor([found.fixed / found.dearest, 1.0]))
    assert not costs.requires_grad
    expected = found.expected_cost({"routed": routing})
    each = torch.tensor(found.experts["routed"])
    torch.testing.assert_close(expected, ((found.fixed + p[:, 0] @ each) / found.dearest).mean())
    expected.backward()
    assert logits.grad[0, 0, 2] > 0 > logits.grad[0, 0, 0]


@pytest.mark.parametrize(
    ("width", "table"), [(32, (32.5, 32.9, 33.8, 36.6)), (48, (70.9, 71.7, 73.7, 79.6))], ids=["S", "full"]
)
def test_multiply_adds_of_the_published_sizes(width, table):
    """As measured on the reference code at 224x224, in 10^9, with each expert forced; FFTs were not counted there."""
    with torch.device("meta"):
        network = MoceIR(width)
    found = work(network, 224, 224, with_ffts=False)
    assert [found.chosen(expert) / 1e9 for expert in range(4)] == pytest.approx(table, abs=0.06)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="experts 0 to 2 of layer 'routed'"):
        macs(Tiny(), 8, 8, experts=3)
    with pytest.raises(ArgumentError, match="routed"):
        macs(Tiny(), 8, 8, experts={})
    with pytest.raises(ArgumentError, match="at least 1 px"):
        macs(Tiny(), 0, 8)
    with pytest.raises(ArgumentError, match="'body' is none"):
        work(Tiny(), 8, 8, within="body")
    kernels = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    sparsify(kernels, ["0"], experts=2, k=1, inplace=True)
    with pytest.raises(ArgumentError, match="mixes kernels"):
        work(kernels, 8, 8)
