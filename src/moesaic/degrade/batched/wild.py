"""The second-order chain for one picture on any device, with kernels and sizes from its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from moesaic.degrade.bases import resize_matrix
from moesaic.degrade.batched.codec import jpeg
from moesaic.degrade.batched.filters import convolve, reflect
from moesaic.degrade.told import Told
from moesaic.degrade.wild import COUNTS, Step, step_amount, step_kernel, step_quality, step_size

if TYPE_CHECKING:
    from torch import Tensor

Noise = Callable[[Step, tuple[int, ...]], "Tensor"]


def apply_steps(x: Tensor, steps: list[Step], noise: torch.Generator | Noise) -> Tensor:
    """A picture (1, 3, H, W) after the steps, in [0, 1] and on the levels of 8 bits.

    Args:
        x: in [0, 1].
        steps: of `moesaic.degrade.wild.draw_steps`.
        noise: draws the normal fields, or gives that of a step in a shape (1, 1 or 3, h, w).
    """
    for step in steps:
        x = _apply(x, step, noise)
    return (x.clamp(0, 1) * 255 + 0.5).floor() / 255


def _apply(x: Tensor, step: Step, noise: torch.Generator | Noise) -> Tensor:
    name, told = step["step"], Told("wild", step)
    if name in ("blur", "sinc"):
        kernel = torch.from_numpy(step_kernel(name, told)).to(x)
        return convolve(reflect(x, len(kernel) // 2), kernel[None, None])
    if name == "resize":
        height, width, method = step_size(told)
        rows, columns = (
            torch.from_numpy(resize_matrix(before, after, method)).to(x)
            for before, after in ((x.shape[2], height), (x.shape[3], width))
        )
        return rows @ x @ columns.mT
    if name == "jpeg":
        return jpeg(x, [step_quality(told)])
    shape = (1, 1 if told.flag("grey") else 3, *x.shape[2:])
    if isinstance(noise, torch.Generator):
        field = torch.randn(shape, generator=noise, device=x.device)
    else:
        field = noise(step, shape)
    deviation: Tensor | float = step_amount(name, told)
    if name == "poisson":
        light = x.mean(1, keepdim=True) if told.flag("grey") else x
        deviation = deviation * (light.clamp(0, 1) / COUNTS).sqrt()
    return (x + deviation * field).clamp(0, 1)
