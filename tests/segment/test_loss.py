"""The loss against torch's own, and the weights of classes against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from moesaic.segment.data import IGNORE
from moesaic.segment.loss import class_weights, pixel_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 5, 6), generator=generator)
    labels[0, :2] = IGNORE
    return torch.randn(2, 4, 5, 6, generator=generator, requires_grad=True), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_is_torch_s_weighted_mean(batch, weights, smoothing):
    logits, labels = batch
    wanted = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(pixel_loss(logits, labels, weights, smoothing), wanted)


def test_a_batch_without_labels_is_no_nan(batch):
    logits, labels = batch
    loss = pixel_loss(logits, torch.full_like(labels, IGNORE), None, 0.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_weights_by_their_formulas():
    labels = torch.full((2, 10, 10), IGNORE, dtype=torch.uint8)
    labels[0, :8], labels[0, 8:], labels[1, :1] = 0, 1, 1  # 80 of class 0; 20 and 10 of class 1; class 2 is nowhere
    shares = [80 / 110, 30 / 110, 0]
    wanted = [1 / math.log(1.02 + share) for share in shares]
    assert class_weights(labels, 3, "enet").tolist() == pytest.approx(wanted)
    frequencies = [80 / 100, 30 / 110]
    middle = min(frequencies)  # torch takes the lower of two
    wanted = [middle / frequencies[0], middle / frequencies[1], 0]
    assert class_weights(labels, 3, "median").tolist() == pytest.approx(wanted)
    assert class_weights(labels, 3, "none") is None
