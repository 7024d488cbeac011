"""Blur in linear light: kernels from the paths of a camera and from the disc of a lens out of focus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moesaic.degrade.bases import path_basis
from moesaic.degrade.batched.filters import constant, convolve, reflect
from moesaic.degrade.ranges import GAMMA, PATH_POINTS, PATH_REACH

if TYPE_CHECKING:
    from torch import Tensor


def line_paths(length: Tensor, angle: Tensor) -> Tensor:
    """Straight paths (B, P, 2), x and y in px, of lengths (B,) px at angles (B,) from the x axis."""
    along = torch.linspace(-0.5, 0.5, PATH_POINTS, device=length.device)
    direction = torch.stack([angle.cos(), angle.sin()], 1)  # (B, 2)
    return (length[:, None] * along)[:, :, None] * direction[:, None]


def walk_paths(length: Tensor, pushes: Tensor) -> Tensor:
    """Paths (B, P, 2) of a hand-held camera from its random pushes (B, P, 2); `length` (B,) px is the larger extent.

    Source:
        Boracchi and Foi 2012, "Modeling the performance of image restoration from motion blur", in its idea: a
        random walk with inertia.
    """
    walked = constant(path_basis, pushes.device, pushes.dtype) @ pushes
    low, high = walked.amin(1, keepdim=True), walked.amax(1, keepdim=True)
    extent = (high - low).amax(2, keepdim=True).clamp_min(1e-6)
    return (walked - (high + low) / 2) / extent * length[:, None, None]


def path_kernels(paths: Tensor) -> Tensor:
    """Kernels (B, K, K) that sum to 1 from paths (B, P, 2), each point spread over its four neighbours."""
    places = torch.arange(-PATH_REACH, PATH_REACH + 1, device=paths.device, dtype=paths.dtype)
    x, y = ((1 - (paths[..., axis, None] - places).abs()).clamp_min(0) for axis in (0, 1))  # (B, P, K)
    kernels = y.mT @ x
    return kernels / kernels.sum((1, 2), keepdim=True)


def disc_kernels(radius: Tensor) -> Tensor:
    """Kernels (B, K, K) of a lens out of focus: discs of radius (B,) px with soft edges."""
    places = torch.arange(-PATH_REACH, PATH_REACH + 1, device=radius.device, dtype=radius.dtype)
    distance = (places[:, None].square() + places.square()).sqrt()
    kernels = (radius[:, None, None] + 0.5 - distance).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def bell_kernels(sigma: Tensor) -> Tensor:
    """Kernels (B, K, K) of a Gaussian of standard deviation (B,) px."""
    places = torch.arange(-PATH_REACH, PATH_REACH + 1, device=sigma.device, dtype=sigma.dtype)
    side = (-0.5 * (places / sigma[:, None]).square()).exp()
    kernels = side[:, :, None] * side[:, None]
    return kernels / kernels.sum((1, 2), keepdim=True)


def blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1], blurred as light by kernels (B, K, K); mirrored at the border."""
    # In float64: the root at the end turns an error of 1e-7 near black into one of 1e-3.
    light = reflect(x.double().clamp_min(0).pow(GAMMA), kernels.shape[-1] // 2)
    blurred = convolve(light, kernels.double()[:, None])
    return blurred.clamp(0, 1).pow(1 / GAMMA).to(x.dtype)
