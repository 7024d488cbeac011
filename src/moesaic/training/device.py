"""Where a run computes, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from moesaic.errors import ArgumentError, BackendError

PRECISIONS = ("auto", "float32", "bfloat16")


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where it works, else the CPU.

    Raises:
        ArgumentError: torch knows no such device.
        BackendError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError, ValueError) as cause:
        raise ArgumentError(f"device {name!r} is unknown; write auto, cpu, cuda or cuda:1") from cause
    if device.type == "meta":
        raise BackendError("device meta holds no numbers; device='cpu' does")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as cause:
        raise BackendError(
            f"device {name} cannot be used here ({str(cause).splitlines()[0]}); device='cpu' can"
        ) from cause
    return device


def precision_on(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which forward passes run: "auto" is bfloat16 on CUDA and float32 on the CPU.

    Raises:
        ArgumentError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


def channels_last(model: nn.Module) -> None:
    """Lay out the network's 4-axis weights with channels innermost, which its convolutions run faster on; in place.

    `model.to(memory_format=...)` would refuse the stacked weights of experts, which have 5 axes.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
