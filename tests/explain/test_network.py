"""Any network that `sparsify` touched: its layers are shown, and it is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from moesaic import explain, read_picture, routing
from moesaic.errors import ArgumentError
from moesaic.explain.network import explain_network
from moesaic.segment.routing_picture import COLOURS


class Small(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(layers))
        self.linear = nn.Linear(3, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(x)
        out: torch.Tensor = self.linear(self.drop(x).flatten(2).transpose(1, 2))
        return out


@pytest.fixture
def picture(photo):
    return read_picture(photo[:48, :64])


def test_each_layer_is_told(picture):
    network = routing.sparsify(Small(2), ["convs.*", "linear"], experts=4, k=2, grid=(3, 4))
    network.train()
    network.convs[0].eval()
    found = explain_network(network, picture, name="a.png")
    assert (found.kind, found.title) == ("routing", "a.png")
    layers = found.figures["layers"]
    assert list(layers) == ["convs.0", "convs.1", "linear"]
    for layer in layers.values():
        assert (layer["experts"], layer["k"]) == (4, 2)
        assert sum(layer["shares"]) == pytest.approx(1, abs=1e-3)
    assert layers["convs.0"]["grid"] == [3, 4]
    assert network.training
    assert network.drop.training
    assert not network.convs[0].training
    assert not network.convs[1].record


def test_colours_are_those_of_the_heaviest_expert(picture):
    network = routing.sparsify(Small(), "convs.0", experts=3, k=1, grid=1, gate="position", seed=0)
    found = explain_network(network, picture)
    (layer,) = found.figures["layers"].values()
    acting = int(np.argmax(layer["shares"]))
    assert layer["shares"][acting] == 1
    sheet = np.rint(found.picture.pixels * 255).astype(int)
    assert (sheet == COLOURS[acting]).all(axis=2).sum() > 500  # its bar
    for other in {0, 1, 2} - {acting}:
        assert not (sheet == COLOURS[other]).all(axis=2).any()


def test_inputs_that_are_no_picture(picture):
    network = routing.sparsify(Small(), "convs.0", experts=2, k=1, grid=2)
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    explain_network(network, picture, torch.zeros(2, 3, 8, 8))
    explain_network(network, picture, [torch.zeros(1, 3, 9, 9)])
    assert [tuple(shape) for shape in seen] == [(2, 3, 8, 8), (1, 3, 9, 9)]


def test_more_patches_than_pixels_and_more_layers_than_fit(picture):
    fine = routing.sparsify(Small(), "convs.0", experts=2, k=1, grid=(40, 400))
    many = explain_network(fine, picture, torch.zeros(1, 3, 40, 400))
    assert many.figures["layers"]["convs.0"]["grid"] == [40, 400]
    deep = explain_network(routing.sparsify(Small(30), "convs.*", experts=20, k=1, grid=2), picture)
    assert len(deep.figures["layers"]) == 30
    assert deep.picture.height < 8000


def test_through_the_call(photo):
    network = routing.sparsify(Small(), "convs.0", experts=2, k=1, grid=2)
    assert explain(photo[:32, :32], "routing", model=network).kind == "routing"
    assert list(explain(photo[:64, :64], "routing", model="enet_moe_camvid_nc").figures["layers"])


def test_refusals(picture, photo):
    with pytest.raises(ArgumentError, match="no routed layer to show"):
        explain_network(Small(), picture)
    with pytest.raises(ArgumentError, match="network of yours"):
        explain(photo[:32, :32], "routing")
    with pytest.raises(ArgumentError, match="not Small"):
        explain(photo[:32, :32], "restoration", model=Small())
    unused = routing.sparsify(nn.ModuleDict({"a": Small(), "b": nn.Conv2d(3, 3, 1)}), "b", experts=2, k=1, grid=2)
    unused.forward = unused["a"].forward
    with pytest.raises(ArgumentError, match="recorded nothing"):
        explain_network(unused, picture)
