"""MoCE-IR's complexity experts: a map of few channels, each window convolved with another made from itself.

Axis letters: B batch, C channels, R rank (channels within an expert), H W rows and columns, w side of a window in px.

Source: MoCE-IR (arXiv 2411.18466) and its reference code `eduardzamfir/MoCE-IR`. There ranks ascend with windows from 4
to 32; the paper's formula, with descending ranks and windows from 8 to 64, is another network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from moesaic.restore.blocks import ChannelNorm, depthwise
from moesaic.routing.choice import widened


def mix_windows(
    q: Tensor,  # (B, R, H, W)
    k: Tensor,  # (B, R, H, W)
    window: int,
) -> Tensor:  # (B, R, H, W)
    """The circular convolution of q and k within each window, by FFT.

        y[i, j] = sum over a, b of q[a, b] * k[(i - a) mod w, (j - b) mod w]

    A convolution, not a correlation: no conjugate is taken; and no scale. Maps that are no multiple of the window are
    filled up with zeros below and to the right, and the result is cut to their size. Computed in float32 or better,
    also under autocast, since sums of up to w * w products would overflow or coarsen in half precision.

    Args:
        q: the map.
        k: what it is convolved with, of the same shape.
        window: w, px.

    Returns:
        The mixed map, in the type of `q`.
    """
    height, width = q.shape[2:]
    a, b = (torch.fft.rfft2(_windows(widened(t), window)) for t in (q, k))
    mixed = torch.fft.irfft2(a * b, s=(window, window))  # (B, R, H / w, W / w, w, w)
    whole: Tensor = mixed.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return whole[..., :height, :width].to(q.dtype)


def _windows(x: Tensor, window: int) -> Tensor:  # (B, R, H / w, W / w, w, w)
    """A map cut into windows, filled up with zeros below and to the right."""
    height, width = x.shape[2:]
    x = pad(x, (0, -width % window, 0, -height % window))
    windows: Tensor = x.unflatten(3, (-1, window)).unflatten(2, (-1, window)).transpose(3, 4)
    return windows


class WindowMixing(nn.Module):
    """FFTMix at rank R: q and k convolved window by window, normalised, and multiplied with v.

    q by a 1x1 and a depthwise 3x3 convolution, k and v by a 1x1 and a depthwise 7x7; after the product a 1x1. The 1x1
    convolutions add constants (4 R of them), the depthwise ones do not, and the norm has a scale and a shift (2 R):
    with that there are as many parameters as in the reference code, 4 R^2 + 113 R.

    Args:
        rank: R.
        window: w, px.
    """

    def __init__(self, rank: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.mix_q = nn.Conv2d(rank, rank, 1)
        self.near_q = depthwise(rank, 3, bias=False)
        self.mix_kv = nn.Conv2d(rank, 2 * rank, 1)
        self.near_kv = depthwise(2 * rank, 7, bias=False)
        self.norm = ChannelNorm(rank)
        self.out = nn.Conv2d(rank, rank, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, R, H, W) -> (B, R, H, W)
        """The mixed map."""
        q = self.near_q(self.mix_q(x))
        k, v = self.near_kv(self.mix_kv(x)).chunk(2, dim=1)
        y: Tensor = self.out(self.norm(mix_windows(q, k, self.window)) * v)
        return y


class ComplexityExpert(nn.Module):
    """E(x, s) = x + W_out(FFTMix(W_in x) * SiLU(W_mod s)), with 1x1 maps without constants from C to R and back.

    Its cost grows with R, what it sees with w. It reads one map of 2 C channels, x above s, since experts of a bank
    read one map. Its parameters: 3 C R and those of `WindowMixing`.

    Args:
        channels: C.
        rank: R.
        window: w, px.
    """

    def __init__(self, channels: int, rank: int, window: int) -> None:
        super().__init__()
        self.inward = nn.Conv2d(channels, rank, 1, bias=False)
        self.modulation = nn.Conv2d(channels, rank, 1, bias=False)
        self.mixing = WindowMixing(rank, window)
        self.outward = nn.Conv2d(rank, channels, 1, bias=False)

    def forward(self, both: Tensor) -> Tensor:  # (B, 2 C, H, W) -> (B, C, H, W)
        """What the expert makes of x, knowing s."""
        x, s = both.chunk(2, dim=1)
        y: Tensor = x + self.outward(self.mixing(self.inward(x)) * silu(self.modulation(s)))
        return y


def complexity_experts(channels: int, experts: int) -> list[ComplexityExpert]:
    """The bank of one block, cheapest first: ranks C / 2^(n-1) ... C / 2, C with windows of 4, 8, 16 ... px."""
    return [ComplexityExpert(channels, channels >> (experts - 1 - i), 4 << i) for i in range(experts)]
