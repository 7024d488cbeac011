"""Where kernels begin: more of them where the picture changes, spread evenly along a space-filling curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture.backends.cpu import Packed

POWER = 1.3  # of the gradient, in the density of centres
UNIFORM = 0.05  # share of the centres that are spread evenly
SMOOTH = 1.5  # px, standard deviation of the density's smoothing
WIDTH = 0.45  # standard deviation of a kernel against the spacing of its neighbours


def density(picture: NDArray[np.float32]) -> NDArray[np.float64]:  # (C, H, W) -> (H, W)
    """How densely kernels should stand at each pixel; the mean is 1."""
    height, width = picture.shape[1:]
    square = np.zeros((height, width))
    for channel in picture.astype(np.float64):
        if height > 1:
            square += np.gradient(channel, axis=0) ** 2
        if width > 1:
            square += np.gradient(channel, axis=1) ** 2
    detail = np.maximum(smoothed(np.sqrt(square)), 0.0) ** POWER
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
        padded = np.pad(values, pad, mode="symmetric")
        parts = [np.take(padded, range(k, k + values.shape[axis]), axis=axis) * tap for k, tap in enumerate(taps)]
        values = np.sum(parts, axis=0)
    return values


def hilbert_index(x: NDArray[np.int64], y: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Place of each cell (x, y) of a 2^bits square along the Hilbert curve, on which neighbours stay neighbours.

    Source: the classic rotate-and-flip construction, e.g. Warren, "Hacker's Delight", chapter 16.
    """
    x, y = x.astype(np.int64), y.astype(np.int64)
    index = np.zeros_like(x)
    side = 1 << (bits - 1)
    while side:
        right, below = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right) ^ below)
        x, y = x & (side - 1), y & (side - 1)
        flip = right & ~below
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(below, x, y), np.where(below, y, x)
        side >>= 1
    return index


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
    rows, columns = np.divmod(np.arange(height * width), width)
    bits = max(int(max(height, width) - 1).bit_length(), 1)
    path = np.argsort(hilbert_index(columns, rows, bits), kind="stable")
    reached = np.cumsum(wanted[path])
    draws = (np.arange(experts) + random.uniform(size=experts)) / experts * reached[-1]
    chosen = path[np.minimum(np.searchsorted(reached, draws), height * width - 1)]
    return Scatter(columns[chosen], rows[chosen], np.sqrt(reached[-1] / (experts * wanted[chosen])))


def begin(picture: NDArray[np.float32], experts: int, order: int, random: np.random.Generator) -> Packed:
    """Round kernels by the density of detail, one at random in each equal share of it along a Hilbert curve."""
    return _round(picture, density(picture), experts, order, random)


def begin_even(picture: NDArray[np.float32], experts: int, order: int, random: np.random.Generator) -> Packed:
    """Round kernels of one size, spread evenly whatever the picture shows."""
    return _round(picture, np.ones(picture.shape[1:]), experts, order, random)


def _round(
    picture: NDArray[np.float32], wanted: NDArray[np.float64], experts: int, order: int, random: np.random.Generator
) -> Packed:
    channels, height, width = picture.shape
    places = scatter(wanted, experts, random)
    centres = np.stack([places.columns, places.rows], axis=1) + random.uniform(size=(experts, 2))
    sharpness = 1.0 / np.clip(WIDTH * places.spacing, 0.3, max(height, width))
    zero = np.zeros_like(sharpness)
    geometry = np.stack([sharpness, zero, sharpness, zero], axis=1).astype(np.float32)
    values = np.zeros((experts, channels * (3 if order else 1)), np.float32)
    values[:, :channels] = picture[:, places.rows, places.columns].T
    return Packed(np.ascontiguousarray(centres), geometry, values, channels, order)
