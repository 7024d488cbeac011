"""The estimator without weights: each measure rises with its damage, in a picture that is drawn here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from moesaic.degrade.batched.codec import jpeg
from moesaic.degrade.batched.wild import apply_steps
from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.analytic import MEASURES, Analytic, _bands, measure
from moesaic.upscale.analytic_curves import CURVES
from moesaic.upscale.pieces import spread
from moesaic.upscale.truth import NAMES


@pytest.fixture(scope="module")
def scene():
    """Edges, slopes and a little texture: about as sharp as a photograph."""
    rng = np.random.default_rng(0)
    side = 128
    rows, columns = np.mgrid[:side, :side] / side
    picture = np.stack([0.3 + 0.4 * rows, 0.5 - 0.3 * columns, 0.4 + 0.2 * rows * columns], axis=0)
    for _ in range(40):
        y, x, radius = (*rng.integers(0, side, 2).tolist(), int(rng.integers(5, 24)))
        inside = (rows * side - y) ** 2 + (columns * side - x) ** 2 < radius**2
        picture[:, inside] = rng.uniform(0.1, 0.9, (3, 1)) + 0.04 * rng.standard_normal((1, int(inside.sum())))
    clean = torch.from_numpy(picture).float().clamp(0, 1)[None]
    return apply_steps(clean, [blur(0.5)], torch.Generator())


def blur(sigma):
    return {"step": "blur", "shape": "bell", "size": 21, "sigmas": [sigma, sigma], "turn": 0.0, "power": 1.0}


def resize(side):
    return {"step": "resize", "height": side, "width": side, "method": "bicubic"}


def after(scene, *steps):
    return apply_steps(scene, list(steps), torch.Generator().manual_seed(0))


def measured(x, name):
    return measure(x)[0, MEASURES.index(name)]


def test_noise_rises_and_is_told_in_levels(scene):
    told = [
        measured(after(scene, {"step": "noise", "sigma": s, "grey": True, "seed": 0}), "noise") for s in (5, 15, 30)
    ]
    assert told == pytest.approx([5, 15, 30], rel=0.25)


def test_blur_rises(scene):
    told = [measured(x, "blur") for x in (scene, *(after(scene, blur(sigma)) for sigma in (0.7, 1.2, 2)))]
    assert all(before < then for before, then in itertools.pairwise(told))


def test_lost_resolution_rises(scene):
    told = [measured(after(scene, resize(small), resize(128)), "resolution") for small in (128, 64, 32)]
    assert all(before < then for before, then in itertools.pairwise(told))


def test_blocks_rise_in_every_phase(scene):
    plain = measured(scene, "jpeg")
    told = [measured(jpeg(scene, [quality]), "jpeg") for quality in (70, 40, 15)]
    assert plain < told[0] < told[1] < told[2]
    for shift in (1, 3, 6):
        assert measured(jpeg(scene, [15])[..., shift:, shift:], "jpeg") == pytest.approx(told[2], rel=0.2)


def test_white_noise_fills_the_bands_as_is_known():
    noise = torch.randn(1, 1, 600, 600, generator=torch.Generator().manual_seed(0))
    from moesaic.upscale.analytic import _WHITE

    assert _bands(noise)[0].tolist() == pytest.approx(_WHITE, rel=0.02)


def test_scores_are_in_their_range_and_batches_do_not_mix(scene):
    noisy = after(scene, {"step": "noise", "sigma": 40, "grey": False, "seed": 0})
    both = Analytic()(torch.cat([scene, noisy]))
    assert (both.names, both.values.shape, both.severity.shape) == (NAMES, (2, 4), (2,))
    assert bool(((both.values >= 0) & (both.values <= 1)).all())
    assert float(both.values[1, 0]) > float(both.values[0, 0]) + 0.3
    assert float(both.severity[1]) > float(both.severity[0])
    torch.testing.assert_close(both.values[1:], Analytic()(noisy).values)


@pytest.mark.parametrize("size", [(8, 8), (8, 40), (17, 9)])
def test_small_and_flat_pictures(size):
    for x in (torch.zeros(1, 3, *size), torch.ones(1, 3, *size), torch.rand(1, 3, *size)):
        said = Analytic()(x)
        assert bool(said.values.isfinite().all())
        assert bool(said.severity.isfinite().all())


def test_large_pictures_are_judged_by_pieces(scene, monkeypatch):
    x = scene.repeat(1, 1, 2, 2)
    whole = measure(x)[0]
    monkeypatch.setattr(spread, "__defaults__", (64, 9))
    assert len(spread(x)) == 9
    assert measure(x)[0, 0] == pytest.approx(whole[0], abs=1.5)


def test_curves_rise_and_what_is_typical_does():
    assert set(CURVES) == set(NAMES)
    for xs, ys in CURVES.values():
        assert (np.diff(xs) > 0).all()
        assert (np.diff(ys) >= 0).all()
        assert 0 <= ys[0] < ys[-1] <= 1
    values = torch.cat([Analytic().at(place / 10).values for place in range(11)])
    assert bool((values.diff(dim=0) >= 0).all())
    assert bool((values[-1] > values[0]).all())


def test_what_is_no_picture():
    with pytest.raises(ShapeError, match="too small"):
        Analytic()(torch.rand(1, 3, 1, 1))
    with pytest.raises(ArgumentError, match="no finite numbers"):
        Analytic()(torch.full((1, 3, 9, 9), float("nan")))
