"""From the moments of pairs to the gradient of kernels: sums in a fixed order, then the chain rule."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from moesaic.mixture.backends.gpu_lists import Lists

PAIRS = 32  # of a kernel, summed at once


def by_kernel(lists: Lists, kernels: int) -> tuple[Tensor, Tensor]:
    """Pairs in order of kernels (R,) int64, and where a kernel's pairs begin (N + 1,) int64.

    Pairs of a kernel stay in order of tiles; entries beyond the last pair are sorted to the end.
    """
    device = lists.kernel.device
    places = torch.arange(len(lists.kernel), device=device)
    keys = torch.where(places < lists.start[-1], lists.kernel, kernels)
    ordered, pairs = torch.sort(keys, stable=True)
    wanted = torch.arange(kernels + 1, dtype=torch.int32, device=device)
    return pairs, torch.searchsorted(ordered, wanted)


@triton.jit
def gather(
    pairs, kernel_start, partial,
    moments,  # (N, K) float32
    K: tl.constexpr, WIDE: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Sum the moments of one kernel's pairs, in float64."""
    j = tl.program_id(0)
    end = tl.load(kernel_start + j + 1)
    column = tl.arange(0, WIDE)
    total = tl.zeros((PAIRS, WIDE), tl.float64)
    i = tl.load(kernel_start + j)
    while i < end:
        at = i + tl.arange(0, PAIRS)
        q = tl.load(pairs + at, mask=at < end, other=0)
        mask = (at < end)[:, None] & (column < K)[None, :]
        total += tl.load(partial + q[:, None] * K + column[None, :], mask=mask, other=0.0).to(tl.float64)
        i += PAIRS
    tl.store(moments + j * K + column, tl.sum(total, axis=0).to(tl.float32), mask=column < K)


@triton.jit
def chain(
    moments, geometry, experts,
    slope,  # (N, K): by centre, factors, log prior, expert
    kernels, C: tl.constexpr, ORDER: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The gradient by a kernel's parameters from the sums of its moments."""
    j = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    mask = j < kernels
    K: tl.constexpr = 6 + C * (1 + 2 * ORDER)
    x, y, l0, l1, l2, p = by_parameter(moments, geometry, experts, j, mask, C, ORDER)
    tl.store(slope + j * K, x.to(tl.float32), mask=mask)
    tl.store(slope + j * K + 1, y.to(tl.float32), mask=mask)
    tl.store(slope + j * K + 2, l0.to(tl.float32), mask=mask)
    tl.store(slope + j * K + 3, l1.to(tl.float32), mask=mask)
    tl.store(slope + j * K + 4, l2.to(tl.float32), mask=mask)
    tl.store(slope + j * K + 5, p.to(tl.float32), mask=mask)
    for k in tl.static_range(6, K):
        tl.store(slope + j * K + k, tl.load(moments + j * K + k, mask=mask), mask=mask)


@triton.jit
def by_parameter(moments, geometry, experts, j, mask, C: tl.constexpr, ORDER: tl.constexpr):
    """Gradients by centre (2), factors (3) and log prior, in float64."""
    K: tl.constexpr = 6 + C * (1 + 2 * ORDER)
    m0 = tl.load(moments + j * K, mask=mask, other=0.0).to(tl.float64)
    m1 = tl.load(moments + j * K + 1, mask=mask, other=0.0).to(tl.float64)
    m2 = tl.load(moments + j * K + 2, mask=mask, other=0.0).to(tl.float64)
    m3 = tl.load(moments + j * K + 3, mask=mask, other=0.0).to(tl.float64)
    m4 = tl.load(moments + j * K + 4, mask=mask, other=0.0).to(tl.float64)
    m5 = tl.load(moments + j * K + 5, mask=mask, other=0.0).to(tl.float64)
    f0 = tl.load(geometry + 4 * j, mask=mask, other=1.0).to(tl.float64)
    f1 = tl.load(geometry + 4 * j + 1, mask=mask, other=0.0).to(tl.float64)
    f2 = tl.load(geometry + 4 * j + 2, mask=mask, other=1.0).to(tl.float64)
    along = f0 * m1 + f1 * m2
    x = f0 * along
    y = f1 * along + f2 * f2 * m2
    if ORDER == 1:  # the expert is linear in x - centre, so the centre moves its value too
        for c in tl.static_range(C):
            mass = tl.load(moments + j * K + 6 + c, mask=mask, other=0.0)
            x -= tl.load(experts + j * 3 * C + C + 2 * c, mask=mask, other=0.0).to(tl.float64) * mass
            y -= tl.load(experts + j * 3 * C + C + 2 * c + 1, mask=mask, other=0.0).to(tl.float64) * mass
    return x, y, -(f0 * m3 + f1 * m4), -(f0 * m4 + f1 * m5), -f2 * m5, m0
