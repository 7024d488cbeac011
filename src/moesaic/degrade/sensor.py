"""What a sensor does: noise of one level, noise that grows with the light, too little light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.filters import convolve
from moesaic.degrade.optics import bell_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def gaussian(x: Array, noise: Array, sigma: float) -> Array:
    """A picture (H, W, 3) with normal `noise` of the same shape, sigma in levels of 255; not clipped."""
    return x + sigma / 255 * noise


def poisson(x: Array, noise: Array, gain: float, read: float) -> Array:
    """Noise of variance `gain x + (read / 255)^2`, clipped to [0, 1].

    Args:
        x: (H, W, 3).
        noise: normal, of the same shape.
        gain: variance per unit of light.
        read: deviation in the dark, levels of 255.

    Source:
        Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling", in the normal approximation.
    """
    deviation = np.sqrt(gain * np.maximum(x, 0) + (read / 255) ** 2)
    return np.clip(x + deviation * noise, 0, 1)


def grain(noise: Array, common: float, width: float) -> Array:
    """Normal noise (H, W, 3) of deviation 1 whose channels and neighbours are alike, as after a camera's own steps.

    Args:
        noise: normal, (H, W, 4): a field for each channel, and one for all.
        common: the share of the variance that the channels have in common, 0 to 1.
        width: standard deviation of the Gaussian that spreads it, px.
    """
    kernel = bell_kernel(width)
    field = np.sqrt(1 - common) * noise[..., :3] + np.sqrt(common) * noise[..., 3:]
    spread: Array = convolve(field, kernel) / np.sqrt((kernel**2).sum())
    return spread


def darken(x: Array, inner: float, outer: float, power: float) -> Array:
    """`b (a x)^g`, the sensor's noise not included.

    Source:
        Lv, Li and Lu 2021, "Attention guided low-light image enhancement with a large scale low-light simulation
        dataset".
    """
    dark: Array = outer * (inner * np.clip(x, 0, 1)) ** power
    return dark
