"""What an estimator looks at: pictures that are checked, and of a large one pieces at its own resolution.

Noise and the blocks of JPEG live at the scale of pixels, so no estimator ever shrinks a picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 8
"""px of the shortest side: one block of JPEG, and what four strided convolutions can take."""
PIECES, PIECE = 16, 320
"""How many pieces of a large picture are looked at, and the longest side of one, px."""

Place = tuple[int, int, int, int]
"""Rows and columns of a picture: top, bottom, left, right."""


def checked(pictures: object) -> Tensor:  # (B, 3, H, W), float32
    """The pictures, if an estimator can say something of them.

    Raises:
        ShapeError: they have another shape than (B, 3, H, W), or sides below `SMALLEST`.
        ArgumentError: they are no tensor of floats, or hold what is no number.
    """
    if not isinstance(pictures, torch.Tensor) or not pictures.is_floating_point():
        kind = pictures.dtype if isinstance(pictures, torch.Tensor) else type(pictures).__name__
        raise ArgumentError(f"an estimator takes tensors of floats in [0, 1], not {kind}")
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ShapeError(f"an estimator takes pictures of the shape (B, 3, H, W), not {tuple(pictures.shape)}")
    height, width = pictures.shape[2:]
    if min(height, width) < SMALLEST:
        raise ShapeError(
            f"a picture of {width}x{height} px is too small to be judged; sides are at least {SMALLEST} px"
        )
    if not bool(pictures.isfinite().all()):
        raise ArgumentError("the pictures hold values that are no finite numbers")
    return pictures.float()


def spread(
    pictures: Tensor,  # (B, 3, H, W)
    side: int = PIECE,
    most: int = PIECES,
) -> list[Tensor]:  # each (B, 3, h, w) with h, w at most `side`
    """Pieces evenly spread over pictures of one size, as many across as suits their form; all of a small picture.

    A picture of at most as many pixels as the pieces have together is one piece, whatever its form.
    """
    return [_cut(pictures, place) for place in spread_places(pictures.shape[2], pictures.shape[3], side, most)]


def spread_places(height: int, width: int, side: int = PIECE, most: int = PIECES) -> list[Place]:
    """Where the pieces lie that `spread` takes of a picture of that size."""
    if height * width <= most * side * side:
        return [(0, height, 0, width)]
    return _places(height, width, side, most)


def crops(
    pictures: Tensor,  # (B, 3, H, W)
    side: int,
    most: int,
) -> list[Tensor]:  # each (B, 3, h, w) with h, w at most `side`
    """At most so many squares of pictures of one size, evenly spread, as many across as suits their form.

    Sides that are shorter than a square's are taken whole.
    """
    return [_cut(pictures, place) for place in _places(pictures.shape[2], pictures.shape[3], side, most)]


def _cut(pictures: Tensor, place: Place) -> Tensor:
    top, bottom, left, right = place
    return pictures[..., top:bottom, left:right]


def _places(height: int, width: int, side: int, most: int) -> list[Place]:
    rows = min(max(1, round(math.sqrt(most * height / width))), most, math.ceil(height / side))
    columns = min(most // rows, math.ceil(width / side))
    rows = min(most // columns, math.ceil(height / side))
    tops, lefts = _starts(height, side, rows), _starts(width, side, columns)
    return [(top, min(top + side, height), left, min(left + side, width)) for top in tops for left in lefts]


def _starts(length: int, side: int, count: int) -> list[int]:
    last = max(length - side, 0)
    return sorted({round(last * (place + 0.5) / count) for place in range(count)})
