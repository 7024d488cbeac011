"""Batches for training: what is drawn, what is told of it, and that one seed gives one batch."""

from __future__ import annotations

import pytest
import torch

from moesaic.degrade.batch import DEFAULT_MIX, LABELS, degrade_batch
from moesaic.degrade.mix import draw_sorts
from moesaic.degrade.ranges import LABEL_OF, ORDER
from moesaic.errors import ArgumentError, ShapeError

MIX = {**DEFAULT_MIX}


def pictures(count: int = 4, side: int = 40) -> torch.Tensor:
    """Smooth pictures with some contrast."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [((x * (c + 1) + y * (2 - c) + 7 * n) / 9).sin() for n in range(count) for c in range(3)]
    return (0.5 + 0.4 * torch.stack(waves)).reshape(count, 3, side, side)


def drawn(mix: dict[str, float], seed: int = 0, **options: int):
    clean = pictures(**options)
    return clean, degrade_batch(clean, torch.Generator().manual_seed(seed), mix)


@pytest.mark.parametrize("kind", ORDER)
def test_each_kind_changes_every_picture_and_says_so(kind):
    clean, batch = drawn({kind: 1.0}, count=6, side=96)
    assert batch.pictures.shape == clean.shape
    assert batch.pictures.dtype == torch.float32
    assert ((batch.pictures - clean).abs().amax((1, 2, 3)) > 1e-3).all()
    column = LABELS.index(LABEL_OF[kind])
    assert batch.present[:, column].eq(1).all()
    assert batch.present.sum() == 6
    assert batch.severity[batch.present == 0].eq(0).all()
    assert batch.severity.min() >= 0
    assert batch.severity.max() <= 1
    assert batch.severity[:, column].unique().numel() == 6


@pytest.mark.parametrize("kind", ORDER)
def test_only_gaussian_noise_leaves_the_range(kind):
    _, batch = drawn({kind: 1.0}, count=12)
    outside = ((batch.pictures < 0) | (batch.pictures > 1)).flatten(1).any(1)
    assert torch.isfinite(batch.pictures).all()
    if kind == "noise":
        assert 0 < outside.sum() < 12
    else:
        assert not outside.any()


def test_composites_have_two_or_three_labels_and_stay_in_range():
    _, batch = drawn({"composite": 1.0}, count=40)
    assert set(batch.present.sum(1).tolist()) == {2.0, 3.0}
    assert batch.severity.max() <= 0.5 + 0.7 / 2
    assert batch.pictures.min() >= 0
    assert batch.pictures.max() <= 1


def test_the_second_order_chain_is_labelled_by_its_parts():
    clean, batch = drawn({"wild": 1.0, "clean": 0.0}, count=6)
    assert ((batch.pictures - clean).abs().amax((1, 2, 3)) > 1e-2).all()
    assert batch.pictures.min() >= 0
    assert batch.pictures.max() <= 1
    for row in range(6):
        told = {label for label, there in zip(LABELS, batch.present[row].tolist(), strict=True) if there}
        assert told == {"noise", "blur", "jpeg", "resize"}
        assert batch.severity[row].unique().numel() == 2  # the chain's, and 0


def test_clean_pictures_come_back_unchanged():
    clean, batch = drawn({"clean": 1.0})
    assert torch.equal(batch.pictures, clean)
    assert not batch.present.any()
    assert not batch.severity.any()


def test_one_seed_one_batch_and_the_input_is_left_alone():
    clean = pictures(24)
    before = clean.clone()
    one, same, other = (degrade_batch(clean, torch.Generator().manual_seed(seed), MIX) for seed in (1, 1, 2))
    assert torch.equal(clean, before)
    assert torch.equal(one.pictures, same.pictures)
    assert torch.equal(one.severity, same.severity)
    assert torch.equal(one.sort, same.sort)
    assert not torch.equal(one.pictures, other.pictures)


def test_the_sort_is_the_place_in_the_mix_and_follows_the_shares():
    _, batch = drawn({"jpeg": 3.0, "clean": 1.0, "haze": 0.0}, count=200, side=16)
    assert 130 <= (batch.sort == 0).sum() <= 170
    assert not (batch.sort == 2).any()
    assert torch.equal(batch.sort == 0, batch.present[:, LABELS.index("jpeg")] == 1)


def test_heavy_rain_is_more_severe_than_light_rain():
    column = LABELS.index("rain")
    _, light = drawn({"rain": 1.0}, count=8)
    _, heavy = drawn({"heavy_rain": 1.0}, count=8)
    assert light.severity[:, column].max() <= 0.5 <= heavy.severity[:, column].min()


@pytest.mark.parametrize("kind", ["noise", "haze", "motion_blur", "defocus", "low_light", "jpeg", "resize", "snow"])
def test_the_strongest_are_further_from_the_clean_picture_than_the_mildest(kind):
    clean, batch = drawn({kind: 1.0}, count=48)
    error = (batch.pictures - clean).square().mean((1, 2, 3))
    strength = batch.severity.amax(1)
    order = strength.argsort()
    assert error[order[32:]].mean() > 1.2 * error[order[:16]].mean()


def test_small_and_uneven_pictures_work():
    for shape in ((5, 3, 1, 1), (5, 3, 17, 3), (5, 3, 1, 40)):
        for kind in (*ORDER, "composite", "wild"):
            batch = degrade_batch(torch.full(shape, 0.5), torch.Generator().manual_seed(0), {kind: 1.0})
            assert batch.pictures.shape == shape
            assert torch.isfinite(batch.pictures).all()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (0, 3, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(B, 3, H, W\)"):
        degrade_batch(torch.zeros(shape), torch.Generator())


@pytest.mark.parametrize(
    "mix",
    [{"fog": 1.0}, {"noise": -1.0}, {"noise": float("nan")}, {"noise": 0.0}, {}, None, [("noise", 1.0)], {1: 1.0},
     {"noise": "1"}, {"noise": True}, {"noise": 1e-9}, {"noise": 1e9}, {"noise": torch.ones(2)}],
)  # fmt: skip
def test_a_mix_that_means_nothing_is_refused(mix):
    with pytest.raises(ArgumentError, match=r"mix|share"):
        degrade_batch(pictures(1), torch.Generator(), mix)


@pytest.mark.parametrize(
    ("clean", "says"),
    [
        (None, "are a tensor"),
        (torch.zeros((1, 3, 8, 8), dtype=torch.uint8), "float32 in .*, not torch.uint8"),
        (torch.full((1, 3, 8, 8), float("nan")), "no finite number"),
    ],
)
def test_pictures_that_are_none_are_refused(clean, says):
    with pytest.raises(ArgumentError, match=says):
        degrade_batch(clean, torch.Generator())


def test_the_rarest_sort_is_drawn_as_rarely_as_it_says():
    drawn = draw_sorts([1e6, 1.0], 10**6, torch.Generator().manual_seed(0))
    assert drawn.sum() < 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kinds_and_severities_are_the_same_on_a_gpu():
    clean = pictures(32)
    here = degrade_batch(clean, torch.Generator().manual_seed(5), MIX)
    there = degrade_batch(clean.cuda(), torch.Generator().manual_seed(5), MIX)
    assert torch.equal(here.sort, there.sort)
    assert torch.equal(here.severity, there.severity.cpu())
    assert there.pictures.is_cuda
