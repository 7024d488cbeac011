"""MoCE-IR's decoder: blocks that send each picture to one expert, and the steps between levels.

Axis letters: B batch, C channels, H W rows and columns, D numbers of a picture's summary. Source: MoCE-IR (arXiv
2411.18466) and its reference code `eduardzamfir/MoCE-IR`, which concatenates the encoder's maps where the paper's
figure adds them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from moesaic.restore.blocks import ChannelAttention, ChannelNorm, CrossChannelAttention, GatedFeedForward
from moesaic.restore.complexity_balance import ComplexityBalance
from moesaic.restore.picture_gate import PictureGate
from moesaic.restore.window_mixing import complexity_experts
from moesaic.routing import RoutedExperts


class ComplexityBlock(nn.Module):
    """A decoder block: a shared expert always, a complexity expert by choice, both merged; then the feed-forward half.

    Args:
        channels: C.
        heads: of its attentions.
        experts: how many complexity experts.
        summary: D, of the embedding that its router reads.
        noise: of the router in training.
        published_gate: see `PictureGate`.
        balance: weight of its balance loss.
        weigh_complexity: whether that loss leans towards cheap experts.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        experts: int,
        summary: int,
        noise: float,
        published_gate: bool,
        balance: float,
        weigh_complexity: bool,
    ) -> None:
        super().__init__()
        self.norm_experts = ChannelNorm(channels)
        self.to_shared = nn.Conv2d(channels, channels, 1)
        self.to_experts = nn.Conv2d(channels, channels, 1)
        self.shared = ChannelAttention(channels, heads, bias=False)
        bank = complexity_experts(channels, experts)
        sizes = [sum(p.numel() for p in expert.parameters()) for expert in bank]
        name = "cost_weighted" if weigh_complexity else "importance"
        costs = tuple(size / max(sizes) for size in sizes) if weigh_complexity else None
        self.mixture = RoutedExperts(
            bank,
            PictureGate(channels, experts, condition_size=summary, noise=noise, published=published_gate),
            grid=1,
            halo=0,
            balance=ComplexityBalance(name, balance, costs),
        )
        self.after = nn.Conv2d(channels, channels, 1, bias=False)
        self.merge = CrossChannelAttention(channels, heads)
        self.norm_feed = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The map with what both halves add."""
        y = self.norm_experts(x)
        shared = self.shared(self.to_shared(y))
        expert = self.mixture(torch.cat([self.to_experts(y), shared], dim=1))
        x = x + self.merge(self.after(expert), shared)
        z: Tensor = x + self.feed(self.norm_feed(x))
        return z


class Down(nn.Module):
    """Half the rows and columns, twice the channels: 3x3 convolution to C / 2, then 2x2 pixels into channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 2 C, H / 2, W / 2)
        """The smaller map."""
        return pixel_unshuffle(self.conv(x), 2)


class Up(nn.Module):
    """Twice the rows and columns, half the channels, and the encoder's map of that size merged in by a 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.merge = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(
        self,
        x: Tensor,  # (B, C, H, W)
        skip: Tensor,  # (B, C / 2, 2 H, 2 W)
    ) -> Tensor:  # (B, C / 2, 2 H, 2 W)
        """The larger map."""
        y: Tensor = self.merge(torch.cat([pixel_shuffle(self.conv(x), 2), skip], dim=1))
        return y


class Decoder(nn.Module):
    """From the latent map up to full size, through the levels of complexity blocks, the smallest map first."""

    def __init__(self, ups: Sequence[Up], stages: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.ups = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)

    def forward(
        self,
        x: Tensor,  # (B, 8 C, H / 8, W / 8)
        skips: Sequence[Tensor],  # the encoder's maps, the smallest first
    ) -> Tensor:  # (B, C, H, W)
        """The map at full size."""
        for up, stage, skip in zip(self.ups, self.stages, skips, strict=True):
            x = stage(up(x, skip))
        return x
