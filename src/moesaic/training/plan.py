"""How many steps fit into a time: measured on steps that are thrown away, and settled for the whole run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

WARM = 3  # steps that compile and allocate, and say little
PROBE = 6  # steps that are measured, at least
_LONG_ENOUGH = 4.0  # s after which no more steps are measured
_MOST = 100  # steps that are measured, at most


def seconds_of_a_step(take_step: Callable[[], object], device: torch.device) -> float:
    """The mean time of a step, after a few to warm up."""
    for _ in range(WARM):
        take_step()
    _settle(device)
    began, taken = time.monotonic(), 0
    while taken < PROBE or (taken < _MOST and time.monotonic() - began < _LONG_ENOUGH):
        take_step()
        taken += 1
        if taken % PROBE == 0:
            _settle(device)  # else a GPU is only told what to do
    _settle(device)
    return (time.monotonic() - began) / taken


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
