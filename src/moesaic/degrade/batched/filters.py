"""Filters of a kernel for each picture, by the Fourier transform, and their constant tables on the device."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


@lru_cache(maxsize=192)
def constant(
    table: Callable[..., NDArray[np.float64]], device: torch.device, dtype: torch.dtype, *arguments: int | float | str
) -> Tensor:
    """A table of `moesaic.degrade.bases` as a tensor on the device; kept, so it is copied there once."""
    return torch.from_numpy(table(*arguments)).to(dtype).to(device)


def reflect(x: Tensor, reach: int) -> Tensor:
    """The pictures (B, C, H, W) with `reach` px of their mirror image around them, however small they are."""
    if reach < min(x.shape[-2:]):
        return F.pad(x, (reach, reach, reach, reach), mode="reflect")
    for axis in (-2, -1):
        side = x.shape[axis]
        places = torch.arange(-reach, side + reach, device=x.device)
        if side > 1:
            places = places.remainder(2 * side - 2)
            places = torch.minimum(places, 2 * side - 2 - places)
        else:
            places = torch.zeros_like(places)
        x = x.index_select(axis, places)
    return x


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Each plane by its own kernel, without the border that the kernel does not cover.

    Args:
        x: (B, C, H + 2 R, W + 2 R).
        kernels: (B, C or 1, 2 R + 1, 2 R + 1).

    Returns:
        (B, C, H, W), with kernels that are turned by half a turn, as a convolution has it.
    """
    reach = kernels.shape[-1] // 2
    height, width = x.shape[-2:]
    size = (_quick(height), _quick(width))
    spectrum = torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernels, s=size)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=size)[..., 2 * reach : height, 2 * reach : width]
    return filtered


def convolve_and_add(x: Tensor, kernels: Tensor) -> Tensor:
    """The sum over layers of `convolve`, (B, L, H + 2 R, W + 2 R) and (B, L, K, K) to (B, H, W)."""
    reach = kernels.shape[-1] // 2
    height, width = x.shape[-2:]
    size = (_quick(height), _quick(width))
    spectrum = (torch.fft.rfft2(x, s=size) * torch.fft.rfft2(kernels, s=size)).sum(1)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=size)[..., 2 * reach : height, 2 * reach : width]
    return filtered


def _quick(side: int) -> int:
    """A size at least as large that Fourier transforms are quick at."""
    return -(-side // 16) * 16
