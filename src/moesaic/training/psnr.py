"""PSNR of pictures while they are trained on: on the device, one number for each picture of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def psnrs(
    a: Tensor,  # (B, 3, H, W)
    b: Tensor,  # (B, 3, H, W), in [0, 1]
) -> Tensor:  # (B,), dB
    """The PSNR of each picture, after clipping to [0, 1]; 100 where two are equal."""
    error = (a.float().clamp(0, 1) - b.float()).square().mean((1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10()


def mean_psnr(scores: Mapping[str, float]) -> float | None:
    """The mean over the sorts of damage, dB; None without any."""
    return sum(scores.values()) / len(scores) if scores else None


def rounded_mean(values: Tensor) -> float:
    """Of a batch, for a log or a card."""
    return round(float(values.float().mean()), 4)
