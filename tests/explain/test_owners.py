"""Owners are where the reference's gates are the heaviest, and what is spread over them stays whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.explain.owners import owned, owners, spread
from moesaic.mixture import reference


def expected(mixture, size, region):
    exact = mixture.to(dtype=torch.float64)
    gates = reference.gates(exact, reference.pixel_points(size, region))
    return gates.argmax(dim=1).reshape(size[1], size[0]).numpy()


@pytest.mark.parametrize(
    ("n", "size"), [(1, (50, 37)), (40, (50, 37)), (600, (50, 37)), (40, (1, 1)), (3000, (40, 33))]
)
def test_owners_have_the_heaviest_gate(make_mixture, n, size):
    mixture = make_mixture(n, width=size[0], height=size[1])
    own = owners(mixture)
    assert (own.shape, own.dtype) == ((size[1], size[0]), np.int32)
    np.testing.assert_array_equal(own, expected(mixture, size, (0.0, 0.0, *map(float, size))))


def test_a_part_at_another_size(make_mixture):
    mixture, region = make_mixture(120), (10.5, -2.0, 31.0, 12.25)
    np.testing.assert_array_equal(owners(mixture, size=(61, 43), region=region), expected(mixture, (61, 43), region))


def test_far_from_all_kernels_the_nearest_owns(make_mixture):
    mixture = make_mixture(2, width=400, height=90)
    mixture.centres.copy_(torch.tensor([[3.0, 3.0], [390.0, 80.0]]))
    mixture.factors.copy_(torch.tensor([[1.0, 0.0, 1.0]]).expand(2, 3))
    mixture.log_priors.zero_()
    np.testing.assert_array_equal(owners(mixture), expected(mixture, (400, 90), (0.0, 0.0, 400.0, 90.0)))


def test_many_kernels_in_one_tile(make_mixture, monkeypatch):
    mixture = make_mixture(300, width=16, height=16)
    whole = owners(mixture)
    monkeypatch.setattr("moesaic.explain.owners._AT_ONCE", 7 * 256)
    np.testing.assert_array_equal(owners(mixture), whole)


def test_pixels_are_counted(make_mixture):
    own = owners(make_mixture(90))
    counts = owned(own, 90)
    assert (len(counts), counts.sum()) == (90, own.size)


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_spread_stays_whole(make_mixture, scale):
    mixture = make_mixture(500)
    own = owners(mixture, size=(50 * scale, 37 * scale))
    assert (owned(own, 500) == 0).any()  # some own nothing
    values = np.random.default_rng(0).uniform(10, 90, 500)
    kept = values.copy()
    found = spread(values, own, mixture)
    assert found.shape == own.shape
    assert found.sum() == pytest.approx(values.sum())
    np.testing.assert_array_equal(values, kept)


def test_wrong_mixtures(make_mixture):
    with pytest.raises(ShapeError, match="without kernels"):
        owners(make_mixture(3)[:0])
    broken = make_mixture(3)
    broken.centres[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match="not finite"):
        owners(broken)
