"""Usage against figures worked out by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.record import Routing
from moesaic.routing.usage import Usage, class_counts


def routing(weights, *, probabilities=None, grid=None):
    """A record from dense weights (B, P, E), with as many chosen as the place with most experts has."""
    dense = torch.as_tensor(weights, dtype=torch.float32)
    k = int((dense > 0).sum(-1).max())
    chosen_weights, chosen = dense.topk(k, dim=-1)
    p = dense if probabilities is None else torch.as_tensor(probabilities, dtype=torch.float32)
    return Routing(
        weights=chosen_weights, chosen=chosen, probabilities=p, logits=p.log(), grid=grid or (1, dense.shape[1])
    )


# Two pictures of two places, three experts, two of which act at each place.
HAND = [
    [[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]],
    [[0.6, 0.4, 0.0], [0.0, 0.9, 0.1]],
]


@pytest.fixture
def hand():
    usage = Usage()
    for picture in HAND:  # in two batches: sums over batches are part of the example
        usage.add(routing([picture]))
    return usage


def close(a, b):
    torch.testing.assert_close(torch.as_tensor(a).double(), torch.tensor(b).double(), rtol=1e-6, atol=1e-6)


def h(*p):
    """Entropy in nats."""
    return -sum(q * math.log(q) for q in p)


class TestByHand:
    def test_counts(self, hand):
        assert (hand.pictures, hand.places, hand.experts, hand.grid, hand.k) == (2, 4, 3, (1, 2), 2.0)

    def test_shares(self, hand):
        close(hand.assignment_share, [3 / 8, 3 / 8, 2 / 8])
        close(hand.patch_share, [3 / 4, 3 / 4, 2 / 4])
        close(hand.weight_share, [1.85 / 4, 1.55 / 4, 0.6 / 4])

    def test_routing_entropy(self, hand):
        entropy = -(2 * 3 / 8 * math.log(3 / 8) + 2 / 8 * math.log(2 / 8))
        close(hand.routing_entropy, entropy / math.log(3))

    def test_positions(self, hand):
        close(hand.position_share, [[1, 1, 0], [0.5, 0.5, 1]])
        close(hand.position_probabilities, [[0.675, 0.325, 0], [0.25, 0.45, 0.3]])

    def test_what_position_explains(self, hand):
        # Half of the places are left, with mean weights .675, .325, 0; half are right, with .25, .45, .3.
        given = (h(0.675, 0.325) + h(0.25, 0.45, 0.3)) / 2
        entropy = h(1.85 / 4, 1.55 / 4, 0.6 / 4)
        close(hand.position_information, (entropy - given) / entropy)

    def test_who_acts_together(self, hand):
        close(hand.coactivation, [[3 / 4, 2 / 4, 1 / 4], [2 / 4, 3 / 4, 1 / 4], [1 / 4, 1 / 4, 2 / 4]])

    def test_place_entropy(self, hand):
        mean = (h(0.75, 0.25) + h(0.5, 0.5) + h(0.6, 0.4) + h(0.9, 0.1)) / 4
        close(hand.place_entropy, mean)
        close(hand.flatness, mean / math.log(3))

    def test_classes(self):
        labels = torch.tensor([[[0, 0, 1, 1], [0, 255, 1, 0]]])
        usage = Usage(2)
        usage.add(routing([HAND[0]]), labels)
        # The left place shows class 0 on 3 px, the right one class 0 on 1 px and class 1 on 3 px.
        close(usage.class_table, [[2.75 / 4, 0.5], [0.75 / 4, 0], [0.5 / 4, 0.5]])


def test_sums_of_shares():
    generator = torch.Generator().manual_seed(0)
    usage = Usage(5)
    for _ in range(3):
        p = torch.rand(4, 9, 6, generator=generator).softmax(-1)
        top, chosen = p.topk(2, dim=-1)
        labels = torch.randint(0, 5, (4, 13, 11), generator=generator)
        usage.add(
            Routing(weights=top / top.sum(-1, True), chosen=chosen, probabilities=p, logits=p.log(), grid=(3, 3)),
            labels,
        )
    close(usage.assignment_share.sum(), 1.0)
    close(usage.patch_share.sum(), 2.0)
    close(usage.weight_share.sum(), 1.0)
    close(usage.position_share.sum(1), [2.0] * 9)
    close(usage.position_probabilities.sum(1), [1.0] * 9)
    close(usage.class_table.sum(0), [1.0] * 5)
    close(usage.coactivation.diag(), usage.patch_share.tolist())
    close(usage.coactivation.sum(1), (2 * usage.patch_share).tolist())  # each acting expert, with itself and one other


def test_the_largest_share_is_of_the_data_set_not_of_its_batches():
    usage = Usage()
    usage.add(routing([[[1.0, 0.0]] * 4], grid=(2, 2)))
    usage.add(routing([[[0.0, 1.0]] * 4], grid=(2, 2)))
    figures = usage.figures()
    assert figures["top_assignment_share"] == figures["top_patch_share"] == 0.5  # the mean of the batches' maxima is 1
    assert usage.routing_entropy == pytest.approx(1.0)


def test_collapse_and_dead_experts():
    usage = Usage()
    usage.add(routing([[[0.9, 0.0, 0.1, 0.0]] * 2]))
    assert usage.dead == (1, 3)
    assert usage.routing_entropy == pytest.approx(0.5)  # log 2 of log 4
    collapsed = Usage()
    collapsed.add(routing([[[0.0, 1.0, 0.0, 0.0]] * 2]))
    assert collapsed.routing_entropy == 0
    assert math.isnan(collapsed.position_information)  # nothing to explain where nothing varies


def test_chosen_without_weight():
    usage = Usage()
    usage.add(routing([[[0.99, 0.01, 0.0, 0.0], [0.0, 0.0, 0.98, 0.02]]]))
    assert usage.routing_entropy == pytest.approx(1.0)  # each is chosen once
    assert usage.weight_entropy == pytest.approx(0.556, abs=0.001)  # two of four do the work
    assert usage.idle == (1, 3)
    assert usage.dead == ()


def test_even_use_may_be_undecided():
    usage = Usage()
    usage.add(routing([[[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]], probabilities=[[[0.25] * 4] * 2]))
    assert usage.routing_entropy == pytest.approx(1.0)
    assert usage.flatness == pytest.approx(1.0)


def test_position_explains_all_or_nothing():
    by_position, by_picture = Usage(), Usage()
    by_position.add(routing([[[1.0, 0.0], [0.0, 1.0]]] * 3))
    by_picture.add(routing([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2]))
    assert by_position.position_information == pytest.approx(1.0)
    assert by_picture.position_information == pytest.approx(0.0, abs=1e-12)


def test_what_classes_explain():
    labels = torch.tensor([[[0, 0, 1, 1]]])
    apart, mixed = Usage(2), Usage(2)
    apart.add(routing([[[1.0, 0.0], [0.0, 1.0]]]), labels)
    mixed.add(routing([[[0.5, 0.5], [0.5, 0.5]]]), labels)
    assert apart.class_information == pytest.approx(1.0)
    assert mixed.class_information == pytest.approx(0.0, abs=1e-12)


def test_a_choice_of_weight_zero_is_dropped():
    usage = Usage()
    usage.add(
        Routing(
            weights=torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]),
            chosen=torch.tensor([[[0, 1], [0, 1]]]),
            probabilities=torch.full((1, 2, 2), 0.5),
            logits=torch.zeros(1, 2, 2),
            grid=(2, 1),
        )
    )
    assert usage.dropped == 0.25
    assert usage.k == 1.5
    close(usage.patch_share, [1.0, 0.5])


def test_figures_are_json_without_nan():
    usage = Usage(3)
    usage.add(routing([[[1.0]]]), torch.zeros(1, 2, 2, dtype=torch.uint8))
    figures = json.loads(json.dumps(usage.figures(), allow_nan=False))
    assert figures["routing_entropy"] is None  # one expert: no entropy to compare with
    assert figures["class_table"] == [[1.0, None, None]]


class TestClassCounts:
    def test_against_a_loop(self):
        generator = torch.Generator().manual_seed(1)
        labels = torch.randint(0, 4, (2, 7, 10), generator=generator).to(torch.uint8)
        labels[0, :2] = 255
        counts = class_counts(labels, (3, 4), 4)
        for b in range(2):
            for i in range(3):
                for j in range(4):
                    part = labels[b, i * 7 // 3 : (i + 1) * 7 // 3, j * 10 // 4 : (j + 1) * 10 // 4]
                    assert counts[b, i * 4 + j].tolist() == [int((part == c).sum()) for c in range(4)]

    def test_errors(self):
        with pytest.raises(ArgumentError, match="labels hold 4: they must be 0 to 3, or 255"):
            class_counts(torch.full((1, 4, 4), 4), (2, 2), 4)
        with pytest.raises(ArgumentError, match="labels hold -1"):
            class_counts(torch.full((1, 4, 4), -1), (2, 2), 4)
        with pytest.raises(ShapeError, match="finer"):
            class_counts(torch.zeros(1, 2, 4), (3, 2), 4)
        with pytest.raises(ShapeError, match=r"\(B, H, W\)"):
            class_counts(torch.zeros(4, 4), (2, 2), 4)


class TestErrors:
    def test_nothing_added(self):
        with pytest.raises(ArgumentError, match="no routing has been added"):
            _ = Usage().patch_share

    def test_another_grid(self, hand):
        with pytest.raises(ShapeError, match="grid of 2x1 cannot be added to 3 experts on 1x2"):
            hand.add(routing([HAND[0]], grid=(2, 1)))

    def test_labels_of_other_pictures_leave_counts_alone(self):
        usage = Usage(2)
        usage.add(routing([HAND[0]]), torch.zeros(1, 4, 4))
        with pytest.raises(ShapeError, match=r"\(1, H, W\)"):
            usage.add(routing([HAND[1]]), torch.zeros(2, 4, 4))
        assert usage.pictures == 1

    def test_classes(self):
        with pytest.raises(ArgumentError, match="classes"):
            Usage(-1)
