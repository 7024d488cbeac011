"""Seeds by name: every random choice of a run follows from (seed, what, when), so resuming needs no stored state."""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, what: str, when: int = 0) -> int:
    """A seed of 63 bits for one purpose at one moment; other purposes and moments get unrelated ones.

    Args:
        seed: of the whole run.
        what: the purpose, such as "order" or "augmentation".
        when: the step or the epoch.
    """
    digest = hashlib.sha256(f"{seed}/{what}/{when}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_for(seed: int, what: str, when: int = 0) -> torch.Generator:
    """A generator on the CPU with the seed of `seed_for`: its draws are the same whatever device the run is on."""
    return torch.Generator().manual_seed(seed_for(seed, what, when))


def order_of(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch meets the pictures 0 to count - 1; equal for all runs of the same seed."""
    return torch.randperm(count, generator=generator_for(seed, "order", epoch)).tolist()
