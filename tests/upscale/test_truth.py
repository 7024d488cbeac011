"""The truth of degraded pictures: what the steps say, against what is measured in pictures that went through them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from moesaic.degrade.batched.wild import apply_steps
from moesaic.degrade.wild import draw_steps
from moesaic.errors import ArgumentError
from moesaic.upscale.truth import (
    BLUR_MOST,
    NAMES,
    NOISE_MOST,
    scores_of_steps,
    true_scores,
    typical_scores,
)

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def noise(sigma, grey=False):
    return {"step": "noise", "sigma": sigma, "grey": grey, "seed": 1}


def blur(sigma, size=21):
    return {"step": "blur", "shape": "bell", "size": size, "sigmas": [sigma, sigma], "turn": 0.0, "power": 1.0}


def resize(height, width, method="bicubic"):
    return {"step": "resize", "height": height, "width": width, "method": method}


def jpeg(quality):
    return {"step": "jpeg", "quality": quality}


def score(name, steps, side=128, **options):
    return scores_of_steps(steps, side, side, **options)[NAMES.index(name)]


def levels_left(steps, side=256):
    """The deviation of luma that noise leaves in a grey plane, levels."""
    plane = torch.full((1, 3, side, side), 0.5)
    with_noise = apply_steps(plane, steps, torch.Generator().manual_seed(0))
    return float(255 * (with_noise * LUMA).sum(1).std())


def test_nothing_done_is_nothing_true():
    assert scores_of_steps([], 32, 40) == (0, 0, 0, 0)
    assert scores_of_steps([resize(8, 10)], 32, 40) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "steps",
    [
        [noise(20)],
        [noise(20, grey=True)],
        [noise(30), resize(128, 128, "area")],
        [noise(30), resize(64, 64, "area")],
        [noise(30), blur(1.0)],
        [noise(20), noise(15)],
        [noise(25, grey=True), jpeg(60)],
        [noise(12), resize(128, 128, "area"), jpeg(80)],
    ],
)
def test_noise_is_what_is_left_of_it(steps):
    told = NOISE_MOST * score("noise", steps, side=256) ** 2
    assert told == pytest.approx(levels_left(steps), rel=0.25, abs=0.7)


def test_poisson_noise_follows_the_light():
    steps = [{"step": "poisson", "strength": 2.0, "grey": True, "seed": 3}]
    told = NOISE_MOST * score("noise", steps, light=0.5) ** 2
    assert told == pytest.approx(levels_left(steps), rel=0.1)
    assert score("noise", steps, light=0.1) < score("noise", steps, light=0.6)


def width_left(steps, side=255):
    """How much wider than a pixel a point becomes, px, by the share of its energy that is left."""
    plane = torch.full((1, 1, side, side), 0.0, dtype=torch.float64)
    plane[..., side // 2, side // 2] = 1
    for step in steps:
        sigma = step["sigmas"][0]
        taps = torch.exp(-0.5 * (torch.arange(-40, 41).double() / sigma) ** 2)
        taps /= taps.sum()
        plane = torch.nn.functional.conv2d(plane, taps.view(1, 1, 1, -1), padding=(0, 40))
        plane = torch.nn.functional.conv2d(plane, taps.view(1, 1, -1, 1), padding=(40, 0))
    return math.sqrt(1 / (4 * math.pi * float((plane**2).sum()))) - math.sqrt(1 / (4 * math.pi))


@pytest.mark.parametrize("steps", [[blur(1.0)], [blur(2.0)], [blur(1.0), blur(1.5)]])
def test_blur_is_the_width_of_a_point(steps):
    assert BLUR_MOST * score("blur", steps) ** 2 == pytest.approx(width_left(steps), rel=0.05)


def test_blur_before_a_shrink_is_narrower_after_it():
    assert score("blur", [blur(2), resize(32, 32)]) < score("blur", [blur(2)])
    assert score("blur", [resize(32, 32), resize(128, 128)]) > 0.5
    assert score("blur", [{"step": "sinc", "size": 21, "cutoff": math.pi / 3}]) > score(
        "blur", [{"step": "sinc", "size": 21, "cutoff": math.pi}]
    )
    assert score("blur", [blur(0.1)]) == pytest.approx(0, abs=1e-6)


def test_jpeg_fades_with_what_follows():
    assert [score("jpeg", [jpeg(quality)]) for quality in (100, 95, 10, 1)] == [0, 0, 1, 1]
    late, early = score("jpeg", [jpeg(30)]), score("jpeg", [jpeg(30), resize(32, 32)])
    assert late == pytest.approx(65 / 85)
    assert 0 < early < 0.4 * late
    assert score("jpeg", [jpeg(30), jpeg(90)]) == pytest.approx(late)


def test_resolution_is_the_smallest_size_against_the_last():
    assert score("resolution", [resize(32, 32), resize(128, 128)]) == pytest.approx(0.75)
    assert score("resolution", [resize(256, 256), resize(64, 64)]) == 0


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("noise", [[noise(sigma)] for sigma in (1, 5, 20, 50, 55)]),
        ("blur", [[blur(sigma)] for sigma in (0.4, 1, 2, 3)]),
        ("jpeg", [[jpeg(quality)] for quality in (94, 60, 30, 10)]),
        ("resolution", [[resize(128 // by, 128 // by), resize(128, 128)] for by in (2, 3, 4)]),
    ],
)
def test_scores_rise_with_the_damage_and_say_nothing_else(name, steps):
    told = [score(name, one) for one in steps]
    assert all(0 < before < after <= 1 for before, after in itertools.pairwise(told))
    if name != "resolution":  # a smaller size blurs as well
        others = scores_of_steps(steps[-1], 128, 128)
        assert sum(others) == pytest.approx(others[NAMES.index(name)])


def test_batches_and_the_severity_of_what_has_none():
    chains = [[noise(54)], [jpeg(95)], draw_steps(np.random.default_rng(0), 64, 64, 0.7, 2)]
    true = true_scores(chains, [None, None, 0.7], 64, 64)
    assert (true.names, true.values.shape, true.values.dtype) == (NAMES, (3, 4), torch.float32)
    assert true.severity.tolist() == pytest.approx([1, 0, 0.7], abs=0.01)
    assert true_scores([], [], 8, 8).values.shape == (0, 4)


def test_typical_scores_rise():
    typical = typical_scores()
    assert typical.shape == (11, 4)
    assert (np.diff(typical, axis=0) >= 0).all()
    assert (typical[0] == 0).all()
    assert (typical[-1] > 0.15).all()


@pytest.mark.parametrize(
    ("steps", "says"),
    [([{"step": "sharpen"}], "'step' is one of"), ([{"step": "jpeg"}], "quality"), ([noise(-1)], "sigma")],
)
def test_what_is_no_chain(steps, says):
    with pytest.raises(ArgumentError, match=says):
        scores_of_steps(steps, 16, 16)


def test_what_does_not_pair():
    with pytest.raises(ArgumentError, match="do not pair"):
        true_scores([[]], [0.5, 0.5], 16, 16)
    with pytest.raises(ArgumentError, match="at least 1x1"):
        scores_of_steps([], 0, 16)
