"""Mixtures to store: random ones with the statistics of real fits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moesaic.mixture.model import Mixture


def _make(
    n: int = 60, *, channels: int = 3, order: int = 0, width: int = 96, height: int = 64, seed: int = 0
) -> Mixture:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    extent = torch.exp(1.0 + 0.6 * normal(n)) * (width * height / (9.0 * max(n, 1))) ** 0.5 / 2
    aspect = torch.exp(0.4 * normal(n))
    across, down = aspect / extent, 1 / (aspect * extent)
    return Mixture(
        centres=torch.rand(n, 2, generator=generator) * torch.tensor([width, height]) * 1.04 - 1,
        factors=torch.stack([across, 0.7 * normal(n) * down, down], 1),
        log_priors=0.5 * normal(n),
        colours=0.5 + 0.25 * normal(n, 1) + 0.05 * normal(n, channels),
        slopes=0.02 * normal(n, channels, 2) if order else None,
        width=width,
        height=height,
    )


@pytest.fixture(scope="session")
def make_mixture() -> Callable[..., Mixture]:
    """A function that makes a random mixture: make_mixture(n, channels=, order=, width=, height=, seed=)."""
    return _make
