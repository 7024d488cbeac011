"""Routings and banks that the tests of this folder share."""

from __future__ import annotations

import pytest
import torch

from moesaic.routing import ConvExperts, Routing


def make_routing(
    pictures: int, experts: int, k: int, grid: tuple[int, int], *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Routing:
    """A random decision; its weights require a gradient."""
    logits = torch.randn(
        (pictures, grid[0] * grid[1], experts), generator=torch.Generator().manual_seed(seed), dtype=dtype
    )
    probabilities = logits.softmax(-1)
    weights, chosen = probabilities.topk(k, -1)
    weights = (weights / weights.sum(-1, keepdim=True)).requires_grad_()
    return Routing(weights=weights, chosen=chosen, probabilities=probabilities, logits=logits, grid=grid)


def forced_routing(chosen: torch.Tensor, weights: torch.Tensor, experts: int, grid: tuple[int, int]) -> Routing:
    """A decision written out by hand: chosen and weights are (B, P, K)."""
    nothing = torch.zeros((*chosen.shape[:2], experts))
    return Routing(weights=weights, chosen=chosen, probabilities=nothing, logits=nothing, grid=grid)


@pytest.fixture
def bank() -> ConvExperts:
    """Four 3x3 convolutions from 3 to 5 channels."""
    torch.manual_seed(0)
    return ConvExperts(4, 3, 5, (3, 3), padding=(1, 1, 1, 1))
