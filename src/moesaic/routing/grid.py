"""The grid of places: a map cut into rows x columns of patches that differ by at most one pixel.

The grid states how many patches there are, never their size: so it is the same at every resolution, no map has to be
padded to fit it, and no patch consists of padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from torch import Tensor


def read_grid(grid: int | tuple[int, int]) -> tuple[int, int]:
    """Rows and columns from one number or two.

    Raises:
        ArgumentError: the grid is neither, or has no row or column.
    """
    rows, columns = (grid, grid) if isinstance(grid, int) else _pair(grid)
    if bool in (type(rows), type(columns)) or min(rows, columns) < 1:
        raise ArgumentError(f"grid {grid!r} has no places: give rows and columns of at least 1, such as 3 or (3, 4)")
    return rows, columns


def _pair(grid: object) -> tuple[int, int]:
    if isinstance(grid, Sequence) and len(grid) == 2 and all(isinstance(side, int) for side in grid):
        return grid[0], grid[1]
    raise ArgumentError(f"grid is a number of rows and columns, such as 3 or (3, 4), not {grid!r}")


def bounds(length: int, parts: int) -> list[int]:
    """Where `parts` runs of pixels begin and end in `length` of them: parts + 1 numbers, from 0 to `length`.

    No run is longer than ceil(length / parts), and the last one is of just that length: a window of this length
    that begins with any run lies inside.

    Raises:
        ShapeError: there are fewer pixels than parts.
    """
    if length < parts:
        raise ShapeError(
            f"a grid of {parts} patches does not fit a map of {length} pixels a side at this layer:"
            f" take a grid of at most {length}, or a larger picture"
        )
    return [part * length // parts for part in range(parts + 1)]


def boxes(height: int, width: int, grid: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right of each patch, row by row; bottom and right are exclusive.

    Raises:
        ShapeError: the map has fewer rows or columns than the grid.
    """
    rows, columns = bounds(height, grid[0]), bounds(width, grid[1])
    return [(rows[i], rows[i + 1], columns[j], columns[j + 1]) for i in range(grid[0]) for j in range(grid[1])]


def patches(
    x: Tensor,  # (B, C, H, W)
    grid: tuple[int, int],
) -> list[Tensor]:  # P of (B, C, h, w)
    """The patches of a map, as views.

    Raises:
        ShapeError: the map has fewer rows or columns than the grid.
    """
    return [
        cut(x, (top, left), (bottom - top, right - left))
        for top, bottom, left, right in boxes(x.shape[2], x.shape[3], grid)
    ]


def channels_last(x: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def cut(
    x: Tensor,  # (B, C, H, W)
    corner: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:  # (B, C, *size)
    """A part of a map, as a view; unlike slices of unknown sizes, its size is plain to an exporter."""
    return torch.narrow(torch.narrow(x, 2, corner[0], size[0]), 3, corner[1], size[1])


def join(
    patches: Sequence[Tensor],  # P of (B, C, h, w)
    grid: tuple[int, int],
) -> Tensor:  # (B, C, H, W)
    """The map that the patches came from."""
    if len(patches) == 1:
        return patches[0]
    columns = grid[1]
    if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
        return _write(patches, columns)
    rows = [torch.cat(list(patches[i * columns : (i + 1) * columns]), dim=3) for i in range(grid[0])]
    return torch.cat(rows, dim=2)


def _write(patches: Sequence[Tensor], columns: int) -> Tensor:
    """Each patch copied once to its place; autograd and tracing do better with concatenation."""
    height = sum(patch.shape[2] for patch in patches[::columns])
    width = sum(patch.shape[3] for patch in patches[:columns])
    batch, channels = patches[0].shape[:2]
    form = torch.channels_last if channels_last(patches[0]) else torch.contiguous_format
    whole = torch.empty(
        (batch, channels, height, width), dtype=patches[0].dtype, device=patches[0].device, memory_format=form
    )
    top = 0
    for first in range(0, len(patches), columns):
        left = 0
        for patch in patches[first : first + columns]:
            rows, width = patch.shape[2:]
            whole[:, :, top : top + rows, left : left + width] = patch
            left += width
        top += rows
    return whole


def spread(
    values: Tensor,  # (B, P)
    height: int,
    width: int,
    grid: tuple[int, int],
) -> Tensor:  # (B, 1, H, W)
    """A value for each place, as a map that is constant over each patch."""
    batch = values.shape[0]
    parts = [
        value.expand(batch, 1, bottom - top, right - left)
        for value, (top, bottom, left, right) in zip(
            values[:, :, None, None].split(1, dim=1), boxes(height, width, grid), strict=True
        )
    ]
    return join(parts, grid)


def place_mean(
    x: Tensor,  # (B, C, H, W)
    grid: tuple[int, int],
) -> Tensor:  # (B, P, C)
    """The mean over each patch, in float32 or better: one matrix product along the rows, one along the columns.

    Raises:
        ShapeError: the map has fewer rows or columns than the grid.
    """
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return _place_mean(x, grid)
    return _place_mean(x, grid)  # not within a disabled autocast: exporters stumble over one


def _place_mean(x: Tensor, grid: tuple[int, int]) -> Tensor:
    x = x if x.dtype == torch.float64 else x.float()
    along_rows = _averages(x.shape[2], grid[0], x)  # (rows, H)
    along_columns = _averages(x.shape[3], grid[1], x)  # (columns, W)
    if channels_last(x):
        runs = along_rows @ x.permute(0, 2, 3, 1).flatten(2)  # (B, rows, W * C)
        means = along_columns @ runs.unflatten(2, (-1, x.shape[1]))  # (B, rows, columns, C)
    else:
        means = (along_rows @ (x @ along_columns.T)).movedim(1, -1)  # (B, rows, columns, C)
    return torch.flatten(means, 1, 2)


def _averages(length: int, parts: int, like: Tensor) -> Tensor:  # (parts, length)
    ends = bounds(length, parts)
    pixel = torch.arange(length, device=like.device)
    return torch.stack(
        [
            ((pixel >= first) & (pixel < last)).to(like.dtype) / (last - first)
            for first, last in itertools.pairwise(ends)
        ]
    )
