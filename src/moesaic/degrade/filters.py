"""Filters of NumPy pictures: by a kernel, by a box, and to another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.bases import resize_taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def convolve(x: Array, kernel: Array) -> Array:
    """A picture (H, W, C), mirrored at the border, by a kernel (K, K) with K odd."""
    reach = len(kernel) // 2
    height, width = x.shape[:2]
    around = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    size = tuple(-(-side // 16) * 16 for side in around.shape[:2])  # Fourier transforms of prime sizes are slow
    response = np.fft.rfft2(kernel, s=size)
    out = np.empty_like(x)
    for channel in range(x.shape[2]):  # one at a time: the spectrum of a large picture is larger still
        filtered = np.fft.irfft2(np.fft.rfft2(around[..., channel], s=size) * response, s=size)
        out[..., channel] = filtered[2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
    return out


def box_mean(x: Array, reach: int) -> Array:
    """Means of (H, W) over `reach` px to each side, of fewer pixels at the border."""
    for axis in (0, 1):
        side = x.shape[axis]
        before = np.concatenate([np.zeros_like(x.take([0], axis)), np.cumsum(x, axis)], axis)
        first, last = (np.clip(np.arange(side) + step, 0, side) for step in (-reach, reach + 1))
        count = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        x = (before.take(last, axis) - before.take(first, axis)) / count
    return x


def resize(x: Array, height: int, width: int, method: str = "bicubic") -> Array:
    """A picture (H, W, C) at another size, by "bicubic", "bilinear" or "area"; wider filters where it shrinks."""
    for axis, side in ((0, height), (1, width)):
        places, weights = resize_taps(x.shape[axis], side, method)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        total = np.zeros(())
        for tap in range(places.shape[1]):
            total = total + weights[:, tap].reshape(shape) * x.take(places[:, tap], axis)
        x = total
    return x
