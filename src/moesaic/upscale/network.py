"""The compact upscaler: a plain body at the size of the input, one residual step, x2 and x4 by one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError, ShapeError
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.upscale.adapters import MixOfRanks

_WIDEST, _LONGEST, _LARGEST = 1024, 256, 8
_BICUBIC = 2  # px of the input to each side
_RANKED = ("body.*", "fuse")  # layers that ranks adapt
_FIRST_TAILS = 0.1  # of their usual first values: a fresh network is nearly bicubic


class CompactUpscaler(nn.Module):
    """Low-resolution pictures, enlarged by bicubic interpolation and mended by one step of residual.

    The enlarged picture is folded into s * s times as many channels at the input's size (`PixelShuffleCodec`), which
    loses nothing and makes the body as cheap for x4 as for x2. Head and tail belong to a scale, the body to all. Every
    layer is a convolution of 3x3 and nothing looks at the whole map, so tiles that overlap by `reach` equal the whole.

    The one-step frame is that of diffusion upscalers (OSEDiff, arXiv 2406.08177; in the residual form of PiSA-SR, arXiv
    2412.03017), z0 = z - eps(z); the body is that of EDSR (Lim et al. 2017, arXiv 1707.02921), and that one body serves
    several scales is from MDSR, of the same paper.

    Args:
        width: channels of the body.
        blocks: residual blocks of two convolutions.
        scales: factors that it enlarges by.
        ranks: options of the mixture of ranks in its body, see `add_ranks`; None: no adapters.
        estimator: identity of the estimator whose scores the ranks learned with; "" for none.

    Raises:
        ArgumentError: a count is no whole number above 0 or absurdly large, there is no scale, or an option of the
            ranks is wrong.
    """

    multiple_of = 1

    def __init__(
        self,
        width: int = 64,
        blocks: int = 8,
        scales: Sequence[int] = (2, 4),
        ranks: Mapping[str, Any] | None = None,
        estimator: str = "",
    ) -> None:
        super().__init__()
        for name, value, most in (("width", width, _WIDEST), ("blocks", blocks, _LONGEST)):
            if not is_whole(value, 1) or value > most:
                raise ArgumentError(f"{name} is a whole number from 1 to {most}, not {value!r}")
        factors = tuple(scales) if is_a(scales, tuple, list) else ()
        known = all(is_whole(scale, 1) and scale <= _LARGEST for scale in factors)
        if not factors or not known or len(set(factors)) < len(factors):
            raise ArgumentError(f"scales are whole numbers from 1 to {_LARGEST}, such as (2, 4), not {scales!r}")
        self.scales = factors
        self.reach = 2 * blocks + 3 + _BICUBIC
        """How far an output pixel looks, px of the input."""
        self.heads = nn.ModuleDict({str(s): nn.Conv2d(3 * s * s, width, 3, padding=1) for s in factors})
        self.body = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.fuse = nn.Conv2d(width, width, 3, padding=1)
        self.tails = nn.ModuleDict({str(s): nn.Conv2d(width, 3 * s * s, 3, padding=1) for s in factors})
        with torch.no_grad():
            for tail in self.tails.values():
                for parameter in tail.parameters():
                    parameter.mul_(_FIRST_TAILS)
        self.estimator = estimator
        self.mix: MixOfRanks | None = None
        if ranks is not None:
            self.add_ranks(ranks)

    def add_ranks(self, ranks: Mapping[str, Any]) -> None:
        """Put a mixture of ranks into every convolution of the body, which changes nothing yet; the rest is frozen.

        Args:
            ranks: options of `moesaic.upscale.adapters.mix_of_ranks`, such as {"scores": 4, "ranks": 16}.

        Raises:
            ArgumentError: there are ranks already, or an option is wrong.
        """
        from moesaic.upscale.adapters import mix_of_ranks

        if self.mix is not None:
            raise ArgumentError("this network has its ranks; build another without them")
        try:
            self.mix = mix_of_ranks(self, [*_RANKED], **ranks)
        except TypeError as cause:
            raise ArgumentError(f"ranks {dict(ranks)!r} are no options of a mixture of ranks: {cause}") from cause

    def forward(
        self,
        low: Tensor,  # (B, 3, H, W), in [0, 1]
        scale: int,
        scores: Tensor | None = None,  # (B or 1, S)
    ) -> Tensor:  # (B, 3, scale * H, scale * W), float32, about in [0, 1]
        """Pictures, `scale` times as large.

        Args:
            low: the pictures.
            scale: one of `scales`.
            scores: how degraded they are, for the ranks; None where there are none, or they are merged.

        Raises:
            ShapeError: `low` has another shape or is empty, or there are not so many scores.
            ArgumentError: the network knows no such scale, or has ranks and no scores.
        """
        if low.ndim != 4 or low.shape[1] != 3 or not low.numel():
            raise ShapeError(f"pictures have the shape (B, 3, H, W), not {tuple(low.shape)}")
        if scale not in self.scales:
            raise ArgumentError(f"scale is one of {', '.join(map(str, self.scales))} for this network, not {scale!r}")
        with nullcontext() if self.mix is None or scores is None else self.mix.given(scores):
            return self._enlarge(low.float(), scale)

    def _enlarge(self, low: Tensor, scale: int) -> Tensor:
        z = F.pixel_unshuffle(enlarged(low, scale), scale)
        first = self.heads[str(scale)](z - 0.5)
        x = first
        for block in self.body:
            x = block(x)
        eps = self.tails[str(scale)](first + self.fuse(x))
        return F.pixel_shuffle(z - eps.float(), scale)


class _Block(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.second(F.relu(self.first(x)))
        return x + changed


def enlarged(
    low: Tensor,  # (B, C, H, W)
    scale: int,
) -> Tensor:  # (B, C, scale * H, scale * W)
    """Bicubic interpolation as Pillow's: the kernel of Keys with a = -1/2, which torch takes with `antialias` alone."""
    return F.interpolate(low, scale_factor=scale, mode="bicubic", antialias=True)
