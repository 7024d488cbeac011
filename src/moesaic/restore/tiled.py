"""A picture of any size under one decision: looked at as a whole, or in pieces, and then restored tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.memory import is_out_of_memory, within_memory
from moesaic.tiling import run_tiled

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.restore.decision import Decision

WHOLE = 1_500_000
"""Pixels of the largest picture that is looked at, and restored, in one piece."""

TILE, OVERLAP = 768, 192
"""px. An overlap of 192 leaves 0.05 levels of 255 between tiles and the whole, for fresh weights of `MoceLite` whose
residual is 0.05 strong; one of 128 leaves 0.6. Tiles of 768 are quickest for it on a CPU: caches like smaller ones."""

PIECES, PIECE = 16, 320
"""How many pieces of a larger picture are looked at, at most, and their side in px."""


def restore_tiled(
    network: Any,
    x: Tensor,  # (1, 3, H, W)
    *,
    tile: int | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Decision]:  # (1, C, H, W)
    """A picture as restored, and the one decision that was made for all of it; without gradients.

    Args:
        network: a restoration network in evaluation mode; tiles go to its device.
        x: in [0, 1], on any device.
        tile: side of the tiles, px; unless given, one piece up to `WHOLE` pixels as far as memory allows, else `TILE`.
        finish: applied to each finished band of rows, see `moesaic.tiling.run_tiled`.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: the tile is no whole number of px.
        ShapeError: x is no picture.
        LimitError: there is not enough memory even for the smallest tile.
    """
    height, width = x.shape[-2:]
    x = _filled(x, int(getattr(network, "multiple_of", 1)))
    decision: Decision | None = None

    def act(piece: Tensor) -> Tensor:
        nonlocal decision
        restored: Tensor
        if decision is None and piece.shape == x.shape and hasattr(network, "restore_and_decide"):
            restored, decision = network.restore_and_decide(piece)
            return restored
        if decision is None:
            decision = decide(network, x)
        restored = network(piece, decision)
        return restored

    if tile is None and _pixels(x) > WHOLE:
        tile = TILE
    result = run_tiled(
        act,
        x,
        tile=tile,
        overlap=OVERLAP if tile is None else min(OVERLAP, tile // 2),
        multiple_of=int(getattr(network, "multiple_of", 1)),
        device=_device_of(network),
        finish=finish,
        progress=progress,
    )
    return result[..., :height, :width], decision if decision is not None else decide(network, x)


def decide(network: Any, x: Tensor) -> Decision:
    """What the network decides for a picture, from all of it up to `WHOLE` pixels, else from pieces spread over it.

    Args:
        network: as in `restore_tiled`.
        x: (1, 3, H, W), in [0, 1], on any device.

    Raises:
        LimitError: there is not enough memory even for pieces.
    """
    decision: Decision
    device = _device_of(network)
    if _pixels(x) <= WHOLE:
        try:
            decision = network.look([x.to(device)])
            return decision
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    with within_memory(f"pieces of {PIECE}x{PIECE} px; take another device"):
        decision = network.look([piece.to(device) for piece in _spread(x, int(getattr(network, "multiple_of", 1)))])
    return decision


def _spread(x: Tensor, multiple_of: int) -> list[Tensor]:
    """Pieces of a picture (1, 3, H, W), at most `PIECES`, evenly spread, as many across as suits its form."""
    height, width = x.shape[-2:]
    most = (math.ceil(height / PIECE), math.ceil(width / PIECE))
    rows = min(max(1, round(math.sqrt(PIECES * height / width))), PIECES, most[0])
    columns = min(PIECES // rows, most[1])
    rows = min(PIECES // columns, most[0])

    def starts(length: int, count: int) -> list[int]:
        last = max(length - PIECE, 0)
        return sorted({round(last * (i + 0.5) / count) // multiple_of * multiple_of for i in range(count)})

    tops, lefts = starts(height, rows), starts(width, columns)
    return [x[..., top : top + PIECE, left : left + PIECE] for top in tops for left in lefts]


def _filled(
    x: Tensor,  # (1, 3, H, W)
    multiple_of: int,
) -> Tensor:  # (1, 3, H', W')
    """The picture, filled up to multiples by mirroring as networks do it, so that tiles see what the whole would."""
    below, right = -x.shape[2] % multiple_of, -x.shape[3] % multiple_of
    if not (below or right):
        return x
    mirror = below < x.shape[2] and right < x.shape[3]
    return F.pad(x, (0, right, 0, below), mode="reflect" if mirror else "replicate")


def _pixels(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]


def _device_of(network: nn.Module) -> torch.device:
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
