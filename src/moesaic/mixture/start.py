"""Where kernels begin: more of them where the picture changes, spread evenly along a space-filling curve."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture.backends.cpu import Packed
from moesaic.mixture.backends.placing import blurred, hilbert_path, square_gradient

POWER = 1.3  # of the gradient, in the density of centres
UNIFORM = 0.05  # share of the centres that are spread evenly
SMOOTH = 1.5  # px, standard deviation of the density's smoothing
_KEPT = 1 << 20  # px; paths of pictures up to this size are kept for the next one of the same size
WIDTH = 0.45  # standard deviation of a kernel against the spacing of its neighbours


def density(picture: NDArray[np.float32]) -> NDArray[np.float64]:  # (C, H, W) -> (H, W)
    """How densely kernels should stand at each pixel; the mean is 1."""
    detail = np.maximum(smoothed(np.sqrt(square_gradient(picture))), 0.0) ** POWER
    mean = detail.mean()
    if mean <= 1e-12:  # a picture of one colour
        return np.ones_like(detail)
    return np.asarray((1.0 - UNIFORM) * detail / mean + UNIFORM)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Gaussian blur with mirrored borders."""
    radius = int(4 * SMOOTH)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / SMOOTH) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        values = blurred(np.pad(values, pad, mode="symmetric"), taps, axis == 0)
    return values


@functools.lru_cache(maxsize=4)
def _kept_path(width: int, height: int) -> NDArray[np.int64]:
    path: NDArray[np.int64] = hilbert_path(width, height)
    path.flags.writeable = False
    return path


@dataclass(frozen=True, slots=True)
class Scatter:
    """Places spread over a picture."""

    columns: NDArray[np.int64]  # (N,), px
    rows: NDArray[np.int64]  # (N,), px
    spacing: NDArray[np.float64]  # (N,), px, to the neighbours of each, by the density


def scatter(wanted: NDArray[np.float64], experts: int, random: np.random.Generator) -> Scatter:  # (H, W)
    """One pixel at random in each equal share of a density along a Hilbert curve."""
    height, width = wanted.shape
    wanted = wanted.ravel()
    path = _kept_path(width, height) if height * width <= _KEPT else hilbert_path(width, height)
    reached = np.cumsum(wanted[path])
    draws = (np.arange(experts) + random.uniform(size=experts)) / experts * reached[-1]
    chosen = path[np.minimum(np.searchsorted(reached, draws), height * width - 1)]
    rows, columns = np.divmod(chosen, width)
    return Scatter(columns, rows, np.sqrt(reached[-1] / (experts * wanted[chosen])))


def begin(picture: NDArray[np.float32], experts: int, order: int, random: np.random.Generator) -> Packed:
    """Round kernels by the density of detail, one at random in each equal share of it along a Hilbert curve."""
    return begin_by(picture, density(picture), experts, order, random)


def begin_even(picture: NDArray[np.float32], experts: int, order: int, random: np.random.Generator) -> Packed:
    """Round kernels of one size, spread evenly whatever the picture shows."""
    return begin_by(picture, np.ones(picture.shape[1:]), experts, order, random)


def begin_by(
    picture: NDArray[np.float32],  # (C, H, W)
    wanted: NDArray[np.float64],  # (H, W)
    experts: int,
    order: int,
    random: np.random.Generator,
) -> Packed:
    """Round kernels by a density, of which only the ratios between pixels matter."""
    channels, height, width = picture.shape
    places = scatter(wanted, experts, random)
    centres = np.stack([places.columns, places.rows], axis=1) + random.uniform(size=(experts, 2))
    sharpness = 1.0 / np.clip(WIDTH * places.spacing, 0.3, max(height, width))
    zero = np.zeros_like(sharpness)
    geometry = np.stack([sharpness, zero, sharpness, zero], axis=1).astype(np.float32)
    values = np.zeros((experts, channels * (3 if order else 1)), np.float32)
    values[:, :channels] = picture[:, places.rows, places.columns].T
    return Packed(np.ascontiguousarray(centres), geometry, values, channels, order)
