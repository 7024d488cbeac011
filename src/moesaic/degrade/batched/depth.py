"""How far the scene is, without a network that could tell: depth maps for haze, in [0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moesaic.degrade.bases import box_matrix, depth_amplitudes
from moesaic.degrade.batched.filters import constant
from moesaic.degrade.ranges import DEPTH_MODES

if TYPE_CHECKING:
    from torch import Tensor


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
