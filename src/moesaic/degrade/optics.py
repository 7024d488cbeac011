"""Blur in linear light: kernels from the paths of a camera and from the disc of a lens out of focus."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.bases import path_basis
from moesaic.degrade.filters import convolve
from moesaic.degrade.ranges import GAMMA, PATH_POINTS, PATH_REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def line_path(length: float, angle: float) -> Array:
    """A straight path (P, 2), x and y in px, of `length` px at an angle from the x axis."""
    along = np.linspace(-0.5, 0.5, PATH_POINTS)
    path: Array = length * along[:, None] * np.array([math.cos(angle), math.sin(angle)])
    return path


def walk_path(length: float, pushes: Array) -> Array:
    """The path (P, 2) of a hand-held camera from its random pushes (P, 2); `length` px is the larger extent.

    Source:
        Boracchi and Foi 2012, "Modeling the performance of image restoration from motion blur", in its idea: a
        random walk with inertia.
    """
    return _extended(path_basis() @ pushes, length)


def arc_path(length: float, angle: float, bend: float) -> Array:
    """A path (P, 2) along a circle that turns by `bend` radians; `length` px is the larger extent."""
    turn = bend * np.linspace(-0.5, 0.5, PATH_POINTS) + angle
    return _extended(np.stack([np.sin(turn), -np.cos(turn)], 1), length)


def path_kernel(path: Array) -> Array:
    """The kernel (K, K) that sums to 1 of a path (P, 2), each point spread over its four neighbours."""
    places = np.arange(-PATH_REACH, PATH_REACH + 1)
    x, y = (np.maximum(1 - np.abs(path[:, axis, None] - places), 0) for axis in (0, 1))  # (P, K)
    return _summed_to_one(y.T @ x)


def disc_kernel(radius: float) -> Array:
    """The kernel (K, K) of a lens out of focus: a disc of `radius` px with a soft edge."""
    places = np.arange(-PATH_REACH, PATH_REACH + 1)
    distance = np.sqrt(places[:, None] ** 2 + places**2)
    return _summed_to_one(np.clip(radius + 0.5 - distance, 0, 1))


def bell_kernel(sigma: float) -> Array:
    """The kernel (K, K) of a Gaussian of standard deviation `sigma` px."""
    side = np.exp(-0.5 * (np.arange(-PATH_REACH, PATH_REACH + 1) / sigma) ** 2)
    return _summed_to_one(side[:, None] * side)


def blur(x: Array, kernel: Array) -> Array:
    """A picture (H, W, 3) in [0, 1], blurred as light by a kernel (K, K); mirrored at the border."""
    light = convolve(np.maximum(x, 0) ** GAMMA, kernel)
    blurred: Array = np.clip(light, 0, 1) ** (1 / GAMMA)
    return blurred


def _extended(path: Array, length: float) -> Array:
    """The path about its middle, its larger extent `length` px."""
    low, high = path.min(0), path.max(0)
    middled: Array = (path - (high + low) / 2) / max(float((high - low).max()), 1e-6) * length
    return middled


def _summed_to_one(kernel: Array) -> Array:
    summed: Array = kernel / kernel.sum()
    return summed
