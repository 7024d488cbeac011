"""Any network over a large picture: overlapping tiles, blended, made smaller when memory runs out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError, LimitError, ShapeError
from moesaic.memory import is_out_of_memory
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

Take = Callable[[int, int, int, int], "Tensor"]
"""Gives a part of a picture: top, bottom, left, right -> (B, C, bottom - top, right - left)."""


def run_tiled(
    model: Callable[[Tensor], Tensor],  # (B, C, h, w) -> (B, C', h * scale, w * scale)
    x: Tensor,  # (B, C, H, W)
    *,
    tile: int | None = 512,
    overlap: int = 64,
    multiple_of: int = 1,
    scale: int = 1,
    device: torch.device | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:  # (B, C', H * scale, W * scale), on the device of x
    """What `model` makes of `x`, computed tile by tile and without gradients.

    Neighbouring tiles share `overlap` pixels. In the quarter of these at its rim a tile has no say, in the quarter at
    the far side it has all, and between them a raised cosine. So the result is that of the whole picture, up to
    rounding, for a model whose outputs depend on nothing farther than `overlap / 4` pixels away. What looks farther,
    such as a mean over the map or the grid of a routed layer, sees its tile alone.

    All tiles have one size; the picture is filled up to it, and to `multiple_of`, by repeating its last row and column.
    When memory runs out the tile is halved, down to twice the overlap, and the work begins anew.

    Args:
        model: called under `torch.no_grad`; put it into evaluation mode before.
        x: the picture or pictures, on any device.
        tile: side of a tile, px; None: the whole picture in one piece, and tiles only when memory runs out.
        overlap: pixels that neighbouring tiles share.
        multiple_of: tiles have sides, and begin at rows and columns, that are multiples of this.
        scale: output pixels per input pixel.
        device: where the tiles go; that of `x` unless given.
        finish: applied to each finished band of rows, (B, C', rows, W * scale), before it is kept, such as the choice
            of the best class, so that a large picture never has all its channels in memory.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: a size is no whole number or below 1, the overlap is below 0, or a tile is not larger than its
            overlap.
        ShapeError: x has not four axes, is empty or holds no floats, or the model returns something else than a map of
            the right size.
        LimitError: there is not enough memory even for the smallest tile.
    """
    if not is_a(x, torch.Tensor):
        raise ShapeError(f"x is a tensor (B, C, H, W), not {type(x).__name__}")
    if x.ndim != 4 or 0 in x.shape:
        raise ShapeError(f"x is (B, C, H, W) and not empty, not {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ShapeError(f"x holds floats in [0, 1], not {x.dtype}: divide bytes by 255")
    side, shared = _sides(tile, overlap, multiple_of, scale, x.shape[-2:])
    taken = of_tensor(x)
    work = _Work(
        model, taken, (x.shape[-2], x.shape[-1]), shared, multiple_of, scale, device or x.device, finish, progress
    )
    while True:
        try:
            return _joined(work.bands(side), x, scale)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = _first_line(error)
        # Outside the except clause, whose traceback would keep the tensors of the failed attempt alive.
        side = work.smaller(side, reason)


def stream_tiled(
    model: Callable[[Tensor], Tensor],  # (B, C, h, w) -> (B, C', h * scale, w * scale)
    take: Take,
    size: tuple[int, int],  # H, W
    *,
    tile: int | None = 512,
    overlap: int = 64,
    multiple_of: int = 1,
    scale: int = 1,
    device: torch.device | None = None,
    finish: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Tensor]:  # each (B, C', rows, W * scale)
    """As `run_tiled`, for a picture that is never in memory as a whole: its pieces are taken where they are needed.

    Bands of finished rows come from top to bottom, those that `run_tiled` would join, and are the caller's. Pieces are
    taken from top to bottom as well; between two bands the first row of all pieces that are still to come is the row
    behind the last finished one. When memory runs out before the first band, the tile is halved, as there; all tiles
    have one size, so it does hardly later.

    Args:
        model: as there, and the other arguments, too.
        take: gives the pixels of rows and columns of the picture, (B, C, h, w), each from the first to one past the
            last: top, bottom, left, right.
        size: of the picture, px.
        tile: side of a tile, px.
        overlap: pixels that neighbouring tiles share.
        multiple_of: as there.
        scale: output pixels per input pixel.
        device: where the tiles go, and where bands are; that of what is taken unless given.
        finish: applied to each finished band of rows.
        progress: told the number of tiles done and of all.

    Raises:
        ArgumentError: as there.
        ShapeError: the model returns something else than a map of the right size.
        LimitError: there is not enough memory even for the smallest tile, or it runs out after the first band.
    """
    side, shared = _sides(tile, overlap, multiple_of, scale, size)
    work = _Work(model, take, size, shared, multiple_of, scale, device, finish, progress)
    given = 0
    while True:
        try:
            for band in work.bands(side):
                given += band.shape[-2]
                yield band
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = _first_line(error)
        if given:
            raise LimitError(
                f"memory ran out after {given} of {size[0] * scale} rows ({reason}); pass a smaller tile, or another"
                " device"
            )
        side = work.smaller(side, reason)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _sides(
    tile: int | None, overlap: int, multiple_of: int, scale: int, size: Sequence[int]
) -> tuple[int, int]:  # of tiles, and of what they share
    """The sides in multiples.

    Raises:
        ArgumentError: see `run_tiled`.
    """
    for name, value, least in (("tile", tile, 1), ("overlap", overlap, 0), ("multiple_of", multiple_of, 1)):
        if value is not None and not is_whole(value, least):
            raise ArgumentError(f"{name} is a number of px, at least {least}, not {value!r}")
    if not is_whole(scale, 1):
        raise ArgumentError(f"scale is a whole number of at least 1, not {scale!r}")
    if tile is not None and tile <= overlap:
        raise ArgumentError(f"a tile of {tile} px must be larger than its overlap of {overlap} px")
    shared = _up(overlap, multiple_of)
    side = _up(tile or max(size), multiple_of)
    return max(side, shared + multiple_of), shared  # rounding must not eat up the step


def of_tensor(x: Tensor) -> Take:
    """What takes pieces of a picture that is in memory, (B, C, H, W)."""
    return lambda top, bottom, left, right: x[..., top:bottom, left:right]


def _joined(bands: Iterator[Tensor], x: Tensor, scale: int) -> Tensor:  # (B, C', H * scale, W * scale)
    batch, _, height, width = x.shape
    result: Tensor | None = None
    done = 0
    for band in bands:
        if result is None:
            result = torch.empty(batch, band.shape[1], height * scale, width * scale, dtype=band.dtype, device=x.device)
        result[:, :, done : done + band.shape[2]] = band
        done += band.shape[2]
    if result is None:
        raise ShapeError(f"nothing to do for {tuple(x.shape)}")
    return result


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done, whatever the side of the tiles."""

    model: Callable[[Tensor], Tensor]
    take: Take
    size: tuple[int, int]
    shared: int
    multiple_of: int
    scale: int
    device: torch.device | None
    finish: Callable[[Tensor], Tensor] | None
    progress: Callable[[int, int], None] | None

    def smaller(self, side: int, reason: str) -> int:
        """The next side to try.

        Raises:
            LimitError: there is none.
        """
        least = max(2 * self.shared, self.multiple_of)
        now = min(side, _up(max(self.size), self.multiple_of))
        if now <= least:
            raise LimitError(
                f"there is not enough memory even for tiles of {now} px ({reason}); "
                "pass a smaller picture, a smaller overlap, or another device"
            )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        side = max(_up(now // 2, self.multiple_of), least)
        _log.warning("not enough memory: trying again with tiles of %d px", side)
        return side

    def bands(self, side: int) -> Iterator[Tensor]:  # each (B, C', rows, W * scale)
        """Finished rows, from top to bottom."""
        scale = self.scale
        (height, width), parts = self.size, (self.shared, self.multiple_of, scale)
        rows, columns = _Axis(height, side, *parts), _Axis(width, side, *parts)
        band: Tensor | None = None  # the output rows that tiles may still add to
        done = 0  # output rows given so far
        for i in range(len(rows.starts)):
            with torch.no_grad():
                band = self._row(band, i, rows, columns)
                until = rows.starts[i + 1] * scale if i + 1 < len(rows.starts) else height * scale
                ready = band[:, :, : until - done, : width * scale]
                ready = ready if self.finish is None else self.finish(ready)
            yield ready
            del ready
            with torch.no_grad():  # a new one: the caller may keep the other
                band = torch.cat([band[:, :, until - done :], torch.zeros_like(band[:, :, : until - done])], dim=2)
            done = until

    def _row(self, band: Tensor | None, i: int, rows: _Axis, columns: _Axis) -> Tensor:
        """The band with one row of tiles added to it."""
        top, scale = rows.starts[i], self.scale
        for j, left in enumerate(columns.starts):
            bottom, right = min(top + rows.tile, self.size[0]), min(left + columns.tile, self.size[1])
            piece = self.take(top, bottom, left, right)
            piece = piece if self.device is None else piece.to(self.device)
            below, beside = rows.tile - piece.shape[-2], columns.tile - piece.shape[-1]
            if below or beside:
                piece = F.pad(piece, (0, beside, 0, below), mode="replicate")
            y = self.model(piece)
            if not is_a(y, torch.Tensor):
                raise ShapeError(f"the model makes no tensor (B, C, H, W), but {type(y).__name__}")
            wanted = (rows.tile * scale, columns.tile * scale)
            if y.ndim != 4 or y.shape[0] != piece.shape[0] or y.shape[-2:] != wanted:
                raise ShapeError(
                    f"the model makes {tuple(y.shape)} of {tuple(piece.shape)}; expected were "
                    f"({piece.shape[0]}, C, {rows.tile * scale}, {columns.tile * scale})"
                )
            if band is None:
                band = y.new_zeros(y.shape[0], y.shape[1], rows.tile * scale, columns.span * scale)
            window = rows.shares[i].to(y)[:, None] * columns.shares[j].to(y)
            band[..., left * scale : (left + columns.tile) * scale] += y * window
            if self.progress is not None:
                self.progress(i * len(columns.starts) + j + 1, len(rows.starts) * len(columns.starts))
        assert band is not None  # noqa: S101 - there is a column
        return band


class _Axis:
    """Where the tiles of one axis begin, and the share that each has in the outputs that it covers; shares sum to 1."""

    def __init__(self, length: int, tile: int, shared: int, multiple_of: int, scale: int) -> None:
        whole = _up(length, multiple_of)
        self.tile = min(tile, whole)
        step = self.tile - shared
        count = 1 if self.tile == whole else 1 + math.ceil((whole - self.tile) / step)
        self.starts = [min(i * step, whole - self.tile) for i in range(count)]
        self.span = whole
        place = torch.arange(self.tile * scale) + 0.5
        rim = shared * scale / 4
        rise = ((place - rim) / max(shared * scale - 2 * rim, 1e-9)).clamp(0, 1)
        rise = 0.5 - 0.5 * torch.cos(math.pi * rise) if shared else torch.ones_like(place)
        total = torch.zeros(whole * scale)
        self.shares = []
        for i, start in enumerate(self.starts):
            share = torch.ones_like(place)
            share = share * rise if i else share
            share = share * rise.flip(0) if i + 1 < count else share
            self.shares.append(share)
            total[start * scale : (start + self.tile) * scale] += share
        self.shares = [
            share / total[start * scale : (start + self.tile) * scale]
            for share, start in zip(self.shares, self.starts, strict=True)
        ]


def _up(value: int, multiple_of: int) -> int:
    return -(-value // multiple_of) * multiple_of
