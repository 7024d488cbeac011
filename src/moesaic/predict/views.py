"""What the network is shown: maps of a picture with kernels on it, and windows around each kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from moesaic.predict.network import PATCH, STEP, TAPS

if TYPE_CHECKING:
    from torch import Tensor

_LOUD = 4.0  # what is missing is shown so much larger: it is small where a picture is nearly right


def maps(
    picture: Tensor,  # (3, H, W)
    drawn: Tensor | None,  # (3, H, W), what the kernels show; None before there are any colours
    centres: Tensor,  # (N, 2), px
) -> Tensor:  # (1, 7, H', W'), sides filled up to multiples of 16
    """The picture, what is missing of it, and the number of kernels at each pixel."""
    _, height, width = picture.shape
    columns = centres[:, 0].long().clamp(0, width - 1)
    rows = centres[:, 1].long().clamp(0, height - 1)
    counts = picture.new_zeros(height * width)
    counts.index_add_(0, rows * width + columns, counts.new_ones(len(centres)))
    missing = torch.zeros_like(picture) if drawn is None else _LOUD * (picture - drawn)
    found = torch.cat([picture - 0.5, missing, counts.view(1, height, width)])[None]
    side = 2 * PATCH
    return F.pad(found, (0, -width % side, 0, -height % side), mode="replicate")


def at(
    features: Tensor,  # (C, h, w), of patches of PATCH px
    centres: Tensor,  # (N, 2), px
) -> Tensor:  # (N, C)
    """The map at each kernel, interpolated between the middles of patches."""
    height, width = features.shape[-2:]
    size = features.new_tensor([width * PATCH, height * PATCH])
    grid = (2 * centres.to(features) / size - 1)[None, None]
    found = F.grid_sample(features[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def windows(
    picture: Tensor,  # (3, H, W)
    drawn: Tensor | None,  # (3, H, W)
    centres: Tensor,  # (N, 2), px
    spacing: Tensor,  # (N,), px
) -> Tensor:  # (N, 6 * TAPS^2)
    """Around each kernel, at steps of its spacing: the picture less its own colour there, and what is missing."""
    taps = (torch.arange(TAPS, device=centres.device) - TAPS // 2).to(picture) * STEP
    down, right = torch.meshgrid(taps, taps, indexing="ij")
    offsets = torch.stack([right, down], dim=-1).view(-1, 2)  # (TAPS^2, 2)
    points = centres[:, None].to(picture) + spacing[:, None, None].to(picture) * offsets
    missing = torch.zeros_like(picture) if drawn is None else _LOUD * (picture - drawn)
    seen = sampled(torch.cat([picture, missing]), points.view(-1, 2)).view(len(centres), TAPS**2, 6)
    middle = seen[:, TAPS**2 // 2, :3]
    seen = torch.cat([seen[..., :3] - middle[:, None], seen[..., 3:]], dim=2)
    return seen.flatten(1)


def sampled(
    picture: Tensor,  # (C, H, W)
    points: Tensor,  # (N, 2), px
) -> Tensor:  # (N, C)
    """Values between the middles of pixels, bilinear; beyond the canvas those of its rim."""
    height, width = picture.shape[-2:]
    grid = (2 * points / points.new_tensor([width, height]) - 1)[None, None]
    found = F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].T


def own(
    centres: Tensor,  # (N, 2), px
    spacing: Tensor,  # (N,), px
    raw: Tensor,  # (N, RAW)
    new: Tensor,  # (N,) bool
    down: Tensor,  # (N, RAW + 1)
) -> Tensor:  # (N, OWN)
    """What a kernel is told of itself: first where it stands in its patch, from -1 to 1, and its spacing in patches."""
    inside = 2 * (centres / PATCH - (centres / PATCH).floor()) - 1
    return torch.cat([inside, (spacing[:, None] / PATCH).log(), raw, new[:, None].to(raw), down], dim=1)
