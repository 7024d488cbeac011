"""Sheets about segmentation: every routed layer, and how many pixels of a class fall to an expert."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic import zoo
from moesaic.errors import ArgumentError
from moesaic.explain.segmentation import by_class, explain_segmentation
from moesaic.picture import Picture
from moesaic.routing.record import Routing
from moesaic.segment.use import Segmentation, segment


def routing(chosen, weights, grid=(1, 2)):
    chosen, weights = torch.tensor([chosen]), torch.tensor([weights])
    full = torch.zeros(1, chosen.shape[1], 3).scatter(2, chosen, weights)
    return Routing(weights=weights, chosen=chosen, probabilities=full, logits=full.log(), grid=grid)


def test_pixels_of_a_class_by_expert():
    labels = np.array([[0, 0, 1, 1], [0, 1, 1, 1]], np.uint8)
    table = by_class(labels, routing([[0, 2], [2, 0]], [[0.75, 0.25], [1.0, 0.0]]), 3)
    np.testing.assert_allclose(table, [[2.25, 0.75, 0], [0, 0, 0], [0.75, 4.25, 0]])


@pytest.mark.parametrize("size", [(60, 90), (31, 200), (2, 4)])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_row_for_each_layer(size, channels):
    pixels = np.random.default_rng(0).uniform(0, 1, (*size, channels)).astype(np.float32)
    one = routing([[0, 2], [2, 0]], [[0.75, 0.25], [0.5, 0.5]])
    found = [
        explain_segmentation(
            Segmentation(
                labels=np.arange(size[0] * size[1]).reshape(size).astype(np.uint8) % 3,
                names=("sky", "ground", "a class of a very long name " * 4),
                colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
                picture=Picture(pixels=pixels),
                routing=layers,
            ),
            name="street.png",
        )
        for layers in ({"a": one}, {"a": one, "b": one})
    ]
    assert found[0].picture.width == 1200
    assert found[1].picture.height > found[0].picture.height + 100
    assert found[1].figures["layers"] == ["a", "b"]


def test_a_network(photo):
    torch.manual_seed(0)
    network = zoo.create_model("enet", classes=3, width=0.25, experts=4, k=2, grid=2).eval()
    found = explain_segmentation(segment(photo, network), name="a", model="toy")
    assert sum(found.figures["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert found.figures["layers"]


def test_a_dense_network(photo):
    network = zoo.create_model("enet", classes=3, width=0.25).eval()
    with pytest.raises(ArgumentError, match="no routing to show"):
        explain_segmentation(segment(photo, network))
