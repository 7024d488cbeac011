"""Colours of an upscaled picture set right by those of the picture that it came from.

One step of a diffusion model shifts colours a little. Both fixes look at the whole, stitched picture: done tile by tile
they would show the tiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

COLOUR_FIXES = ("wavelet", "adain", "none")

LEVELS = 5  # of the wavelet fix: colour is what is coarser than about 2**LEVELS px


def fix_colour(
    picture: Tensor,  # (B, C, H, W)
    like: Tensor,  # (B, C, H, W)
    how: str = "wavelet",
) -> Tensor:  # (B, C, H, W)
    """The picture with the colours of another of the same size; values may leave [0, 1] a little.

    Args:
        picture: the upscaled picture.
        like: what it was made from, enlarged to its size.
        how: "wavelet" (takes only what is coarser than about 32 px), "adain" (mean and spread of each channel, so a
            noisy source lends its noise's spread, too), or "none".

    Raises:
        ArgumentError: the fix is unknown.
        ShapeError: the two differ in size.
    """
    if how not in COLOUR_FIXES:
        raise ArgumentError(f"colour is one of {', '.join(COLOUR_FIXES)}, not {how!r}")
    if picture.shape != like.shape or picture.ndim != 4:
        raise ShapeError(
            f"both pictures are (B, C, H, W) and of one size, not {tuple(picture.shape)} and {tuple(like.shape)}"
        )
    if how == "adain":
        return adain(picture, like)
    return wavelet_colour(picture, like) if how == "wavelet" else picture


def adain(
    picture: Tensor,  # (B, C, H, W)
    like: Tensor,  # (B, C, H, W)
) -> Tensor:  # (B, C, H, W)
    """Each channel with the mean and the standard deviation of the other picture's (Huang and Belongie, 2017).

    A flat channel stays flat, at the other's mean.
    """
    spread, mean = torch.std_mean(picture, dim=(-2, -1), correction=0, keepdim=True)
    other_spread, other_mean = torch.std_mean(like, dim=(-2, -1), correction=0, keepdim=True)
    return (picture - mean) * (other_spread / spread.clamp_min(1e-6)) + other_mean


def wavelet_colour(
    picture: Tensor,  # (B, C, H, W)
    like: Tensor,  # (B, C, H, W)
    levels: int = LEVELS,
) -> Tensor:  # (B, C, H, W)
    """The fine bands of one picture on the coarse band of the other, by the a-trous wavelet transform.

    The bands of a picture sum to it again, so its fine ones are it less its coarse one; and the transform is linear.
    What remains is one coarse band, of the difference.
    """
    return picture + coarse_band(like - picture, levels)


def coarse_band(
    x: Tensor,  # (B, C, H, W)
    levels: int = LEVELS,
) -> Tensor:  # (B, C, H, W)
    """What is left after `levels` of smoothing with [1, 2, 1] / 4 both ways, its taps 1, 2, 4, ... px apart.

    Beyond its rim the picture is continued by its last row and column.
    """
    for level in range(levels):
        step = 2**level
        wide = F.pad(x, (step, step, 0, 0), mode="replicate")
        x = (wide[..., : -2 * step] + 2 * x + wide[..., 2 * step :]) / 4
        tall = F.pad(x, (0, 0, step, step), mode="replicate")
        x = (tall[..., : -2 * step, :] + 2 * x + tall[..., 2 * step :, :]) / 4
    return x
