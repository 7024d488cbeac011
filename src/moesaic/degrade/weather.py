"""What lies between scene and lens: streaks of rain, flakes of snow, and haze."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.ranges import STREAK_REACH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def particle_kernel(length: float, angle: float, radius: float, soft: float) -> Array:
    """A kernel (K, K) of peak 1: what one drop or flake looks like while the shutter is open.

    Args:
        length: px that it falls.
        angle: from straight down, radians.
        radius: px.
        soft: px over which its edge fades.
    """
    x = np.arange(-STREAK_REACH, STREAK_REACH + 1, dtype=np.float64)
    y = x[:, None]
    along = x * math.sin(angle) + y * math.cos(angle)
    across = x * math.cos(angle) - y * math.sin(angle)
    beyond = np.maximum(np.abs(along) - length / 2, 0)
    distance = np.sqrt(beyond**2 + across**2)
    fading = 1 - 0.6 * np.minimum((2 * along / (length + 2 * radius)) ** 2, 1)  # it is seen longest in the middle
    kernel: Array = np.clip((radius + soft / 2 - distance) / soft, 0, 1) * fading
    return kernel


def add_particles(cover: Array, seeds: Array, density: float, kernel: Array) -> None:
    """Add to `cover` what falls in one layer, drop by drop.

    Args:
        cover: (H, W).
        seeds: (H + 2 R, W + 2 R), uniform in [0, 1); where one is below the density, something falls.
        density: per px.
        kernel: (2 R + 1, 2 R + 1), of `particle_kernel`.
    """
    reach = len(kernel) // 2
    height, width = cover.shape
    around = np.zeros((height + 4 * reach, width + 4 * reach))
    rows, columns = np.nonzero(seeds < density)
    amounts = 0.4 + 0.6 * (seeds[rows, columns] / density)
    for row, column, amount in zip(rows.tolist(), columns.tolist(), amounts.tolist(), strict=True):
        around[row : row + len(kernel), column : column + len(kernel)] += amount * kernel
    cover += around[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]


def rain(x: Array, streaks: Array, gain: float, veil: float, light: float) -> Array:
    """`(1 - veil) (x + gain S) + veil A`, clipped to [0, 1].

    Args:
        x: (H, W, 3).
        streaks: S, (H, W) in [0, 1].
        gain: brightness of a streak.
        veil: share of the light that far drops have scattered.
        light: A, their brightness.

    Source:
        Garg and Nayar 2006 for streaks as added light; Yang et al. 2017 (JORDER) for the veil.
    """
    return np.clip((1 - veil) * (x + gain * streaks[:, :, None]) + veil * light, 0, 1)


def snow(x: Array, mask: Array, brightness: float) -> Array:
    """`x (1 - M) + c M` with M (H, W) in [0, 1]."""
    mask = mask[:, :, None]
    return np.clip(x * (1 - mask) + brightness * mask, 0, 1)


def haze(x: Array, depth: Array, beta: float, airlight: Sequence[float]) -> Array:
    """`x t + A (1 - t)` with `t = exp(-beta d)`, d (H, W) in [0, 1], A for three channels.

    Source:
        Narasimhan and Nayar 2002, "Vision and the atmosphere", equation of Koschmieder.
    """
    through = np.exp(-beta * depth)[:, :, None]
    hazy: Array = np.clip(x * through + np.array(airlight) * (1 - through), 0, 1)
    return hazy
