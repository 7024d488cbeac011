"""The renderer as torch operations: `cover` lists kernels by tile, `blend` draws them, `blend_backward` goes back.

Each has fake-tensor support, so that torch.compile and export can trace through it, and `blend` has a hand-written
gradient. All three work in pixels of the output and run on the CPU backend.

The plain functions behind them, `list_tiles`, `draw_tiles` and `go_back_tiles`, are for those who trace and
differentiate nothing: the first call of any operation of one's own has torch load its compiler, which takes seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover
from moesaic.mixture.backends.cover import cover as list_kernels
from moesaic.mixture.backends.layout import TILE
from moesaic.mixture.backends.threads import default_threads

threads: int | None = None  # None: as many as the process may use


def _threads() -> int:
    return threads or default_threads()


def _geometry(factors: Tensor, log_priors: Tensor) -> np.ndarray:
    return torch.cat([factors, log_priors[:, None]], dim=1).float().contiguous().numpy()


def list_tiles(
    centres: Tensor,  # (N, 2) float64, px of the output
    factors: Tensor,  # (N, 3), 1/px of the output
    log_priors: Tensor,  # (N,)
    width: int,
    height: int,
    margin: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """List the kernels of every tile; see `backends.cover.Cover` for what comes back, in this order."""
    found = list_kernels(
        centres.contiguous().numpy(), _geometry(factors, log_priors), width, height, margin, _threads()
    )
    return (
        torch.from_numpy(found.bars),
        torch.from_numpy(found.pair_kernel),
        torch.from_numpy(found.pair_rows),
        torch.from_numpy(found.kernel_start),
        torch.from_numpy(found.tile_pairs),
        torch.from_numpy(found.tile_start),
        torch.from_numpy(found.tile_kernel),
        torch.from_numpy(found.tile_rows),
    )


cover = torch.library.custom_op("moesaic::cover", list_tiles, mutates_args=())


@cover.register_fake
def _(
    centres: Tensor, factors: Tensor, log_priors: Tensor, width: int, height: int, margin: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    pairs = torch.library.get_ctx().new_dynamic_size()
    tiles = -(-width // TILE) * -(-height // TILE)
    return (
        centres.new_empty(tiles, dtype=torch.float32),
        centres.new_empty(pairs, dtype=torch.int32),
        centres.new_empty((pairs, 2), dtype=torch.uint8),
        centres.new_empty(centres.shape[0] + 1, dtype=torch.int64),
        centres.new_empty(pairs, dtype=torch.int32),
        centres.new_empty(tiles + 1, dtype=torch.int64),
        centres.new_empty(pairs, dtype=torch.int32),
        centres.new_empty((pairs, 2), dtype=torch.uint8),
    )


def _packed(centres: Tensor, factors: Tensor, log_priors: Tensor, experts: Tensor, order: int) -> cpu.Packed:
    channels = experts.shape[1] // (3 if order else 1)
    values = experts.float().contiguous().numpy()
    return cpu.Packed(centres.contiguous().numpy(), _geometry(factors, log_priors), values, channels, order)


def draw_tiles(
    centres: Tensor,  # (N, 2) float64, px of the output
    factors: Tensor,  # (N, 3), 1/px
    log_priors: Tensor,  # (N,)
    experts: Tensor,  # (N, C) colours, or (N, 3 C): colours, then C pairs of slopes
    bars: Tensor,
    pair_kernel: Tensor,
    pair_rows: Tensor,
    kernel_start: Tensor,
    tile_pairs: Tensor,
    tile_start: Tensor,
    tile_kernel: Tensor,
    tile_rows: Tensor,
    width: int,
    height: int,
    order: int,
) -> tuple[Tensor, Tensor]:
    """The picture (C, H, W), float32, and each pixel's inverse sum of weights (H, W) relative to its tile's bar."""
    lists = [
        t.numpy() for t in (bars, pair_kernel, pair_rows, kernel_start, tile_pairs, tile_start, tile_kernel, tile_rows)
    ]
    packed = _packed(centres, factors, log_priors, experts, order)
    picture, sums = cpu.forward(packed, Cover(width, height, *lists), _threads())
    return torch.from_numpy(picture), torch.from_numpy(sums)


blend = torch.library.custom_op("moesaic::blend", draw_tiles, mutates_args=())


@blend.register_fake
def _(  # type: ignore[no-untyped-def]
    centres, factors, log_priors, experts, bars, pair_kernel, pair_rows, kernel_start, tile_pairs, tile_start,
    tile_kernel, tile_rows, width, height, order,
):  # fmt: skip
    channels = experts.shape[1] // (3 if order else 1)
    picture = experts.new_empty((channels, height, width), dtype=torch.float32)
    return picture, experts.new_empty((height, width), dtype=torch.float32)


def go_back_tiles(
    slope: Tensor,  # (C, H, W), dL/dpicture
    picture: Tensor,  # (C, H, W)
    sums: Tensor,  # (H, W)
    centres: Tensor,
    factors: Tensor,
    log_priors: Tensor,
    experts: Tensor,
    bars: Tensor,
    pair_kernel: Tensor,
    pair_rows: Tensor,
    kernel_start: Tensor,
    tile_pairs: Tensor,
    tile_start: Tensor,
    tile_kernel: Tensor,
    tile_rows: Tensor,
    order: int,
) -> Tensor:  # (N, 6 + K)
    """Gradient by centre (2), factors (3), log prior (1) and expert (K numbers), float32."""
    lists = [
        t.numpy() for t in (bars, pair_kernel, pair_rows, kernel_start, tile_pairs, tile_start, tile_kernel, tile_rows)
    ]
    packed = _packed(centres, factors, log_priors, experts, order)
    listed = Cover(picture.shape[2], picture.shape[1], *lists)
    arrays = (picture.contiguous().numpy(), sums.contiguous().numpy(), slope.float().contiguous().numpy())
    return torch.from_numpy(cpu.backward(packed, listed, *arrays, _threads()))


blend_backward = torch.library.custom_op("moesaic::blend_backward", go_back_tiles, mutates_args=())


@blend_backward.register_fake
def _(  # type: ignore[no-untyped-def]
    slope, picture, sums, centres, factors, log_priors, experts, bars, pair_kernel, pair_rows, kernel_start, tile_pairs,
    tile_start, tile_kernel, tile_rows, order,
):  # fmt: skip
    return experts.new_empty((experts.shape[0], 6 + experts.shape[1]), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.order = inputs[-1]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *inputs[:12])


def _go_back(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    picture, sums, centres, factors, log_priors, experts, *lists = ctx.saved_tensors
    all_of_it = blend_backward(slope, picture, sums, centres, factors, log_priors, experts, *lists, ctx.order)
    return (*by_parameter(all_of_it, centres, factors, log_priors, experts), *[None] * 11)


def by_parameter(
    gradient: Tensor,  # (N, 6 + K)
    centres: Tensor,
    factors: Tensor,
    log_priors: Tensor,
    experts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient's columns by the parameters that they belong to, each in that parameter's type."""
    by_centre, by_factor, by_prior, by_expert = gradient.split([2, 3, 1, experts.shape[1]], dim=1)
    return (
        by_centre.to(centres.dtype),
        by_factor.to(factors.dtype),
        by_prior[:, 0].to(log_priors.dtype),
        by_expert.to(experts.dtype),
    )


blend.register_autograd(_go_back, setup_context=_save)
