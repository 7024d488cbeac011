"""Mixtures to be explained: random ones that look like a picture's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from moesaic.mixture.model import Mixture


def _make(n: int = 40, *, channels: int = 3, width: int = 50, height: int = 37, seed: int = 0) -> Mixture:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    extent = (width * height / n) ** 0.5 * (0.3 + 0.5 * uniform(n, 2))
    return Mixture(
        centres=uniform(n, 2) * torch.tensor([width, height]),
        factors=torch.stack([1 / extent[:, 0], (uniform(n) - 0.5) / extent.mean(1), 1 / extent[:, 1]], dim=1),
        log_priors=uniform(n) - 0.5,
        colours=uniform(n, channels),
        width=width,
        height=height,
    )


@pytest.fixture(scope="session")
def make_mixture() -> Callable[..., Mixture]:
    """A function that makes a random mixture: make_mixture(n, channels=, width=, height=, seed=)."""
    return _make
