"""Who owns which place of a mixture: the kernel with the heaviest gate, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.mixture.backends.cover import cover
from moesaic.mixture.backends.layout import TILE
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.render import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.mixture.model import Mixture

_MARGIN = 1.0  # between logits; the heaviest is listed with a margin of 0, but for the rounding of the bars
_AT_ONCE = 1 << 20  # logits of a tile that are held at once


def owners(
    mixture: Mixture,
    *,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
) -> NDArray[np.int32]:  # (H, W)
    """The kernel with the heaviest gate at each pixel; of equals the first.

    Args:
        mixture: of at least one kernel, on any device.
        size: (width, height) of the map; that of the canvas when None.
        region: (left, top, right, bottom) on the canvas, px; the whole canvas when None.

    Raises:
        ShapeError: the mixture has no kernels.
        ArgumentError: a parameter is not finite.
    """
    check(mixture)
    width, height = size or (mixture.width, mixture.height)
    left, top, right, bottom = region or (0.0, 0.0, float(mixture.width), float(mixture.height))
    still = mixture.detach().to(device="cpu")
    stretch = np.array([width / (right - left), height / (bottom - top)])
    centres = (still.centres.double().numpy() - (left, top)) * stretch
    factors = still.factors.double().numpy() / stretch[[0, 1, 1]]
    priors = still.log_priors.double().numpy()
    geometry = np.ascontiguousarray(np.concatenate([factors, priors[:, None]], axis=1), dtype=np.float32)
    listed = cover(np.ascontiguousarray(centres), geometry, width, height, _MARGIN, default_threads())
    found = np.empty((height, width), np.int32)
    for tile in range(len(listed.tile_start) - 1):
        y, x = (TILE * place for place in divmod(tile, listed.columns))
        here = found[y : y + TILE, x : x + TILE]
        members = listed.tile_kernel[listed.tile_start[tile] : listed.tile_start[tile + 1]]
        best = np.full(here.shape, -np.inf)
        for first in range(0, len(members), _AT_ONCE // TILE**2):
            some = members[first : first + _AT_ONCE // TILE**2]
            dx = x + 0.5 + np.arange(here.shape[1]) - centres[some, 0, None]  # (M, columns)
            dy = y + 0.5 + np.arange(here.shape[0]) - centres[some, 1, None]  # (M, rows)
            f0, f1, f2 = factors[some].T[:, :, None]  # (M, 1) each
            u = (f0 * dx)[:, None, :] + (f1 * dy)[:, :, None]
            logits = (priors[some, None] - (f2 * dy) ** 2 / 2)[:, :, None] - u * u / 2
            heaviest = logits.argmax(axis=0)
            weight = np.take_along_axis(logits, heaviest[None], axis=0)[0]
            heavier = weight > best
            here[heavier] = some[heaviest[heavier]]
            best[heavier] = weight[heavier]
    return found


def owned(
    own: NDArray[np.int32],  # (H, W)
    kernels: int,
) -> NDArray[np.int64]:  # (N,)
    """How many pixels of the map each kernel owns."""
    return np.bincount(own.ravel(), minlength=kernels)


def spread(
    values: NDArray[np.float64],  # (N,), such as the bits of each kernel
    own: NDArray[np.int32],  # (H, W)
    mixture: Mixture,
) -> NDArray[np.float64]:  # (H, W), whose sum is that of the values
    """What kernels hold, spread over the pixels that each owns; one that owns none adds to the owner of its centre."""
    height, width = own.shape
    counts = owned(own, len(values))
    centres = mixture.centres.detach().cpu().double().numpy() * (width / mixture.width, height / mixture.height)
    columns, rows = (
        np.clip(np.floor(centres[:, axis]), 0, side - 1).astype(np.int64) for axis, side in ((0, width), (1, height))
    )
    without = counts == 0
    given = np.where(without, 0.0, values)
    np.add.at(given, own[rows[without], columns[without]], values[without])
    return np.asarray((given / np.maximum(counts, 1))[own])
