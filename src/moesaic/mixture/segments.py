"""Kernels placed and shaped by superpixels: one for each, with its centre, its second moments and its mean colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture import start
from moesaic.mixture.backends.cpu import Packed
from moesaic.mixture.backends.regions import grow

COLOUR = 0.15  # difference of colour that counts as much as one spacing of the seeds
WIDTH = 1.1  # standard deviation of a kernel against that of its segment's pixels
THINNEST = 0.3  # px, standard deviation of a kernel along its shorter axis at least


def superpixels(
    picture: NDArray[np.float32],  # (C, H, W)
    columns: NDArray[np.int64],  # (S,), px
    rows: NDArray[np.int64],  # (S,), px
    spacing: NDArray[np.float64],  # (S,), px, of the seeds around each
) -> NDArray[np.int32]:  # (H, W)
    """The number of the seed that each pixel belongs to; segments are connected, and hug edges as colours tell them.

    A seed on the pixel of an earlier one gets no segment.

    Source: Achanta and Süsstrunk, "Superpixels and polygons using simple non-iterative clustering" (CVPR 2017).
    """
    height, width = picture.shape[1:]
    _, first = np.unique(rows * width + columns, return_index=True)
    first = np.sort(first)
    nearness = ((COLOUR / spacing[first]) ** 2).astype(np.float32)
    labels = np.full((height, width), -1, np.int32)
    grow(np.ascontiguousarray(picture.transpose(1, 2, 0)), columns[first], rows[first], nearness, labels)
    return first.astype(np.int32)[labels]


def begin(picture: NDArray[np.float32], experts: int, order: int, random: np.random.Generator) -> Packed:
    """Steered kernels from superpixels whose seeds are spread by the density of detail."""
    channels, height, width = picture.shape
    seeds = start.scatter(start.density(picture), experts, random)
    calm = np.stack([start.smoothed(channel.astype(np.float64)) for channel in picture]).astype(np.float32)
    labels = superpixels(calm, seeds.columns, seeds.rows, seeds.spacing).ravel()
    count = np.bincount(labels, minlength=experts).astype(np.float64)
    held = np.maximum(count, 1.0)
    x, y = np.arange(height * width) % width + 0.5, np.arange(height * width) // width + 0.5
    centres = np.stack([np.bincount(labels, along, experts) / held for along in (x, y)], axis=1)
    aside, below = x - centres[labels, 0], y - centres[labels, 1]
    pairs = ((aside, aside), (aside, below), (below, below))
    spread = np.stack([np.bincount(labels, a * b, experts) / held for a, b in pairs], axis=1)
    values = np.zeros((experts, channels * (3 if order else 1)), np.float32)
    for c, channel in enumerate(picture):
        values[:, c] = np.bincount(labels, channel.ravel(), experts) / held
    empty = count == 0
    centres[empty] = np.stack([seeds.columns[empty], seeds.rows[empty]], axis=1) + 0.5
    values[empty, :channels] = picture[:, seeds.rows[empty], seeds.columns[empty]].T
    return Packed(centres, shapes(spread), values, channels, order)


def shapes(
    spread: NDArray[np.float64],  # (N, 3), variances xx, xy, yy of the centres of a segment's pixels, px^2
) -> NDArray[np.float32]:  # (N, 4)
    """The factors of the kernels that fit such segments, with log priors of 0."""
    covariance = WIDTH**2 * (spread + np.array([1.0, 0.0, 1.0]) / 12.0)  # and of the pixels themselves
    xx, xy, yy = (covariance + np.array([THINNEST**2, 0.0, THINNEST**2])).T
    determinant = xx * yy - xy * xy
    precision = np.stack([yy, -xy, xx], axis=1) / determinant[:, None]
    across = np.sqrt(precision[:, 0])
    along = precision[:, 1] / across
    down = np.sqrt(precision[:, 2] - along**2)
    return np.stack([across, along, down, np.zeros_like(across)], axis=1).astype(np.float32)
