"""A picture of any size under one decision: looked at as a whole, or in pieces, and then restored tile by tile."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.memory import is_out_of_memory, within_memory
from moesaic.tiling import of_tensor, run_tiled, stream_tiled

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.restore.decision import Decision
    from moesaic.tiling import Take

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
    acting = _Acting(network, of_tensor(x), (x.shape[-2], x.shape[-1]))
    result = run_tiled(acting, x, finish=finish, progress=progress, **_options(network, acting.size, tile))
    return result[..., :height, :width], acting.decided()


def restore_bands(
    network: Any,
    take: Take,
    size: tuple[int, int],  # H, W
    *,
    tile: int | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Iterator[Tensor], Decision]:  # each (1, C, rows, W)
    """As `restore_tiled`, for a picture that is never in memory as a whole; see `moesaic.tiling.stream_tiled`.

    What is decided, is decided first: for that pieces are taken from top to bottom once, and then anew for the tiles.

    Args:
        network: as there, and the other arguments, too.
        take: gives the pixels of rows and columns of the picture, (1, 3, h, w): top, bottom, left, right.
        size: of the picture, px.
        tile: side of the tiles, px.
        finish: applied to each finished band of rows.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: the tile is no whole number of px.
        LimitError: there is not enough memory even for the smallest tile, or it runs out after the first band.
    """
    multiple_of = int(getattr(network, "multiple_of", 1))
    whole = (size[0] + -size[0] % multiple_of, size[1] + -size[1] % multiple_of)
    acting = _Acting(network, _filling(take, size, whole), whole)
    options = _options(network, whole, tile)
    if options["tile"] is not None and options["tile"] < max(whole):
        acting.decided()
    bands = stream_tiled(acting, acting.take, whole, finish=finish, progress=progress, **options)
    first = next(bands)  # after which the decision is made, whatever the side of the tiles

    def all_bands() -> Iterator[Tensor]:
        left = size[0]
        for band in itertools.chain([first], bands):
            yield band[..., :left, : size[1]]
            left -= band.shape[-2]

    return all_bands(), acting.decided()


class _Acting:
    """Restores pieces under one decision, which is made where it is first needed."""

    def __init__(self, network: Any, take: Take, size: tuple[int, int]) -> None:
        self.take, self.size = take, size
        self._network = network
        self._decision: Decision | None = None

    def __call__(self, piece: Tensor) -> Tensor:
        whole = tuple(piece.shape[-2:]) == self.size
        restored: Tensor
        if self._decision is None and whole and hasattr(self._network, "restore_and_decide"):
            restored, self._decision = self._network.restore_and_decide(piece)
            return restored
        restored = self._network(piece, self.decided())
        return restored

    @torch.no_grad()
    def decided(self) -> Decision:
        """The decision."""
        if self._decision is None:
            self._decision = decide_of(self._network, self.take, self.size)
        return self._decision


def _options(network: Any, size: tuple[int, int], tile: int | None) -> dict[str, Any]:
    """How tiles lie."""
    if tile is None and size[0] * size[1] > WHOLE:
        tile = TILE
    return {
        "tile": tile,
        "overlap": OVERLAP if tile is None else min(OVERLAP, tile // 2),
        "multiple_of": int(getattr(network, "multiple_of", 1)),
        "device": _device_of(network),
    }


def decide(network: Any, x: Tensor) -> Decision:
    """What the network decides for a picture, from all of it up to `WHOLE` pixels, else from pieces spread over it.

    Args:
        network: as in `restore_tiled`.
        x: (1, 3, H, W), in [0, 1], on any device.

    Raises:
        LimitError: there is not enough memory even for pieces.
    """
    return decide_of(network, of_tensor(x), (x.shape[-2], x.shape[-1]))


def decide_of(network: Any, take: Take, size: tuple[int, int]) -> Decision:
    """As `decide`, for a picture of which pieces can be taken."""
    decision: Decision
    device = _device_of(network)
    height, width = size
    if height * width <= WHOLE:
        try:
            decision = network.look([take(0, height, 0, width).to(device)])
            return decision
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    places = _spread(size, int(getattr(network, "multiple_of", 1)))
    with within_memory(f"pieces of {PIECE}x{PIECE} px; take another device"):
        decision = network.look([take(*place).to(device) for place in places])
    return decision


def _spread(size: tuple[int, int], multiple_of: int) -> list[tuple[int, int, int, int]]:
    """Places of pieces of a picture, at most `PIECES`, evenly spread, as many across as suits its form."""
    height, width = size
    most = (math.ceil(height / PIECE), math.ceil(width / PIECE))
    rows = min(max(1, round(math.sqrt(PIECES * height / width))), PIECES, most[0])
    columns = min(PIECES // rows, most[1])
    rows = min(PIECES // columns, most[0])

    def starts(length: int, count: int) -> list[int]:
        last = max(length - PIECE, 0)
        return sorted({round(last * (i + 0.5) / count) // multiple_of * multiple_of for i in range(count)})

    tops, lefts = starts(height, rows), starts(width, columns)
    return [(top, min(top + PIECE, height), left, min(left + PIECE, width)) for top in tops for left in lefts]


def _filled(
    x: Tensor,  # (1, 3, H, W)
    multiple_of: int,
) -> Tensor:  # (1, 3, H', W')
    """The picture, filled up to multiples by mirroring as networks do it, so that tiles see what the whole would."""
    height, width = x.shape[-2:]
    whole = (height + -height % multiple_of, width + -width % multiple_of)
    return _filling(of_tensor(x), (height, width), whole)(0, whole[0], 0, whole[1])


def _filling(take: Take, size: tuple[int, int], whole: tuple[int, int]) -> Take:
    """Takes pieces of the picture that is filled up to a larger size."""
    mirror = whole[0] < 2 * size[0] and whole[1] < 2 * size[1]

    def filled(top: int, bottom: int, left: int, right: int) -> Tensor:
        x = take(top, min(bottom, size[0]), left, min(right, size[1]))
        below, beside = max(0, bottom - size[0]), max(0, right - size[1])
        if not (below or beside):
            return x
        return F.pad(x, (0, beside, 0, below), mode="reflect" if mirror else "replicate")

    return filled


def _device_of(network: nn.Module) -> torch.device:
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device
