"""Pairs to learn from: shrunk as Pillow shrinks, severities as asked for, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.pairs import SORTS, make_pairs, shrunk


def clean(count: int = 6, side: int = 48) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def pairs(mix, scale=4, seed=0, **options):
    return make_pairs(clean(**options), torch.Generator().manual_seed(seed), scale, mix)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_shrinks_as_pillow(scale):
    large = clean(1)
    size = (48 // scale, 48 // scale)
    for channel in range(3):
        theirs = np.asarray(Image.fromarray(large[0, channel].numpy()).resize(size, Image.Resampling.BICUBIC))
        assert np.abs(shrunk(large, scale)[0, channel].numpy() - theirs).max() < 1e-6


def test_bicubic_does_nothing_else():
    made = pairs({"bicubic": 1})
    levels = made.low * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    assert (made.low - shrunk(clean(), 4).clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    assert made.chains == [[]] * 6
    assert made.severity.tolist() == [0] * 6


@pytest.mark.parametrize("sort", ["mild", "medium", "severe", "full"])
@pytest.mark.parametrize("scale", [2, 4])
def test_severities_are_those_of_the_sort(sort, scale):
    made = pairs({sort: 1}, scale, count=24)
    least, most = SORTS[sort]
    assert made.low.shape == (24, 3, 48 // scale, 48 // scale)
    assert least <= made.severity.min() < least + 0.35 * (most - least)
    assert most - 0.35 * (most - least) < made.severity.max() <= most
    assert all(chain[-1]["step"] in ("jpeg", "sinc", "resize") for chain in made.chains)


def test_the_same_seed_gives_the_same_pairs():
    first, again, other = (pairs({"bicubic": 1, "full": 2}, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.low, again.low)
    assert first.chains == again.chains
    assert torch.equal(first.sort, again.sort)
    assert not torch.equal(first.low, other.low)


def test_sorts_follow_the_mix():
    made = pairs({"bicubic": 3, "severe": 1, "mild": 0}, count=200, side=8)
    counts = torch.bincount(made.sort, minlength=3).tolist()
    assert counts[2] == 0
    assert 120 < counts[0] < 180


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ({"rain": 1}, "the mix names 'rain'"),
        ({"mild": -1}, "the share of 'mild'"),
        ({"mild": float("nan")}, "the share of 'mild'"),
        ({"mild": 0}, "no sort a share above 0"),
        ({}, "no sort a share above 0"),
    ],
)
def test_wrong_mixes(mix, says):
    with pytest.raises(ArgumentError, match=says):
        pairs(mix)


def test_wrong_pictures():
    with pytest.raises(ShapeError, match="no multiples of the scale 3"):
        make_pairs(clean(side=32), torch.Generator(), 3, {"mild": 1})
    with pytest.raises(ShapeError, match="clean pictures have the shape"):
        make_pairs(clean()[:, :1], torch.Generator(), 4, {"mild": 1})
