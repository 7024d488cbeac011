"""The rival has to draw the same picture, or beating it means nothing."""

import numpy as np
import pytest
import torch

from benchmarks.plain_torch import Form, PlainRenderer
from moesaic import Mixture
from moesaic.mixture import reference


def _mixture() -> Mixture:
    g = torch.Generator().manual_seed(3)
    n = 40
    return Mixture(
        centres=torch.rand(n, 2, generator=g) * torch.tensor([50.0, 37.0]),
        factors=torch.stack(
            [
                0.1 + 0.3 * torch.rand(n, generator=g),
                0.2 * torch.randn(n, generator=g),
                0.1 + 0.3 * torch.rand(n, generator=g),
            ],
            1,
        ),
        log_priors=0.5 * torch.randn(n, generator=g),
        colours=torch.rand(n, 3, generator=g),
        width=50,
        height=37,
    )


@pytest.mark.parametrize("driver", ["inner", "outer"])
@pytest.mark.parametrize("chunk", [1, 5, 100])
@pytest.mark.parametrize("arithmetic", ["direct", "matrix"])
def test_with_exact_lists_it_equals_the_reference_in_value_and_gradient(
    arithmetic: str, chunk: int, driver: str
) -> None:
    mixture = _mixture()
    form = Form(arithmetic=arithmetic, lists="exact", chunk=chunk, driver=driver)
    plain = PlainRenderer(mixture, form, threads=2)
    target = torch.from_numpy(np.random.default_rng(0).random((3, 37, 50), dtype=np.float32))
    exact = mixture.to(dtype=torch.float64)._map(lambda t: t.clone().requires_grad_())
    picture = reference.render(exact)
    assert torch.allclose(plain.render().double(), picture, atol=2e-5)
    for mask in (None, (torch.arange(50) % 3 == 0).float().expand(37, 50)):
        errors = (picture - target) ** 2 * (1.0 if mask is None else mask)
        slopes = torch.autograd.grad(errors.sum(), list(exact._tensors().values()), retain_graph=True)
        expected = torch.cat([s.reshape(len(s), -1) for s in slopes], 1)
        found = plain.gradient(target, mask=mask).double()
        assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_boxes_list_every_tile_within_their_deviations() -> None:
    mixture = _mixture()
    form = Form(arithmetic="matrix", lists="boxes", chunk=4, driver="inner")
    chunks = PlainRenderer(mixture, form, threads=1).prepare()
    listed = {
        (int(t), int(k))
        for tiles, kernels, empty in zip(chunks.tiles, chunks.kernels, chunks.empty, strict=True)
        for t, row, gone in zip(tiles, kernels, empty, strict=True)
        for k in row[~gone]
    }
    assert len(listed) == chunks.pairs  # none twice
    y, x = torch.meshgrid(torch.arange(37) + 0.5, torch.arange(50) + 0.5, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], 1)
    logits = reference.logits(mixture.centres, mixture.factors, torch.zeros(40), points)
    tiles = (points[:, 1] // 16 * 4 + points[:, 0] // 16).long()
    near = {(int(tiles[p]), int(k)) for p, k in (logits > -0.5 * 3.3**2).nonzero()}
    assert near <= listed
