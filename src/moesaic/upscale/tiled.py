"""A picture of any size enlarged tile by tile, as if in one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from moesaic.tiling import run_tiled, stream_tiled

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.tiling import Take
    from moesaic.upscale.network import CompactUpscaler

WHOLE = 512**2
"""Pixels of the largest input that is enlarged in one piece."""

TILE = 448  # px


def upscale_tiled(
    network: CompactUpscaler,
    low: Tensor,  # (1, 3, H, W)
    scale: int,
    *,
    tile: int | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:  # (1, C, scale * H, scale * W)
    """A picture as enlarged, without gradients: what one pass over the whole gives, up to rounding.

    Args:
        network: in evaluation mode; its ranks, if any, are merged. Tiles go to its device.
        low: in [0, 1], on any device.
        scale: one of the network's.
        tile: side of the tiles, px of the input; unless given, one piece up to `WHOLE` pixels as far as memory allows,
            else `TILE`.
        finish: applied to each finished band of rows, see `moesaic.tiling.run_tiled`.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: the tile is no whole number of px.
        ShapeError: `low` is no picture.
        LimitError: there is not enough memory even for the smallest tile.
    """
    options = _options(network, (low.shape[-2], low.shape[-1]), scale, tile)
    return run_tiled(lambda piece: network(piece, scale), low, finish=finish, progress=progress, **options)


def upscale_bands(
    network: CompactUpscaler,
    take: Take,
    size: tuple[int, int],  # H, W
    scale: int,
    *,
    tile: int | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Tensor]:  # each (1, C, rows, scale * W)
    """As `upscale_tiled`, for a picture that is never in memory as a whole; see `moesaic.tiling.stream_tiled`.

    Args:
        network: as there, and the other arguments, too.
        take: gives the pixels of rows and columns of the picture, (1, 3, h, w): top, bottom, left, right.
        size: of the picture, px.
        scale: one of the network's.
        tile: side of the tiles, px of the input.
        finish: applied to each finished band of rows.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: the tile is no whole number of px.
        LimitError: there is not enough memory even for the smallest tile, or it runs out after the first band.
    """
    options = _options(network, size, scale, tile)
    return stream_tiled(lambda piece: network(piece, scale), take, size, finish=finish, progress=progress, **options)


def _options(network: CompactUpscaler, size: tuple[int, int], scale: int, tile: int | None) -> dict[str, Any]:
    """How tiles lie."""
    overlap = 4 * network.reach  # of which a tile has no say in its outer quarter
    if tile is None and size[0] * size[1] > WHOLE:
        tile = TILE
    return {
        "tile": None if tile is None else max(tile, 2 * overlap),
        "overlap": overlap,
        "scale": scale,
        "device": next(network.parameters()).device,
    }
