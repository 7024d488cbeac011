"""Colours that colour-blind readers tell apart: ramps for amounts, and a few colours that keep neighbours apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.segment.routing_picture import COLOURS
from moesaic.sheet import INK, SHEET, Colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

AMOUNT = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
"""From little to much, evenly for the eye: five places of viridis, sRGB from 0 to 255."""

ERROR = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)])
"""From none to much: five places of inferno, whose dark end says that nothing is wrong there."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_DARK = 115  # levels of lightness; on darker colours letters are white


def ink_on(colour: Colour) -> Colour:
    """The colour of letters that can be read on another."""
    return SHEET if float(np.dot(colour, LUMA)) < _DARK else INK


def ramp(
    shares: NDArray[np.floating],  # (...), of the way from little to much; clipped to [0, 1]
    anchors: NDArray[np.int64],  # (A, 3)
) -> NDArray[np.uint8]:  # (..., 3)
    """The colours of amounts."""
    places = np.linspace(0, 1, len(anchors))
    along = np.clip(shares, 0, 1)
    mixed = np.stack([np.interp(along, places, anchors[:, c]) for c in range(3)], axis=-1)
    return np.asarray(np.rint(mixed), np.uint8)


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:  # (H, W, 3) -> (H, W), in [0, 1]
    """How light each pixel is."""
    return np.asarray(rgb.astype(np.float32) @ (LUMA / np.float32(255)))


def told_apart(own: NDArray[np.int32]) -> NDArray[np.uint8]:  # (H, W) -> (H, W, 3)
    """A colour for each owner of a map such that owners side by side differ, as far as eight colours go."""
    kernels, compact = np.unique(own, return_inverse=True)
    compact = compact.reshape(own.shape)
    beside: list[set[int]] = [set() for _ in kernels]
    for a, b in ((compact[:, :-1], compact[:, 1:]), (compact[:-1], compact[1:])):
        pairs = np.unique(np.stack([a[a != b], b[a != b]], axis=1), axis=0)
        for one, other in pairs.tolist():
            beside[one].add(other)
            beside[other].add(one)
    chosen = np.full(len(kernels), -1)
    used = np.zeros(len(COLOURS), np.int64)
    for place in sorted(range(len(kernels)), key=lambda one: -len(beside[one])):  # those with many neighbours first
        met = chosen[list(beside[place])] if beside[place] else chosen[:0]
        near = np.bincount(met[met >= 0], minlength=len(COLOURS))
        chosen[place] = np.lexsort((used, near))[0]  # the least met beside it, then the least used
        used[chosen[place]] += 1
    found: NDArray[np.uint8] = np.array(COLOURS, np.uint8)[chosen[compact]]
    return found


def borders(own: NDArray[np.int32]) -> NDArray[np.bool_]:  # (H, W) -> (H, W)
    """Pixels whose right or lower neighbour belongs to another owner."""
    found = np.zeros(own.shape, np.bool_)
    found[:, :-1] |= own[:, 1:] != own[:, :-1]
    found[:-1] |= own[1:] != own[:-1]
    return found
