"""The audit of a segmentation network whose gate is set by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.metrics import confusion_matrix, mean_iou
from moesaic.routing.collect import routed_layers
from moesaic.routing.convert import sparsify
from moesaic.segment.audit import audit_segmentation, mean_ious
from moesaic.training.store import Store


def store(n=24, *, side=8, seed=0):
    """Pictures of two channels, a value and a mark constant over a quarter; class 1 where both are high or both low."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2, (n, side, side), generator=generator)
    marks = torch.randint(0, 2, (n, 2, 2), generator=generator)
    marks = marks.repeat_interleave(side // 2, 1).repeat_interleave(side // 2, 2)
    labels = (values == marks).to(torch.uint8)
    labels[:, 0, 0] = 255
    pictures = (torch.stack([values, marks], dim=1) * 255).to(torch.uint8)
    return Store(pictures, labels)


def network():
    """Two experts, one for either mark: each tells the class from the value alone."""
    model = sparsify(nn.Sequential(nn.Conv2d(2, 2, 1)), "0", experts=2, k=1, grid=2, gate="linear")
    layer = routed_layers(model)["0"]
    with torch.no_grad():
        layer.experts.weight.zero_()
        layer.experts.kernels[0, 1, 0] = 1.0  # mark high: class 1 where the value is high
        layer.experts.kernels[1, 1, 0] = -1.0
        layer.experts.bias.copy_(torch.tensor([[0.5, 0.0], [0.5, 1.0]]))
        layer.gate.weight.copy_(torch.tensor([[0.0, 9.0], [0.0, -9.0]]))
        layer.gate.bias.copy_(torch.tensor([-4.5, 4.5]))
    return model


def test_mean_ious_are_those_of_the_metrics():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randint(0, 9, (40, 3, 3), generator=generator)
    matrices[:10, 2] = 0  # a class absent from the truth
    matrices[:5, :, 2] = 0  # and from the prediction
    matrices[0] = 0
    want = torch.tensor([mean_iou(matrix) for matrix in matrices], dtype=torch.float64)
    torch.testing.assert_close(mean_ious(matrices.double()), want, equal_nan=True)


@pytest.fixture(scope="module")
def found():
    return audit_segmentation(network(), store(), 2, batch=5)


def test_routing_that_solves_the_task(found):
    assert (found.name, found.unit, found.score, found.pictures) == ("mIoU", "points", 100.0, 24)
    assert [c.name for c in found.comparisons] == ["shuffled", "uniform", "random", "position", "forced:0", "forced:1"]
    assert found.outcome == "helps"
    assert max(c.score for c in found.comparisons) < 80


def test_experts_and_classes(found):
    usage = found.usage["0"]
    assert usage.pictures == 24
    # Of 16 px a place, half have either class; the corner without a class is left out.
    assert usage.class_table.shape == (2, 2)
    assert usage.class_information < 0.01
    assert usage.flatness < 0.1


def test_the_score_is_of_one_matrix_over_all_pictures():
    data = store()
    model = network()
    with torch.no_grad():
        model[0].experts.bias[0, 0] = 2.0  # class 0 always, where the mark is high
        found = audit_segmentation(model, data, 2, controls=("uniform",))
        predicted = model(data.pictures.float() / 255).argmax(1)
    assert found.score == pytest.approx(100 * mean_iou(confusion_matrix(predicted, data.labels, 2)))
    assert found.low < found.score < found.high


def test_batches_do_not_change_the_score():
    scores = [audit_segmentation(network(), store(), 2, batch=batch, controls=("uniform",)) for batch in (1, 7, 100)]
    assert len({(one.score, one.comparisons[0].score) for one in scores}) == 1


def test_against_a_dense_network():
    found = audit_segmentation(network(), store(), 2, controls=(), against={"dense": nn.Conv2d(2, 2, 1)})
    assert [(c.name, c.trained, c.outcome) for c in found.comparisons] == [("dense", True, "helps")]


class TestErrors:
    def test_no_labels(self):
        with pytest.raises(ArgumentError, match="no labelled pictures"):
            audit_segmentation(network(), Store(store().pictures), 2)

    def test_batch(self):
        with pytest.raises(ArgumentError, match="batch must be 1 or more"):
            audit_segmentation(network(), store(), 2, batch=0)

    def test_other_classes(self):
        with pytest.raises(ShapeError, match=r"logits of \(8, 3, 8, 8\) for these labels, not \(8, 2, 8, 8\)"):
            audit_segmentation(network(), store(), 3)


@pytest.mark.parametrize("resamples", [0, 10**6 + 1, 10**30, 2.5, "x"])
def test_draws_that_cannot_be(resamples):
    with pytest.raises(ArgumentError, match="resamples"):
        audit_segmentation(network(), store(4), 3, resamples=resamples)


def test_pictures_without_a_label_cannot_be_scored():
    data = store(4)
    data = Store(data.pictures, torch.full_like(data.labels, 255))
    with pytest.raises(ArgumentError, match="data has no labelled pictures"):
        audit_segmentation(network(), data, 3)
