"""Mixtures that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moesaic.mixture.model import Mixture

Build = Callable[..., Mixture]


def build(
    kernels: int,
    width: int,
    height: int,
    *,
    channels: int = 3,
    order: int = 0,
    seed: int = 0,
    sigmas: tuple[float, float] = (1.5, 6.0),  # px, along the two axes of each kernel at most and at least
    prior: float = 1.0,  # nats, standard deviation
    box: tuple[float, float, float, float] | None = None,  # where the centres are; the canvas when None
) -> Mixture:
    """Random steered kernels in float64 whose numbers are exact in float32, so that both types mean the same."""
    random = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64)

    left, top, right, bottom = box or (0.0, 0.0, width, height)
    low, high = torch.tensor(sigmas, dtype=torch.float64).log()
    sharp = torch.exp(-(low + (high - low) * uniform(kernels, 2)))
    angle = torch.pi * uniform(kernels)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2)
    lower = torch.linalg.cholesky(turn @ torch.diag_embed(sharp**2) @ turn.mT)
    mixture = Mixture(
        centres=torch.tensor([left, top]) + uniform(kernels, 2) * torch.tensor([right - left, bottom - top]),
        factors=torch.stack([lower[:, 0, 0], lower[:, 1, 0], lower[:, 1, 1]], dim=1),
        log_priors=prior * torch.randn(kernels, generator=random, dtype=torch.float64),
        colours=uniform(kernels, channels),
        slopes=0.2 * (uniform(kernels, channels, 2) - 0.5) if order else None,
        width=width,
        height=height,
    )
    return mixture.to(dtype=torch.float32).to(dtype=torch.float64)


@pytest.fixture(scope="session")
def scatter() -> Build:
    """`build`, a maker of random mixtures."""
    return build
