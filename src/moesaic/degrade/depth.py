"""How far the scene is, without a network that could tell: depth maps for haze, in [0, 1]."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.bases import depth_amplitudes
from moesaic.degrade.filters import box_mean
from moesaic.degrade.ranges import DEPTH_MODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def plane_depth(shape: tuple[int, int], roll: float, horizon: float, near: float, window: Sequence[float]) -> Array:
    """Depth (H, W) of a ground plane that meets the sky: 1 at and above the horizon.

    Args:
        shape: H and W.
        roll: radians.
        horizon: where it crosses the middle of the scene, in sides of the scene from its middle.
        near: how soon the depth falls below the horizon, in sides of the scene.
        window: the part of the scene that is seen: left, top and side, in sides of the scene.
    """
    x, y = _places(shape, window)
    below = y * math.cos(roll) + x * math.sin(roll) - 0.5 - horizon
    return near / (near + np.maximum(below, 0))


def field_depth(shape: tuple[int, int], waves: Array, window: Sequence[float]) -> Array:
    """A smooth depth (H, W) in (0, 1) of spectrum 1/f from normal amplitudes `waves` (M, M)."""
    x, y = _places(shape, window)
    order = np.arange(DEPTH_MODES) * np.pi
    along_x, along_y = np.cos(x.T * order), np.cos(y * order)  # (W, M), (H, M)
    return 0.5 + 0.5 * np.tanh(1.5 * (along_y @ (waves * depth_amplitudes()) @ along_x.T))


def colour_depth(x: Array, *, reach: int = 12, contrast: float = 1e-3) -> Array:
    """Depth (H, W) in [0, 1] by the colour attenuation prior, edges kept by a guided filter.

    Args:
        x: (H, W, 3).
        reach: of the filter, px.
        contrast: variance of grey below which the filter smooths.

    Source:
        Zhu, Mai and Shao 2015, "A fast single image haze removal algorithm using color attenuation prior".
    """
    value, low = x.max(2), x.min(2)
    saturation = (value - low) / np.maximum(value, 1e-6)
    raw = 0.121779 + 0.959710 * value - 0.780245 * saturation
    guide = x.mean(2)
    mean_guide, mean_raw = box_mean(guide, reach), box_mean(raw, reach)
    variance = box_mean(guide**2, reach) - mean_guide**2
    slope = (box_mean(guide * raw, reach) - mean_guide * mean_raw) / (variance + contrast)
    offset = mean_raw - slope * mean_guide
    depth: Array = np.clip(box_mean(slope, reach) * guide + box_mean(offset, reach), 0, 1)
    return depth


def layers_depth(shape: tuple[int, int], edges: Sequence[float], waves: Array, window: Sequence[float]) -> Array:
    """Depth (H, W) of hills one behind the other, each of one depth, with edges a little soft.

    Args:
        shape: H and W.
        edges: where each hill begins, in sides of the scene from its top.
        waves: (hills, M), normal amplitudes of the outlines.
        window: as in `plane_depth`.
    """
    x, y = _places(shape, window)
    order = np.arange(1, waves.shape[1] + 1)
    outlines = (waves * (0.06 / order)) @ np.cos(order[:, None] * np.pi * x)  # (hills, W)
    depth = np.ones(shape)
    for edge, outline in zip(edges, outlines, strict=True):
        inside = np.clip((y - edge - outline) / 0.01 + 0.5, 0, 1)
        depth = depth - inside * (depth * 0.45)
    return depth


def _places(shape: tuple[int, int], window: Sequence[float]) -> tuple[Array, Array]:
    """Where the pixels' middles are, in sides of the scene: x (1, W) and y (H, 1)."""
    left, top, side = window
    height, width = shape
    x = (np.arange(width) + 0.5) / max(shape)
    y = (np.arange(height)[:, None] + 0.5) / max(shape)
    return left + side * x[None], top + side * y
