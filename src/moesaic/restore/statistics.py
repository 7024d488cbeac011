"""Plain statistics of a picture: what tells haze from rain, noise from detail and a blurred picture from a sharp one.

All of them are means of maps and of their squares, so that those of a picture are the mean of those of its pieces.

Source: dark channel, He et al. 2009; energies of Haar wavelets across scales tell noise (Donoho and Johnstone 1994) and
blur (Tong et al. 2004) from detail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

_SCALES = 4  # of the wavelets: details of 1, 2, 4 and 8 px
_LEVELS = 6  # maps of brightness: three colours, the darkest and the brightest of them, the darkest around
_MAPS = _LEVELS + 2 * _SCALES
_AROUND = 7  # pixels of a map at half the size

STATISTICS = 2 * _MAPS
"""How many numbers there are."""


def moments(
    x: Tensor,  # (B, 3, H, W) of even sides, in [0, 1]
) -> Tensor:  # (B, STATISTICS)
    """The means of all maps, then those of their squares, in float32."""
    with torch.autocast(x.device.type, enabled=False):
        maps, colours = [], x.float()
        for scale in range(_SCALES):
            colours, slopes, corners = _haar(colours)
            if scale == 0:
                darkest, brightest = colours.amin(1, keepdim=True), colours.amax(1, keepdim=True)
                around = -F.max_pool2d(-darkest, _AROUND, stride=1, padding=_AROUND // 2)
                maps += [*colours.split(1, dim=1), darkest, brightest, around]
            maps += [slopes, corners]
        return torch.cat([_means(maps), _means([each.square() for each in maps])], 1)


def described(
    held: Tensor,  # (..., STATISTICS)
) -> Tensor:  # (..., STATISTICS)
    """The same as numbers of about unit size: levels, and logarithms of spreads and of energies."""
    mean, square = held.chunk(2, dim=-1)
    levels, slopes = mean[..., :_LEVELS], mean[..., _LEVELS:]
    spread = _root(square[..., :_LEVELS] - levels.square())
    energies = torch.cat([spread, slopes, _root(square[..., _LEVELS:])], -1)
    return torch.cat([4 * levels - 2, (energies + 1e-3).log() + 3], -1)


class Reader(nn.Module):
    """Reads a picture's summary, means of features and then its moments, into one vector.

    Features are normalised by their spread, which loses how bright and how contrasty the picture is; its own statistics
    are not.

    Args:
        features: how many means of features there are.
        size: of the vector.
    """

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self._features = features
        self.norm = nn.LayerNorm(features)
        self.first = nn.Linear(features + STATISTICS, size)
        self.second = nn.Linear(size, size)

    def forward(
        self,
        summary: Tensor,  # (..., features + STATISTICS), float32
    ) -> Tensor:  # (..., size)
        """The reading."""
        means, held = summary.split([self._features, STATISTICS], dim=-1)
        seen = torch.cat([self.norm(means), described(held)], -1)
        reading: Tensor = F.gelu(self.second(F.gelu(self.first(seen))))
        return reading


def _haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, C, H/2, W/2) means, and how strong slopes and corners are, (B, 1, H/2, W/2) each, over the colours."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate")
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    slopes = ((a - b + c - d).abs() + (a + b - c - d).abs()).mean(1, keepdim=True) / 4
    return (a + b + c + d) / 4, slopes, (a - b - c + d).abs().mean(1, keepdim=True) / 2


def _root(x: Tensor) -> Tensor:
    """The square root, 0 below 0; its gradient is finite everywhere."""
    return torch.where(x > 0, x.clamp_min(torch.finfo(x.dtype).tiny).sqrt(), 0.0)


def _means(maps: list[Tensor]) -> Tensor:
    return torch.cat([each.mean((2, 3)) for each in maps], 1)
