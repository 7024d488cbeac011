"""What lies between scene and lens: streaks of rain, flakes of snow, and haze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moesaic.degrade.batched.filters import convolve_and_add
from moesaic.degrade.ranges import STREAK_REACH

if TYPE_CHECKING:
    from torch import Tensor


def particle_kernels(length: Tensor, angle: Tensor, radius: Tensor, soft: Tensor) -> Tensor:
    """Kernels (B, L, K, K) of peak 1: what one drop or flake looks like while the shutter is open.

    Args:
        length: (B, L), px that it falls.
        angle: (B, L), from straight down, radians.
        radius: (B, L), px.
        soft: (B, L), px over which its edge fades.
    """
    places = torch.arange(-STREAK_REACH, STREAK_REACH + 1, device=length.device, dtype=length.dtype)
    x, y = places, places[:, None]
    sine, cosine, length, radius, soft = (
        value[..., None, None] for value in (angle.sin(), angle.cos(), length, radius, soft)
    )
    along, across = x * sine + y * cosine, x * cosine - y * sine
    beyond = (along.abs() - length / 2).clamp_min(0)
    distance = (beyond.square() + across.square()).sqrt()
    fading = 1 - 0.6 * (2 * along / (length + 2 * radius)).square().clamp_max(1)  # it is seen longest in the middle
    return ((radius + soft / 2 - distance) / soft).clamp(0, 1) * fading


def particles(seeds: Tensor, density: Tensor, kernels: Tensor) -> Tensor:
    """How much of each pixel is covered, (B, H, W) in [0, 1].

    Args:
        seeds: (B, L, H + 2 R, W + 2 R), uniform in [0, 1); where one is below the density, something falls.
        density: (B, L), per px.
        kernels: (B, L, 2 R + 1, 2 R + 1), of `particle_kernels`.
    """
    share = seeds / density[..., None, None]
    amount = torch.where(share < 1, 0.4 + 0.6 * share, 0.0)
    return convolve_and_add(amount, kernels).clamp(0, 1)


def rain(x: Tensor, streaks: Tensor, gain: Tensor, veil: Tensor, light: Tensor) -> Tensor:
    """`(1 - veil) (x + gain S) + veil A`, clipped to [0, 1].

    Args:
        x: (B, 3, H, W).
        streaks: S, (B, H, W) in [0, 1].
        gain: (B,), brightness of a streak.
        veil: (B,), share of the light that far drops have scattered.
        light: A, (B,), their brightness.

    Source:
        Garg and Nayar 2006 for streaks as added light; Yang et al. 2017 (JORDER) for the veil.
    """
    gain, veil, light = (value[:, None, None, None] for value in (gain, veil, light))
    return ((1 - veil) * (x + gain * streaks[:, None]) + veil * light).clamp(0, 1)


def snow(x: Tensor, mask: Tensor, brightness: Tensor) -> Tensor:
    """`x (1 - M) + c M` with M (B, H, W) in [0, 1] and c (B,)."""
    mask = mask[:, None]
    return (x * (1 - mask) + brightness[:, None, None, None] * mask).clamp(0, 1)


def haze(x: Tensor, depth: Tensor, beta: Tensor, airlight: Tensor) -> Tensor:
    """`x t + A (1 - t)` with `t = exp(-beta d)`, d (B, H, W) in [0, 1], beta (B,), A (B, 3).

    Source:
        Narasimhan and Nayar 2002, "Vision and the atmosphere", equation of Koschmieder.
    """
    through = (-beta[:, None, None] * depth).exp()[:, None]
    return (x * through + airlight[:, :, None, None] * (1 - through)).clamp(0, 1)
