"""Pairs to learn from: clean crops, and what is left of them at a fraction of the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.degrade.bases import resize_matrix
from moesaic.degrade.batched.wild import apply_steps
from moesaic.degrade.mix import check_mix, draw_sorts
from moesaic.degrade.wild import draw_steps
from moesaic.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.degrade.wild import Step

SORTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"bicubic": (0.0, 0.0), "mild": (0.0, 0.3), "medium": (0.3, 0.7), "severe": (0.7, 1.0), "full": (0.0, 1.0)}
)
"""The severities of each sort of pair; "bicubic" shrinks and does nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What goes in, and what is true of it."""

    low: Tensor  # (B, 3, h, w), float32 in [0, 1], on the levels of 8 bits
    severity: Tensor  # (B,), float32 in [0, 1] on the CPU, the true one
    chains: list[list[Step]]  # B, what was done to each picture before it shrank for good; nothing for "bicubic"
    sort: Tensor  # (B,) int64 on the CPU, the place of each picture's sort among the names of the mix


def make_pairs(
    clean: Tensor,  # (B, 3, H, W)
    generator: torch.Generator,
    scale: int,
    mix: Mapping[str, float],
) -> Pairs:
    """Shrink each picture, by bicubic interpolation alone or by the second-order chain.

    Args:
        clean: float32 in [0, 1], on any device; sides are multiples of the scale.
        generator: on the CPU; the same draws on every device, and the same pictures on devices of one type.
        scale: by which the pictures shrink.
        mix: shares of sorts, by the names of `SORTS`.

    Raises:
        ShapeError: `clean` has another shape, or sides that are no multiples of the scale.
        ArgumentError: the mix is none of these sorts, see `moesaic.degrade.mix.check_mix`.
    """
    check_mix(mix, SORTS)
    if clean.ndim != 4 or clean.shape[1] != 3 or not clean.numel():
        raise ShapeError(f"clean pictures have the shape (B, 3, H, W), not {tuple(clean.shape)}")
    count, _, height, width = clean.shape
    if height % scale or width % scale:
        raise ShapeError(f"sides of {height} x {width} px are no multiples of the scale {scale}")
    names = list(mix)
    sort = draw_sorts(mix.values(), count, generator)
    place = torch.rand(count, generator=generator).tolist()
    seed = int(torch.randint(2**62, (), generator=generator))
    fields = torch.Generator(clean.device).manual_seed(seed)
    low = _levels(shrunk(clean, scale))
    chains: list[list[Step]] = []
    severities = []
    for row, number in enumerate(sort.tolist()):
        least, most = SORTS[names[number]]
        severity = least + (most - least) * place[row]
        steps: list[Step] = []
        if names[number] != "bicubic":
            steps = draw_steps(np.random.default_rng([seed, row]), height, width, severity, scale)
            low[row] = apply_steps(clean[row : row + 1], steps, fields)[0]
        chains.append(steps)
        severities.append(severity)
    return Pairs(low=low, severity=torch.tensor(severities), chains=chains, sort=sort)


def shrunk(
    pictures: Tensor,  # (B, C, H, W)
    scale: int,
) -> Tensor:  # (B, C, H / scale, W / scale)
    """Bicubic interpolation with a kernel that grows with the scale, as in Pillow."""
    rows, columns = (torch.from_numpy(resize_matrix(side, side // scale)).to(pictures) for side in pictures.shape[-2:])
    return rows @ pictures @ columns.mT


def _levels(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255 + 0.5).floor() / 255
