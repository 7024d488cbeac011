"""The rival on a GPU: one step of a fit with nothing but torch's operations, for torch.compile to make fast.

Tiles are sorted by the length of their lists and cut into groups, each padded to its longest list; lists are moesaic's
own and made beforehand, the tile's bar comes off every logit, and autograd goes back. Two forms of the arithmetic, as
in `plain_torch`: "direct", the formula as one writes it down, and "matrix", logits as a product of six coefficients
with the monomials of a tile's pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

TILE = 16  # px
AREA = TILE * TILE
LOG2E = math.log2(math.e)
FORMS = ("direct", "matrix")


class Group(NamedTuple):
    """Tiles with lists of similar length."""

    kernels: Tensor  # (T, K) int64; padding repeats kernel 0
    empty: Tensor  # (T, K) bool, True where padded
    bars: Tensor  # (T,)
    middles: Tensor  # (T, 2) float64, px
    aims: Tensor  # (T, C, 256)
    inside: Tensor  # (T, 256) bool


def cut(
    start: Tensor,  # (T + 1,)
    kernel: Tensor,  # (R,)
    bars: Tensor,  # (T,)
    target: Tensor,  # (C, H, W)
    groups: int,
) -> list[Group]:
    """A picture's tiles in groups."""
    channels, height, width = target.shape
    columns, rows = -(-width // TILE), -(-height // TILE)
    lengths = start[1:] - start[:-1]
    padded = target.new_zeros(channels, rows * TILE, columns * TILE)
    padded[:, :height, :width] = target
    aims = padded.view(channels, rows, TILE, columns, TILE).permute(1, 3, 0, 2, 4).reshape(-1, channels, AREA)
    seen = torch.zeros(rows * TILE, columns * TILE, dtype=torch.bool, device=target.device)
    seen[:height, :width] = True
    inside = seen.view(rows, TILE, columns, TILE).permute(0, 2, 1, 3).reshape(-1, AREA)
    order = torch.argsort(lengths, descending=True, stable=True)
    made = []
    for tiles in order.chunk(groups):
        longest = max(1, int(lengths[tiles[0]]))
        places = torch.arange(longest, device=target.device)
        empty = places >= lengths[tiles, None]
        listed = kernel[(start[tiles, None] + places).masked_fill(empty, 0)].long().masked_fill(empty, 0)
        middles = torch.stack([tiles % columns, tiles // columns], 1) * float(TILE) + TILE / 2
        made.append(Group(listed, empty, bars[tiles], middles.double(), aims[tiles], inside[tiles]))
    return made


def squared_error(
    centres: Tensor, factors: Tensor, log_priors: Tensor, colours: Tensor, group: Group, form: str
) -> Tensor:
    """The sum of squared errors of some tiles."""
    at = (centres[group.kernels] - group.middles[:, None]).float()
    x, y = at[..., :1], at[..., 1:]  # (T, K, 1)
    l0, l1, l2 = factors[group.kernels].unbind(-1)
    priors = (log_priors[group.kernels] - group.bars[:, None]).masked_fill(group.empty, -1e4)
    lanes = torch.arange(AREA, device=centres.device)
    px, py = (lanes % TILE).float() - 7.5, (lanes // TILE).float() - 7.5
    if form == "matrix":
        x, y = x[..., 0], y[..., 0]
        xx, xy, yy = -0.5 * l0 * l0, -l0 * l1, -0.5 * (l1 * l1 + l2 * l2)
        terms = [xx, xy, yy, -2 * xx * x - xy * y, -2 * yy * y - xy * x, priors + xx * x * x + xy * x * y + yy * y * y]
        monomials = torch.stack([px * px, px * py, py * py, px, py, torch.ones_like(px)])
        logits = torch.stack(terms, -1) @ monomials
    else:
        u = l0[..., None] * (px - x) + l1[..., None] * (py - y)
        v = l2[..., None] * (py - y)
        logits = priors[..., None] - 0.5 * (u * u + v * v)
    weights = torch.exp2(LOG2E * logits)  # (T, K, 256)
    values = colours[group.kernels]  # (T, K, C)
    picture = values.mT @ weights / weights.sum(1, keepdim=True).clamp(min=1e-30)
    return ((picture - group.aims).masked_fill(~group.inside[:, None], 0.0) ** 2).sum()


def stepper(
    parameters: list[Tensor],  # centres (N, 2) float64, factors (N, 3), log priors (N,), colours (N, C)
    groups: list[Group],
    form: str,
    *,
    compiled: bool = True,
) -> Callable[[], list[Tensor]]:
    """A call that makes one step's gradients, and moves the parameters by torch's own Adam."""
    leaves = [p.detach().clone().requires_grad_() for p in parameters]
    optimiser = torch.optim.Adam(leaves, lr=1e-4, capturable=leaves[0].is_cuda, fused=leaves[0].is_cuda)
    one: Any = torch.compile(squared_error, dynamic=False) if compiled else squared_error

    def step() -> list[Tensor]:
        gradients = [torch.zeros_like(leaf) for leaf in leaves]
        for group in groups:
            loss = one(*leaves, group, form)
            for total, part in zip(gradients, torch.autograd.grad(loss, leaves), strict=True):
                total += part
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient
        optimiser.step()
        return gradients

    return step
