"""The bootstrap against a loop, against known standard errors, and as a comparison in pairs."""

from __future__ import annotations

import math
import time

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.resampling import PictureScores, interval, resampled


def normal(n, mean=0.0, sd=1.0, seed=0):
    return mean + sd * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def accuracy(sums):
    """Of confusion matrices, the share on the diagonal: no mean over pictures, as pictures weigh by their pixels."""
    return sums.diagonal(dim1=-2, dim2=-1).sum(-1) / sums.sum((-2, -1))


def test_by_hand():
    matrices = torch.tensor([[[3, 1], [0, 0]], [[0, 0], [4, 8]]])
    scores = PictureScores(parts=matrices, score=accuracy)
    assert scores.pictures == 2
    assert scores.total() == 11 / 16  # of 16 px, not (3/4 + 8/12) / 2
    drawn = {round(value, 6) for value in resampled([scores], resamples=200)[0].tolist()}
    assert drawn == {0.75, 0.6875, 0.666667}  # the first twice, both, the second twice


def test_scores_come_from_summed_parts_drawn_anew():
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randint(0, 50, (7, 3, 3), generator=generator)
    got = resampled([PictureScores(parts=matrices, score=accuracy)], resamples=20, seed=5)[0]
    draws = torch.randint(7, (20, 7), generator=torch.Generator().manual_seed(5))
    want = [float(accuracy(matrices[draw].sum(0).double())) for draw in draws]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_pieces_do_not_change_the_draws(monkeypatch):
    scores = [PictureScores.of_means(normal(30))]
    whole = resampled(scores, resamples=50, seed=2)
    monkeypatch.setattr("moesaic.routing.resampling._AT_ONCE", 90)
    assert torch.equal(whole, resampled(scores, resamples=50, seed=2))


def test_same_seed_same_draws():
    scores = [PictureScores.of_means(normal(20))]
    assert torch.equal(resampled(scores, seed=1), resampled(scores, seed=1))
    assert not torch.equal(resampled(scores, seed=1), resampled(scores, seed=2))


def test_the_interval_of_a_mean_is_that_of_the_textbook():
    values = normal(400, mean=3.0, sd=2.0)
    low, high = interval(resampled([PictureScores.of_means(values)], resamples=4000)[0])
    error = 1.96 * float(values.std()) / math.sqrt(400)
    assert low == pytest.approx(float(values.mean()) - error, abs=0.02)
    assert high == pytest.approx(float(values.mean()) + error, abs=0.02)


def test_pairs_cancel_what_pictures_have_in_common():
    hard = normal(100, sd=10.0)
    a, b = (PictureScores.of_means(v) for v in (hard + 1 + normal(100, sd=0.1, seed=1), hard))
    samples = resampled([a, b])
    low, high = interval(samples[0] - samples[1])
    assert 0.95 < low < 1 < high < 1.05
    alone_low, alone_high = interval(samples[0])
    assert alone_high - alone_low > 3


def test_equal_arms_differ_by_nothing():
    a = PictureScores.of_means(normal(50))
    samples = resampled([a, a])
    assert interval(samples[0] - samples[1]) == (0.0, 0.0)


def test_blocks_widen_the_interval_where_neighbours_are_alike():
    values = normal(40).repeat_interleave(10)  # 400 frames, 40 scenes
    scores = [PictureScores.of_means(values)]
    single, scenes = (interval(resampled(scores, block=block)[0]) for block in (1, 10))
    ratio = (scenes[1] - scenes[0]) / (single[1] - single[0])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)


def test_a_last_shorter_block_keeps_its_pictures():
    scores = PictureScores.of_means(torch.tensor([1.0, 2.0, 3.0, 4.0, 9.0]))
    drawn = set(resampled([scores], block=4, resamples=100)[0].tolist())
    assert drawn == {2.5, 3.8, 9.0}


def test_interval_leaves_out_draws_without_a_score():
    samples = torch.cat([torch.arange(101, dtype=torch.float64), torch.full((7,), math.nan, dtype=torch.float64)])
    assert interval(samples) == pytest.approx((2.5, 97.5))
    assert interval(samples, 0.5) == pytest.approx((25.0, 75.0))


def test_a_camvid_of_confusion_matrices_takes_little_time():
    matrices = torch.randint(0, 10_000, (233, 11, 11), generator=torch.Generator().manual_seed(0))
    scores = PictureScores(parts=matrices, score=accuracy)
    start = time.process_time()
    assert resampled([scores], resamples=2000).shape == (1, 2000)
    assert time.process_time() - start < 20  # takes 0.05 s; a loop over draws would take minutes


def test_errors():
    scores = PictureScores.of_means(torch.ones(3))
    with pytest.raises(ShapeError, match="same pictures, not 3, 4 of them"):
        resampled([scores, PictureScores.of_means(torch.ones(4))])
    with pytest.raises(ArgumentError, match="arms"):
        resampled([])
    with pytest.raises(ArgumentError, match="resamples and block"):
        resampled([scores], block=0)
    with pytest.raises(ArgumentError, match="level"):
        interval(torch.ones(3), 1.0)
    with pytest.raises(ShapeError, match="at least one picture"):
        PictureScores(parts=torch.zeros(0, 2, 2), score=accuracy)
    with pytest.raises(ShapeError, match="one for each picture"):
        PictureScores.of_means(torch.ones(3, 2))
