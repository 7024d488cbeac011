"""The experts of the small restoration network: residual branches of growing rank that look through growing windows.

An expert of rank r and n scales mixes r channels within windows of 3 * 2^(n - 1) pixels of its map: a 3x3 convolution
of each channel on the map, on the map pooled to a half, to a quarter and so on, added up. MoCE-IR (arXiv 2411.18466)
mixes by a circular convolution in the Fourier domain of each window instead (`moesaic.restore.window_mixing`); pooled
windows have the same reach, cost a few multiply-adds for each pixel, and train several times faster on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.restore.blocks import ChannelNorm

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-6  # of the norms


class NullExpert(nn.Module):
    """The expert that leaves the map alone; it costs nothing."""

    macs = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Zeros: what this branch adds."""
        return torch.zeros_like(x)


class PyramidExpert(nn.Module):
    """W_out(mix(a) * m), with a and m two projections of the normalised map to r channels.

    Args:
        channels: C of the maps.
        rank: r.
        scales: n, on how many pooled copies of the map the r channels are mixed, the map itself included.

    Attributes:
        macs: multiply-adds for each pixel of the map.

    Raises:
        ArgumentError: the rank or the number of scales is below 1.
    """

    def __init__(self, channels: int, rank: int, scales: int) -> None:
        super().__init__()
        if rank < 1 or scales < 1:
            raise ArgumentError(f"an expert has a rank and a number of scales of at least 1, not {rank} and {scales}")
        self.norm = ChannelNorm(channels, epsilon=_EPSILON)
        self.inner = nn.Conv2d(channels, 2 * rank, 1)
        self.mixers = nn.ModuleList(nn.Conv2d(rank, rank, 3, padding=1, groups=rank) for _ in range(scales))
        self.outer = nn.Conv2d(rank, channels, 1)
        self.macs = 3.0 * channels * rank + sum(9 * rank / 4**scale for scale in range(scales))

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C, H, W)
        """What the expert adds to the map."""
        signal, gate = self.inner(self.norm(x)).chunk(2, dim=1)
        mixed, pooled = self.mixers[0](signal), signal
        for mixer in self.mixers[1:]:
            pooled = F.avg_pool2d(pooled, 2, ceil_mode=True, count_include_pad=False)
            mixed = mixed + F.interpolate(mixer(pooled), mixed.shape[2:], mode="bilinear", align_corners=False)
        added: Tensor = self.outer(mixed * gate)
        return added


class Block(nn.Module):
    """The always-on block: a gated 3x3 branch and a gated 1x1 branch, both residual.

    NAFNet's block (Chen et al. 2022, arXiv 2204.04676) without its channel attention: a mean over the map would make a
    tile differ from the whole picture. What the whole picture says reaches the decoder as one vector instead.

    Args:
        channels: C of the maps.

    Attributes:
        macs: multiply-adds for each pixel of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1 = ChannelNorm(channels, epsilon=_EPSILON)
        self.norm_2 = ChannelNorm(channels, epsilon=_EPSILON)
        self.inner_1 = nn.Conv2d(channels, 2 * channels, 1)
        self.mixer = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.outer_1 = nn.Conv2d(channels, channels, 1)
        self.inner_2 = nn.Conv2d(channels, 2 * channels, 1)
        self.outer_2 = nn.Conv2d(channels, channels, 1)
        self.macs = 6.0 * channels**2 + 18 * channels

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, C, H, W)
        """The map, refined."""
        signal, gate = self.mixer(self.inner_1(self.norm_1(x))).chunk(2, dim=1)
        x = x + self.outer_1(signal * gate)
        signal, gate = self.inner_2(self.norm_2(x)).chunk(2, dim=1)
        refined: Tensor = x + self.outer_2(signal * gate)
        return refined
