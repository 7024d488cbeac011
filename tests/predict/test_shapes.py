"""Raw numbers and kernels: zeros are a start's kernels, the way back is exact, and pictures can be turned."""

from __future__ import annotations

import pytest
import torch

from moesaic.mixture.start import WIDTH
from moesaic.predict.shapes import PRIOR, RAW, SHAPE, SHARPEST, SHIFT, geometry, raw_of

COUNT = 60


@pytest.fixture
def around():
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(COUNT, 2, dtype=torch.float64, generator=generator) * 50
    spacing = 8 + 3 * torch.rand(COUNT, dtype=torch.float64, generator=generator)
    return places, spacing


def some_raw(seed=1, scale=1.0):
    return scale * torch.randn(COUNT, RAW, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_zeros_are_the_round_kernels_of_a_start(around):
    places, spacing = around
    found = geometry(torch.zeros(COUNT, RAW, dtype=torch.float64), places, spacing)
    assert torch.equal(found.centres, places)
    assert found.log_priors.abs().max() == 0
    torch.testing.assert_close(found.factors[:, 0], 1 / (WIDTH * spacing), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.factors[:, 2], 1 / (WIDTH * spacing), rtol=1e-9, atol=0)
    assert found.factors[:, 1].abs().max() < 1e-12


def test_the_precision_is_the_exponential_of_the_matrix(around):
    places, spacing = around
    raw = some_raw(scale=0.5)
    l_xx, l_yx, l_yy = geometry(raw, places, spacing).factors.unbind(1)
    a, b, c = (2.5 * torch.tanh(raw[:, SHAPE] / 2.5)).unbind(1)
    m = torch.stack([torch.stack([a, b], 1), torch.stack([b, c], 1)], 1)
    expected = torch.linalg.matrix_exp(2 * m) / (WIDTH * spacing)[:, None, None] ** 2
    factor = torch.stack([torch.stack([l_xx, 0 * l_xx], 1), torch.stack([l_yx, l_yy], 1)], 1)
    torch.testing.assert_close(factor @ factor.mT, expected, rtol=1e-8, atol=1e-10)


def test_the_way_back_is_exact(around):
    raw = some_raw()
    found = raw_of(geometry(raw, *around), *around)
    torch.testing.assert_close(found, raw[:, : PRIOR.stop], rtol=1e-6, atol=1e-8)


def test_what_is_out_of_bounds_comes_back_at_its_bounds(around):
    far = geometry(some_raw(scale=100.0), *around)
    back = raw_of(far, *around)
    assert bool(back.isfinite().all())
    assert float(far.factors[:, [0, 2]].max()) <= SHARPEST
    assert float(far.factors[:, [0, 2]].min()) > 0


def test_turned_pictures_have_turned_kernels(around):
    places, spacing = around
    raw = some_raw()
    turned = raw.clone()  # by a quarter: x becomes y, y becomes -x
    turned[:, SHIFT] = torch.stack([raw[:, 1], -raw[:, 0]], 1)
    turned[:, SHAPE] = torch.stack([raw[:, 4], -raw[:, 3], raw[:, 2]], 1)
    here = geometry(raw, places, spacing)
    there = geometry(turned, torch.stack([places[:, 1], -places[:, 0]], 1), spacing)
    torch.testing.assert_close(there.centres, torch.stack([here.centres[:, 1], -here.centres[:, 0]], 1))

    def precision(factors):
        l_xx, l_yx, l_yy = factors.unbind(1)
        return l_xx**2, l_xx * l_yx, l_yx**2 + l_yy**2

    p, q = precision(here.factors), precision(there.factors)
    torch.testing.assert_close(q, (p[2], -p[1], p[0]))


def test_gradients_are_right_and_finite_at_the_start(around):
    places, spacing = (value[:5] for value in around)
    raw = some_raw()[:5].requires_grad_()
    assert torch.autograd.gradcheck(lambda r: torch.cat([v.flatten() for v in geometry(r, places, spacing)]), (raw,))
    zero = torch.zeros(5, RAW, dtype=torch.float64, requires_grad=True)
    sum(value.sum() for value in geometry(zero, places, spacing)).backward()
    assert bool(zero.grad.isfinite().all())
