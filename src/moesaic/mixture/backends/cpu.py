"""The CPU backend: tiles shared out to threads, kernels in, pixels and gradients out, all in NumPy arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture.backends import loops
from moesaic.mixture.backends.cover import Cover
from moesaic.mixture.backends.layout import MOMENTS, Work
from moesaic.mixture.backends.threads import run

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Packed:
    """A mixture in the arrays that the loops read, in pixels of the output."""

    centres: NDArray[np.float64]  # (N, 2)
    geometry: Floats  # (N, 4), l_xx, l_yx, l_yy, log prior
    experts: Floats  # (N, C) colours, or (N, 3 C): colours, then pairs of slopes
    channels: int
    order: int

    def with_experts(self, experts: Floats) -> Packed:
        """The same kernels with other experts."""
        return replace(self, experts=experts)

    def copy(self) -> Packed:
        """The same kernels in arrays of their own."""
        return replace(self, centres=self.centres.copy(), geometry=self.geometry.copy(), experts=self.experts.copy())

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Packed:
        """Some of the kernels, by mask or position."""
        return replace(self, centres=self.centres[which], geometry=self.geometry[which], experts=self.experts[which])


def spans(listed: Cover, threads: int) -> list[NDArray[np.int64]]:
    """Tiles in runs of about equal work, a few for each thread."""
    work = listed.tile_start + 2 * np.arange(len(listed.tile_start))  # a tile without pairs costs a little, too
    parts = 1 if threads == 1 else min(4 * threads, len(listed.bars))
    edges = np.searchsorted(work, np.linspace(0.0, work[-1], parts + 1))
    edges[0], edges[-1] = 0, len(listed.bars)
    return [np.arange(a, b) for a, b in pairwise(edges) if b > a]


def work(packed: Packed, listed: Cover) -> Work:
    """The mixture and its lists as the loops take them."""
    return Work(
        packed.centres,
        packed.geometry,
        packed.experts,
        listed.tile_kernel,
        listed.tile_rows,
        listed.tile_pairs,
        listed.tile_start,
        listed.bars,
        (1,) * packed.channels,
        (1,) * packed.order,
    )


def forward(packed: Packed, listed: Cover, threads: int) -> tuple[Floats, Floats]:
    """Draw; returns the picture (C, H, W) and the inverse sums of weights (H, W), relative to each tile's bar."""
    picture = np.empty((packed.channels, listed.height, listed.width), np.float32)
    sums = np.empty((listed.height, listed.width), np.float32)
    everything = work(packed, listed)
    run([partial(loops.forward, tiles, everything, picture, sums) for tiles in spans(listed, threads)], threads)
    return picture, sums


def backward(packed: Packed, listed: Cover, picture: Floats, sums: Floats, slope: Floats, threads: int) -> Floats:
    """Gradient (N, 6 + K) by centre (2), factors (3), log prior (1) and expert (K), from dL/dpicture (C, H, W)."""
    partials = np.empty((len(listed.pair_kernel), MOMENTS + packed.experts.shape[1]), np.float32)
    arrays = [np.ascontiguousarray(a) for a in (picture, sums, slope)]
    rest = (work(packed, listed), *arrays, partials)
    run([partial(loops.backward, tiles, *rest) for tiles in spans(listed, threads)], threads)
    return gather(packed, listed, partials, threads)


def squared_error(packed: Packed, listed: Cover, target: Floats, threads: int) -> tuple[Floats, Floats]:
    """Sum of squared errors against target (C, H, W) by pixel (H, W), and its gradient (N, 6 + K): one pass."""
    partials = np.empty((len(listed.pair_kernel), MOMENTS + packed.experts.shape[1]), np.float32)
    errors = np.empty((listed.height, listed.width), np.float32)
    rest = (work(packed, listed), np.ascontiguousarray(target), partials, errors)
    run([partial(loops.squared, tiles, *rest) for tiles in spans(listed, threads)], threads)
    return errors, gather(packed, listed, partials, threads)


def gather(packed: Packed, listed: Cover, partials: Floats, threads: int) -> Floats:
    """Sum the partial gradients of each kernel's pairs in their fixed order."""
    n = len(packed.centres)
    slope = np.empty((n, 6 + packed.experts.shape[1]), np.float32)
    everything = work(packed, listed)
    edges = np.linspace(0, n, threads + 1).astype(int)
    tasks = [
        partial(loops.gather, int(a), int(b), everything, listed.kernel_start, partials, slope)
        for a, b in pairwise(edges)
    ]
    run(tasks, threads)
    return slope
