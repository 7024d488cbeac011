"""The GPU backend: tiles as Triton programs, lists made on the device, and no waiting for it on the way.

Everything is given in pixels of the output, for one picture or for many at once (see `gpu_canvas`). Triton's
interpreter runs the same code on CPU tensors: set TRITON_INTERPRET=1 before anything imports triton.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from moesaic.errors import LimitError
from moesaic.mixture.backends import gpu_deep, gpu_gather, gpu_tiles
from moesaic.mixture.backends.gpu_canvas import Canvas, canvas
from moesaic.mixture.backends.gpu_lists import Lists, first_room, list_kernels, rounded
from moesaic.mixture.backends.layout import MOMENTS

SHARES = 4  # programs that a tile's gradient is shared out to where tiles are few
FEW = 2**13  # tiles
DRAW_WARPS, DRAW_UNROLL = 2, 4
BACK_WARPS, BACK_UNROLL = 1, 2
MOST = 2**31 - 1  # offsets within an array are 32-bit integers


@dataclass(frozen=True, slots=True)
class Kernels:
    """A mixture, or several one after another, as the programs read it."""

    centres: Tensor  # (N, 2) float64, px
    geometry: Tensor  # (N, 4) float32, l_xx, l_yx, l_yy in 1/px, log prior
    experts: Tensor  # (N, C) or (N, 3 C) float32: colours, then pairs of slopes
    channels: int
    order: int


@dataclass(frozen=True, slots=True)
class Placed:
    """The pairs of some lists in their tiles' coordinates; holds for the kernels that it was made from."""

    record: Tensor  # (8 + K, R) float32
    span: Tensor  # (T,) float32, nats from the bar to the largest prior


@dataclass(frozen=True, slots=True)
class Compared:
    """What drawing against a target leaves for the way back; one plane a picture unless it says C."""

    level: Tensor  # (pixels,) logarithm of the sum of weights
    slope: Tensor  # (C * pixels,) dL/dpicture
    base: Tensor  # (pixels,) sum over channels of dL/dpicture times picture
    error: Tensor  # (pixels,) squared error, summed over channels


def interpreted() -> bool:
    """Whether Triton's interpreter stands in for a device, so that tensors live on the CPU."""
    return not isinstance(gpu_tiles.forward, triton.JITFunction)


@functools.cache
def launch_once() -> None:
    """Draw the smallest picture: what is missing at run time, such as a compiler, shows here."""
    device = torch.device("cpu" if interpreted() else "cuda")
    one = Kernels(
        torch.ones((1, 2), dtype=torch.float64, device=device),
        torch.tensor([[1.0, 0.0, 1.0, 0.0]], device=device),
        torch.ones((1, 1), device=device),
        channels=1,
        order=0,
    )
    sheet = canvas(((2, 2),), (1,), device)
    picture, _ = draw(sheet, one, list_exactly(sheet, one, 10.0))
    if not torch.equal(picture.cpu(), torch.ones(4)):
        raise RuntimeError("a kernel of one colour was drawn wrongly")


def check_size(sheet: Canvas, channels: int) -> None:
    """Refuse pictures whose pixels an offset of 32 bits cannot reach.

    Raises:
        LimitError: there are too many.
    """
    if sheet.pixels * channels > MOST:
        raise LimitError(f"{sheet.pixels} pixels of {channels} channels are too many at once: draw fewer")


def list_exactly(sheet: Canvas, kernels: Kernels, margin: float) -> Lists:
    """Lists that are complete: made again with more room as long as some of it was too small. Waits for the device.

    Raises:
        LimitError: the lists would be too long to address.
    """
    room = first_room(sheet, margin)
    while True:
        lists = list_kernels(sheet, kernels.centres, kernels.geometry, margin, room)
        needed = tuple(lists.needed.tolist())
        if all(pairs <= wide for pairs, wide in zip(needed, room, strict=True)):
            sheet.room[margin] = room
            return lists
        # a list cut short makes the ones below it shorter too, so they may grow again
        room = tuple(max(wide, rounded(pairs + pairs // 4)) for pairs, wide in zip(needed, room, strict=True))
        check_room(room, kernels.experts.shape[1])


def check_room(room: tuple[int, ...], width: int) -> None:
    """Refuse lists that an offset of 32 bits cannot reach, with `width` numbers an expert.

    Raises:
        LimitError: they are too long.
    """
    if max(room) * (8 + width) > MOST:
        raise LimitError(f"{max(room)} pairs of kernel and tile are too many: draw the picture in parts")


def put(sheet: Canvas, kernels: Kernels, lists: Lists) -> Placed:
    """The lists' pairs in their tiles' coordinates."""
    device, room = kernels.centres.device, len(lists.kernel)
    record = torch.empty((8 + kernels.experts.shape[1], room), dtype=torch.float32, device=device)
    span = torch.empty(len(sheet.tiles), dtype=torch.float32, device=device)
    gpu_tiles.place[(len(sheet.tiles),)](
        sheet.tiles, lists.start, lists.kernel, room, lists.bars, kernels.centres, kernels.geometry, kernels.experts,
        record, span, C=kernels.channels, ORDER=kernels.order, WIDTH=gpu_tiles.WALK, num_warps=2,
    )  # fmt: skip
    return Placed(record, span)


def draw(sheet: Canvas, kernels: Kernels, lists: Lists, placed: Placed | None = None) -> tuple[Tensor, Tensor]:
    """Pictures (C * pixels,), one after another, and each pixel's level (pixels,)."""
    placed = placed or put(sheet, kernels, lists)
    picture = torch.empty(kernels.channels * sheet.pixels, dtype=torch.float32, device=kernels.centres.device)
    level = torch.empty(sheet.pixels, dtype=torch.float32, device=picture.device)
    unused = level
    _forward(sheet, kernels, lists, placed, (unused, picture, level, unused, unused, unused), compare=False)
    return picture, level


def compare(sheet: Canvas, kernels: Kernels, lists: Lists, placed: Placed, target: Tensor) -> Compared:
    """Draw and compare with targets (C * pixels,): the loss is the sum of squared errors."""
    slope = torch.empty(kernels.channels * sheet.pixels, dtype=torch.float32, device=target.device)
    level, base, error = torch.empty((3, sheet.pixels), dtype=torch.float32, device=target.device)
    _forward(sheet, kernels, lists, placed, (target, slope, level, slope, base, error), compare=True)
    return Compared(level, slope, base, error)


def _forward(
    sheet: Canvas, kernels: Kernels, lists: Lists, placed: Placed, planes: tuple[Tensor, ...], *, compare: bool
) -> None:
    grid, room = (len(sheet.tiles),), len(lists.kernel)
    kind = {"C": kernels.channels, "ORDER": kernels.order, "COMPARE": compare}
    gpu_tiles.forward[grid](
        sheet.tiles, lists.start, room, placed.record, placed.span, *planes,
        **kind, UNROLL=DRAW_UNROLL, num_warps=DRAW_WARPS,
    )  # fmt: skip
    gpu_deep.deep_forward[grid](
        sheet.tiles, lists.start, lists.kernel, room, kernels.centres, kernels.geometry, kernels.experts, placed.span,
        *planes, **kind, num_warps=4,
    )  # fmt: skip


def go_back(
    sheet: Canvas,
    kernels: Kernels,
    lists: Lists,
    placed: Placed,
    order: tuple[Tensor, Tensor],  # from `gpu_gather.by_kernel`
    level: Tensor,  # (pixels,)
    slope: Tensor,  # (C * pixels,), dL/dpicture
    base: Tensor,  # (pixels,), sum over channels of dL/dpicture times picture
) -> Tensor:
    """Moments (N, 6 + K) of all kernels; their last K numbers are the gradient by the expert."""
    room, width = len(lists.kernel), MOMENTS + kernels.experts.shape[1]
    partial = torch.empty((room, width), dtype=torch.float32, device=slope.device)
    kind = {"C": kernels.channels, "ORDER": kernels.order}
    tiles = len(sheet.tiles)
    gpu_tiles.backward[(tiles, shares(tiles))](
        sheet.tiles, lists.start, room, placed.record, placed.span, level, slope, base, partial, shares(tiles),
        **kind, UNROLL=BACK_UNROLL, num_warps=BACK_WARPS,
    )  # fmt: skip
    gpu_deep.deep_backward[(tiles,)](
        sheet.tiles, lists.start, lists.kernel, room, kernels.centres, kernels.geometry, kernels.experts, placed.span,
        slope, base, partial, **kind, num_warps=4,
    )  # fmt: skip
    return sum_by_kernel(order, partial)


def shares(tiles: int) -> int:
    """Programs that the pairs of each tile are shared out to."""
    return SHARES if tiles < FEW else 1


def sum_by_kernel(order: tuple[Tensor, Tensor], partial: Tensor) -> Tensor:
    """Sums (N, K) of the rows (R, K) of each kernel's pairs, in an order that never changes."""
    n, width = len(order[1]) - 1, partial.shape[1]
    sums = torch.empty((n, width), dtype=torch.float32, device=partial.device)
    gpu_gather.gather[(n,)](
        *order, partial, sums, K=width, WIDE=triton.next_power_of_2(width), PAIRS=gpu_gather.PAIRS, num_warps=1
    )
    return sums


def gradient(kernels: Kernels, moments: Tensor) -> Tensor:
    """Gradient (N, 6 + K) by centre (2), factors (3), log prior (1) and expert (K)."""
    slope = torch.empty_like(moments)
    n, width = len(moments), 128
    gpu_gather.chain[(triton.cdiv(n, width),)](
        moments, kernels.geometry, kernels.experts, slope, n,
        C=kernels.channels, ORDER=kernels.order, WIDTH=width, num_warps=4,
    )  # fmt: skip
    return slope
