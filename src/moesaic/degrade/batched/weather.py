"""What lies between scene and lens: streaks of rain, flakes of snow, haze over a depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moesaic.degrade.bases import box_matrix, depth_amplitudes
from moesaic.degrade.batched.filters import constant, convolve_and_add
from moesaic.degrade.ranges import DEPTH_MODES, STREAK_REACH

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


def plane_depth(shape: tuple[int, int], roll: Tensor, horizon: Tensor, near: Tensor, window: Tensor) -> Tensor:
    """Depth (B, H, W) of a ground plane that meets the sky: 1 at and above the horizon.

    Args:
        shape: H and W.
        roll: (B,), radians.
        horizon: (B,), where it crosses the middle of the scene, in sides of the scene from its middle.
        near: (B,), how soon the depth falls below the horizon, in sides of the scene.
        window: (B, 3), the part of the scene that is seen: left, top and side, in sides of the scene.
    """
    x, y = _places(shape, window)
    below = y * roll.cos()[:, None, None] + x * roll.sin()[:, None, None] - 0.5 - horizon[:, None, None]
    near = near[:, None, None]
    return near / (near + below.clamp_min(0))


def field_depth(shape: tuple[int, int], waves: Tensor, window: Tensor) -> Tensor:
    """A smooth depth (B, H, W) in (0, 1) of spectrum 1/f from normal amplitudes `waves` (B, M, M)."""
    x, y = _places(shape, window)
    order = torch.arange(DEPTH_MODES, device=waves.device, dtype=waves.dtype) * torch.pi
    along_x = (x.expand(-1, 1, shape[1]).mT * order).cos()  # (B, W, M)
    along_y = (y.expand(-1, shape[0], 1) * order).cos()  # (B, H, M)
    amplitudes = waves * constant(depth_amplitudes, waves.device, waves.dtype)
    return 0.5 + 0.5 * (1.5 * (along_y @ amplitudes @ along_x.mT)).tanh()


def colour_depth(x: Tensor, *, reach: int = 12, contrast: float = 1e-3) -> Tensor:
    """Depth (B, H, W) in [0, 1] by the colour attenuation prior, edges kept by a guided filter.

    Args:
        x: (B, 3, H, W).
        reach: of the filter, px.
        contrast: variance of grey below which the filter smooths.

    Source:
        Zhu, Mai and Shao 2015, "A fast single image haze removal algorithm using color attenuation prior".
    """
    value, low = x.amax(1), x.amin(1)
    saturation = (value - low) / value.clamp_min(1e-6)
    raw = 0.121779 + 0.959710 * value - 0.780245 * saturation
    guide = x.mean(1)

    def box(y: Tensor) -> Tensor:
        rows = constant(box_matrix, x.device, x.dtype, x.shape[2], reach)
        columns = constant(box_matrix, x.device, x.dtype, x.shape[3], reach)
        return rows @ y @ columns.mT

    mean_guide, mean_raw = box(guide), box(raw)
    slope = (box(guide * raw) - mean_guide * mean_raw) / (box(guide.square()) - mean_guide.square() + contrast)
    offset = mean_raw - slope * mean_guide
    return (box(slope) * guide + box(offset)).clamp(0, 1)


def _places(shape: tuple[int, int], window: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels' middles are, in sides of the scene: x (B, 1, W) and y (B, H, 1)."""
    left, top, side = window[:, :, None, None].unbind(1)
    height, width = shape
    longest = max(height, width)
    x = (torch.arange(width, device=window.device, dtype=window.dtype) + 0.5) / longest
    y = (torch.arange(height, device=window.device, dtype=window.dtype)[:, None] + 0.5) / longest
    return left + side * x, top + side * y
