"""Capacity: an upper limit on the places of a batch that one expert may take, so that training reaches all experts.

Places ask for their experts in the order of their own preference, all first wishes before any second ones; an expert
that is asked by more places than it has room for takes those that want it most and sends the rest to their next wish.
Every place has asked every expert once after E rounds, so the work does not depend on values: no synchronisation, no
break of a graph.

Sources: choice by choice as in GShard (Lepikhin et al. 2020, arXiv 2006.16668, section 2.2), the most certain first
as in V-MoE (Riquelme et al. 2021, arXiv 2106.05974, section 4.1). Both drop what finds no room; here it moves on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def room(places: int, experts: int, k: int, capacity: float) -> int:
    """How many of a batch's places one expert may take: `capacity` times an even share, rounded up."""
    return math.ceil(capacity * places * k / experts)


def limited(
    probabilities: Tensor,  # (B, P, E), how much each place wants each expert
    k: int,
    capacity: float,
) -> tuple[Tensor, Tensor]:  # (B, P, K) int64 and bool
    """The experts of each place when each takes at most `room(B * P, E, k, capacity)` places of the batch.

    Returns:
        The experts, those that act first and then by probability, and which of them act. With a capacity of at least 1
        one acts at every place: where fewer than k do, every expert with room left is already among them.
    """
    batch, places, experts = probabilities.shape
    wish = probabilities.detach().reshape(batch * places, experts)
    order = ranked(wish)
    number = torch.arange(experts, device=wish.device)
    free = torch.full_like(number, room(batch * places, experts, k, capacity))  # (E,)
    wanting = torch.full_like(order[:, 0], k)  # (B * P,)
    held = torch.zeros_like(wish, dtype=torch.bool)
    for turn in range(experts):
        asks = (order[:, turn, None] == number) & (wanting[:, None] > 0)
        line = torch.where(asks, wish, -1).sort(dim=0, descending=True, stable=True).indices
        position = line.argsort(dim=0)
        granted = asks & (position < free)
        held = held | granted
        free = free - granted.sum(0)
        wanting = wanting - granted.sum(1)
    chosen = ranked(torch.where(held, wish, wish - 2))[:, :k]
    return chosen.reshape(batch, places, k), held.gather(1, chosen).reshape(batch, places, k)


def ranked(
    values: Tensor,  # (..., E)
) -> Tensor:  # (..., E) int64
    """Experts from the largest value down; of equal ones the lower number comes first, on every device."""
    if torch.compiler.is_exporting():  # ONNX has no stable sort, and its TopK promises the same for ties
        return values.topk(values.shape[-1]).indices
    return values.sort(dim=-1, descending=True, stable=True).indices
