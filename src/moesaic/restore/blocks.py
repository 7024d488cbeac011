"""The dense parts of MoCE-IR: a norm over channels, attention between channels, and a gated feed-forward half.

Axis letters: B batch, C channels, H W rows and columns. Every part keeps the rows and columns of its map.

Source: Restormer (Zamir et al. 2022, arXiv 2111.09881), section 3, which MoCE-IR (arXiv 2411.18466) takes over with an
expansion of 2 in the feed-forward half.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, normalize


class ChannelNorm(nn.Module):
    """Each pixel's channels brought to mean 0 and variance 1, then scaled and shifted by channel: 2 C parameters.

    In float32 under autocast; the map's type and memory format are kept.

    Args:
        channels: C.
        epsilon: added to the variance; as `torch.nn.LayerNorm` does unless given.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The normalised map."""
        last = x.permute(0, 2, 3, 1)  # as channels-last maps lie in memory, so that nothing of them is copied
        y = layer_norm(last, (x.shape[1],), self.weight, self.bias, self.epsilon).to(x.dtype).permute(0, 3, 1, 2)
        return y.contiguous() if x.is_contiguous() else y


def depthwise(channels: int, side: int, *, bias: bool) -> nn.Conv2d:
    """A convolution of each channel by itself, side x side, padded with zeros to keep the map's size."""
    return nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels, bias=bias)


def attend(
    q: Tensor,  # (B, C, H, W)
    k: Tensor,  # (B, C, H, W)
    v: Tensor,  # (B, C, H, W)
    temperature: Tensor,  # (heads,)
) -> Tensor:  # (B, C, H, W)
    """Attention between channels: softmax over j of temperature * <q_i, k_j>, applied to v, within each head.

    q_i and k_j are whole channels, each brought to length 1 over its pixels, so the score is the cosine of two channels
    and the map of scores is C / heads by C / heads however large the picture is.
    """
    heads = temperature.shape[0]
    a, b, c = (t.flatten(2).unflatten(1, (heads, -1)) for t in (q, k, v))  # (B, heads, C / heads, H * W)
    scores = normalize(a, dim=-1) @ normalize(b, dim=-1).transpose(-2, -1)
    mixed = (scores * temperature[:, None, None]).softmax(-1).to(c.dtype) @ c
    y: Tensor = mixed.flatten(1, 2).unflatten(-1, q.shape[2:])
    return y


class ChannelAttention(nn.Module):
    """Attention of a map's channels to each other (MDTA): q, k and v by a 1x1 and a depthwise 3x3 convolution.

    Args:
        channels: C.
        heads: how many groups of channels attend within themselves; divides C.
        bias: whether the convolutions add constants.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads))
        self.mix = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.near = depthwise(3 * channels, 3, bias=bias)
        self.out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """What each channel takes from the others."""
        q, k, v = self.near(self.mix(x)).chunk(3, dim=1)
        y: Tensor = self.out(attend(q, k, v, self.temperature))
        return y


class CrossChannelAttention(nn.Module):
    """Attention of one map's channels to another's: q from the first, k and v from the second; no constants.

    q by a 1x1 and a depthwise 3x3 convolution, k and v by a 1x1 and a depthwise 7x7.

    Args:
        channels: C, of both maps.
        heads: as in `ChannelAttention`.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads))
        self.mix_q = nn.Conv2d(channels, channels, 1, bias=False)
        self.near_q = depthwise(channels, 3, bias=False)
        self.mix_kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.near_kv = depthwise(2 * channels, 7, bias=False)
        self.out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(
        self,
        x: Tensor,  # (B, C, H, W), asks
        other: Tensor,  # (B, C, H, W), answers
    ) -> Tensor:  # (B, C, H, W)
        """What each channel of `x` takes from those of `other`."""
        k, v = self.near_kv(self.mix_kv(other)).chunk(2, dim=1)
        y: Tensor = self.out(attend(self.near_q(self.mix_q(x)), k, v, self.temperature))
        return y


class GatedFeedForward(nn.Module):
    """Twice as many channels, their neighbours mixed in, and one half gating the other (GDFN).

    Args:
        channels: C.
        bias: whether the convolutions add constants.
    """

    expansion = 2

    def __init__(self, channels: int, *, bias: bool) -> None:
        super().__init__()
        hidden = self.expansion * channels
        self.up = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.near = depthwise(2 * hidden, 3, bias=bias)
        self.down = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """Each pixel's channels, transformed with a look at its eight neighbours."""
        gate, value = self.near(self.up(x)).chunk(2, dim=1)
        y: Tensor = self.down(gelu(gate) * value)
        return y


class DenseBlock(nn.Module):
    """Channel attention, then the feed-forward half, each on the normalised map and added to it.

    Args:
        channels: C.
        heads: of the attention.
        bias: whether the convolutions add constants.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool = True) -> None:
        super().__init__()
        self.norm_attention = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads, bias=bias)
        self.norm_feed = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The map with what both halves add."""
        x = x + self.attention(self.norm_attention(x))
        y: Tensor = x + self.feed(self.norm_feed(x))
        return y
