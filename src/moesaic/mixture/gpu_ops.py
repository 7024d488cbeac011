"""The renderer's torch operations on the GPU backend: twins of `ops`, which run wherever Triton does.

`gpu_cover` lists kernels by tile, `gpu_blend` draws them, `gpu_blend_backward` goes back. Lists take whatever room the
device asks for, so `gpu_cover` waits for it once; the others do not.
"""

# ruff: noqa: ARG001  fake-tensor twins share a signature and use little of it
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moesaic.mixture.backends import gpu, gpu_gather
from moesaic.mixture.backends.gpu_canvas import Canvas, canvas
from moesaic.mixture.backends.gpu_lists import Lists
from moesaic.mixture.backends.layout import TILE
from moesaic.mixture.ops import by_parameter


def _kernels(centres: Tensor, factors: Tensor, log_priors: Tensor, experts: Tensor, order: int) -> gpu.Kernels:
    geometry = torch.cat([factors, log_priors[:, None]], dim=1).float().contiguous()
    channels = experts.shape[1] // (3 if order else 1)
    return gpu.Kernels(centres.double().contiguous(), geometry, experts.float().contiguous(), channels, order)


def _sheet(centres: Tensor, width: int, height: int) -> Canvas:
    return canvas(((width, height),), (len(centres),), centres.device)


def _lists(bars: Tensor, start: Tensor, kernel: Tensor) -> Lists:
    return Lists(bars, start, kernel, start[-1:], (len(kernel),))


@torch.library.custom_op("moesaic::gpu_cover", mutates_args=())
def gpu_cover(
    centres: Tensor,  # (N, 2) float64, px of the output
    factors: Tensor,  # (N, 3), 1/px of the output
    log_priors: Tensor,  # (N,)
    width: int,
    height: int,
    margin: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """List the kernels of every tile; see `backends.gpu_lists.Lists` for the bars, starts and kernels that come back.

    Raises:
        LimitError: the lists or the picture are too long to address.
    """
    with torch.cuda.device_of(centres):
        sheet = _sheet(centres, width, height)
        gpu.check_size(sheet, 4)
        found = gpu.list_exactly(sheet, _kernels(centres, factors, log_priors, factors, 0), margin)
    return found.bars, found.start, found.kernel


@gpu_cover.register_fake
def _(
    centres: Tensor, factors: Tensor, log_priors: Tensor, width: int, height: int, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    room = torch.library.get_ctx().new_dynamic_size()
    tiles = -(-width // TILE) * -(-height // TILE)
    return (
        centres.new_empty(tiles, dtype=torch.float32),
        centres.new_empty(tiles + 1, dtype=torch.int64),
        centres.new_empty(room, dtype=torch.int32),
    )


@torch.library.custom_op("moesaic::gpu_blend", mutates_args=())
def gpu_blend(
    centres: Tensor,  # (N, 2) float64, px of the output
    factors: Tensor,  # (N, 3), 1/px
    log_priors: Tensor,  # (N,)
    experts: Tensor,  # (N, C) colours, or (N, 3 C): colours, then C pairs of slopes
    bars: Tensor,
    start: Tensor,
    kernel: Tensor,
    width: int,
    height: int,
    order: int,
) -> tuple[Tensor, Tensor]:
    """The picture (C, H, W), float32, and the logarithm of each pixel's sum of weights (H, W) above its tile's bar."""
    with torch.cuda.device_of(centres):
        kernels = _kernels(centres, factors, log_priors, experts, order)
        picture, level = gpu.draw(_sheet(centres, width, height), kernels, _lists(bars, start, kernel))
    return picture.view(-1, height, width), level.view(height, width)


@gpu_blend.register_fake
def _(  # type: ignore[no-untyped-def]
    centres, factors, log_priors, experts, bars, start, kernel, width, height, order
):
    channels = experts.shape[1] // (3 if order else 1)
    picture = experts.new_empty((channels, height, width), dtype=torch.float32)
    return picture, experts.new_empty((height, width), dtype=torch.float32)


@torch.library.custom_op("moesaic::gpu_blend_backward", mutates_args=())
def gpu_blend_backward(
    slope: Tensor,  # (C, H, W), dL/dpicture
    picture: Tensor,  # (C, H, W)
    level: Tensor,  # (H, W)
    centres: Tensor,
    factors: Tensor,
    log_priors: Tensor,
    experts: Tensor,
    bars: Tensor,
    start: Tensor,
    kernel: Tensor,
    order: int,
) -> Tensor:  # (N, 6 + K)
    """Gradient by centre (2), factors (3), log prior (1) and expert (K numbers), float32."""
    with torch.cuda.device_of(centres):
        kernels = _kernels(centres, factors, log_priors, experts, order)
        sheet = _sheet(centres, picture.shape[2], picture.shape[1])
        lists = _lists(bars, start, kernel)
        pull = slope.float().contiguous()
        base = (pull * picture).sum(dim=0)
        pairs = gpu_gather.by_kernel(lists, len(centres))
        placed = gpu.put(sheet, kernels, lists)
        planes = (level.contiguous().view(-1), pull.view(-1), base.view(-1))
        return gpu.gradient(kernels, gpu.go_back(sheet, kernels, lists, placed, pairs, *planes))


@gpu_blend_backward.register_fake
def _(  # type: ignore[no-untyped-def]
    slope, picture, level, centres, factors, log_priors, experts, bars, start, kernel, order
):
    return experts.new_empty((experts.shape[0], 6 + experts.shape[1]), dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.order = inputs[-1]
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *inputs[:7])


def _go_back(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    picture, level, centres, factors, log_priors, experts, *lists = ctx.saved_tensors
    all_of_it = gpu_blend_backward(slope, picture, level, centres, factors, log_priors, experts, *lists, ctx.order)
    return (*by_parameter(all_of_it, centres, factors, log_priors, experts), *[None] * 6)


gpu_blend.register_autograd(_go_back, setup_context=_save)
