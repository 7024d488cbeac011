"""Augmentation: pictures and labels stay together, draws follow from the seed, and nothing leaves the range."""

from __future__ import annotations

import pytest
import torch

from moesaic.segment.augment import Augmentation
from moesaic.segment.data import IGNORE
from moesaic.training.seeds import generator_for
from moesaic.training.store import Store

PLAIN = Augmentation(scale=(1.0, 1.0), flip=False, jitter=0.0)


@pytest.fixture
def store():
    """Pictures whose colour is their label: green is the class times 20, red the row, blue the column."""
    labels = torch.randint(0, 5, (6, 6, 8), generator=torch.Generator().manual_seed(0)).byte()
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)  # (6, 48, 64): blocks survive scaling
    rows = torch.arange(48).view(1, 48, 1).expand_as(labels).byte()
    columns = torch.arange(64).view(1, 1, 64).expand_as(labels).byte()
    return Store(torch.stack([rows, labels * 20, columns], dim=1), labels)


def _apply(augmentation, store, step=0, chosen=(3, 1, 5, 0)):
    return augmentation(store, list(chosen), generator_for(0, "augmentation", step))


def test_nothing_asked_is_nothing_done(store):
    x, y = _apply(PLAIN, store)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, store.pictures[[3, 1, 5, 0]].float() / 255)
    assert torch.equal(y, store.labels[[3, 1, 5, 0]].long())


@pytest.mark.parametrize("crop", [None, (20, 30), (100, 100)])
@pytest.mark.parametrize("scale", [(0.5, 0.9), (1.0, 1.0), (1.1, 2.0)])
@pytest.mark.parametrize("step", range(3))
def test_labels_stay_with_their_pixels(store, crop, scale, step):
    x, y = _apply(Augmentation(scale=scale, crop=crop, jitter=0.0), store, step)
    assert x.shape[-2:] == y.shape[-2:]
    assert all(side <= most for side, most in zip(y.shape[1:], crop or store.size, strict=True))
    agree = (x[:, 1] * 255 / 20 - y).abs() < 0.3
    assert float(agree.float().mean()) > 0.6  # away from the blocks' borders
    inside = agree[:, 1:-1, 1:-1]
    assert float(inside.float().mean()) > 0.6


def test_a_crop_is_a_window_of_the_picture(store):
    x, _ = _apply(Augmentation(scale=(1.0, 1.0), crop=(20, 30), flip=False, jitter=0.0), store)
    rows, columns = (x[:, 0] * 255).round(), (x[:, 2] * 255).round()
    assert torch.equal(rows[:, 1:] - rows[:, :-1], torch.ones(4, 19, 30))
    assert torch.equal(columns[..., 1:] - columns[..., :-1], torch.ones(4, 20, 29))
    assert len(set(rows[:, 0, 0].tolist())) > 1  # a window of its own for each picture


def test_scaling_shows_more_or_less(store):
    wide, _ = _apply(Augmentation(scale=(2.0, 2.0), flip=False, jitter=0.0), store)
    assert wide.shape[-2:] == (48, 64)
    assert float((wide[:, 0].amax((1, 2)) - wide[:, 0].amin((1, 2))).max() * 255) < 24.5  # half of the rows
    small, _ = _apply(Augmentation(scale=(0.5, 0.5), flip=False, jitter=0.0), store)
    assert small.shape[-2:] == (24, 32)
    assert float((small[:, 0].amax() - small[:, 0].amin()) * 255) > 45  # all rows


def test_no_scale_goes_below_what_a_network_takes(store):
    x, _ = _apply(Augmentation(scale=(0.1, 0.1), least=16), store)
    assert min(x.shape[-2:]) == 16


def test_flips_are_some_pictures_of_a_batch(store):
    x, _ = _apply(Augmentation(scale=(1.0, 1.0), jitter=0.0), store, chosen=range(6), step=1)
    flipped = x[:, 2, 0, 0] > x[:, 2, 0, -1]
    assert 0 < int(flipped.sum()) < 6


def test_jitter_keeps_the_range_and_changes_each_picture(store):
    x, _ = _apply(Augmentation(scale=(1.0, 1.0), flip=False, jitter=0.9), store)
    plain, _ = _apply(PLAIN, store)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    assert (x - plain).abs().amax((1, 2, 3)).min() > 0.01


def test_jitter_by_its_formula():
    from moesaic.segment.augment import GREY, _jittered

    x = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    grey = sum(share * x[:, [i]] for i, share in enumerate(GREY))
    saturated = grey + 0.8 * (x - grey)
    contrasted = grey.mean() + 1.1 * (saturated - grey.mean())
    wanted = (1.2 * contrasted).clamp(0, 1)
    torch.testing.assert_close(_jittered(x.clone(), torch.tensor([[1.2, 1.1, 0.8]])), wanted)


def test_one_seed_one_result(store):
    augmentation = Augmentation()
    first, again, later = (_apply(augmentation, store, step) for step in (4, 4, 5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[0].shape != later[0].shape or not torch.equal(first[0], later[0])


def test_what_is_ignored_stays_ignored(store):
    store.labels[:, :, :32] = IGNORE
    _, y = _apply(Augmentation(scale=(0.75, 1.5)), store)
    assert set(y.unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE}
    assert (y == IGNORE).any()
