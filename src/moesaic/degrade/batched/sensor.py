"""What a sensor does: noise of one level, noise that grows with the light, too little light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesaic.degrade.batched.filters import convolve, reflect
from moesaic.degrade.batched.optics import bell_kernels

if TYPE_CHECKING:
    from torch import Tensor


def gaussian(x: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) with normal `noise` of the same shape, sigma (B,) levels of 255; not clipped."""
    return x + sigma[:, None, None, None] / 255 * noise


def poisson(x: Tensor, noise: Tensor, gain: Tensor, read: Tensor) -> Tensor:
    """Noise of variance `gain x + (read / 255)^2`, clipped to [0, 1].

    Args:
        x: (B, 3, H, W).
        noise: normal, of the same shape.
        gain: (B,), variance per unit of light.
        read: (B,), deviation in the dark, levels of 255.

    Source:
        Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling", in the normal approximation.
    """
    gain, read = gain[:, None, None, None], read[:, None, None, None] / 255
    return (x + (gain * x.clamp_min(0) + read.square()).sqrt() * noise).clamp(0, 1)


def grain(noise: Tensor, common: Tensor, width: Tensor) -> Tensor:
    """Normal noise (B, 3, H, W) of deviation 1 whose channels and neighbours are alike, as after a camera's own steps.

    Args:
        noise: normal, (B, 4, H, W): a field for each channel, and one for all.
        common: (B,), the share of the variance that the channels have in common, 0 to 1.
        width: (B,), standard deviation of the Gaussian that spreads it, px.
    """
    kernels, common = bell_kernels(width), common[:, None, None, None]
    field = (1 - common).sqrt() * noise[:, :3] + common.sqrt() * noise[:, 3:]
    spread = convolve(reflect(field, kernels.shape[-1] // 2), kernels[:, None])
    return spread / kernels.square().sum((1, 2)).sqrt()[:, None, None, None]


def darken(x: Tensor, inner: Tensor, outer: Tensor, power: Tensor) -> Tensor:
    """`b (a x)^g`, the sensor's noise not included; a, b and g are (B,).

    Source:
        Lv, Li and Lu 2021, "Attention guided low-light image enhancement with a large scale low-light simulation
        dataset".
    """
    inner, outer, power = (value[:, None, None, None] for value in (inner, outer, power))
    return outer * (inner * x.clamp(0, 1)).pow(power)
