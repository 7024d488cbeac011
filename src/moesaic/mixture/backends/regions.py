"""Superpixels by growth from seeds: a compiled loop over a queue of pixels, nearest first."""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def grow(
    picture,  # (H, W, C) float32
    columns,  # (S,) int64, px; no two seeds on one pixel
    rows,  # (S,) int64, px
    nearness,  # (S,) float32, 1/px^2, weight of squared distance in the plane against squared distance of colours
    labels,  # (H, W) int32, all -1; becomes the number of the seed that each pixel belongs to
):
    """Give every pixel to the segment whose running mean of place and colour is nearest when its turn comes."""
    height, width, channels = picture.shape
    seeds = len(columns)
    count = np.zeros(seeds, np.float32)
    across = np.zeros(seeds, np.float32)
    down = np.zeros(seeds, np.float32)
    colour = np.zeros((seeds, channels), np.float32)
    # Distance, pixel and segment: the later two decide between equal distances, so that every run is the same.
    queue = [(np.float32(0.0), np.int64(rows[s] * width + columns[s]), np.int64(s)) for s in range(seeds)]
    heapq.heapify(queue)
    while len(queue) > 0:
        _, pixel, k = heapq.heappop(queue)
        i, j = pixel // width, pixel % width
        if labels[i, j] >= 0:
            continue
        labels[i, j] = k
        count[k] += 1.0
        share = np.float32(1.0) / count[k]
        across[k] += (j - across[k]) * share
        down[k] += (i - down[k]) * share
        for c in range(channels):
            colour[k, c] += (picture[i, j, c] - colour[k, c]) * share
        for side in range(4):
            y = i + (side == 0) - (side == 1)
            x = j + (side == 2) - (side == 3)
            if 0 <= y < height and 0 <= x < width and labels[y, x] < 0:
                far = nearness[k] * ((x - across[k]) ** 2 + (y - down[k]) ** 2)
                for c in range(channels):
                    far += (picture[y, x, c] - colour[k, c]) ** 2
                heapq.heappush(queue, (np.float32(far), np.int64(y * width + x), k))
