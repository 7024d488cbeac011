"""A judge that learns to tell real pictures from made ones, place by place, and the losses that it and the maker get.

A small U-Net whose convolutions have a spectral norm, as Real-ESRGAN uses (Wang et al., arXiv 2107.10833; Schonfeld et
al., arXiv 2002.12655): every pixel gets a verdict, with the whole neighbourhood in view.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from moesaic.errors import ArgumentError, ShapeError
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import Tensor

ADVERSARIAL_LOSSES = ("hinge", "relativistic")


class UNetDiscriminator(nn.Module):
    """Pictures of any size to a verdict on every pixel: high is real.

    Args:
        channels: of the pictures.
        width: channels of the finest map; the coarsest has `width * 2**depth`.
        depth: how many times the map is halved.

    Raises:
        ArgumentError: one of these is no whole number from 1 up.
    """

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("width", width), ("depth", depth)):
            if not is_whole(value, 1):
                raise ArgumentError(f"{name} is a whole number from 1 up, not {value!r}")
        self.depth = depth
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _sober(nn.Conv2d(fine, coarse, 4, stride=2, padding=1, bias=False)) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(
            _sober(nn.Conv2d(coarse, fine, 3, padding=1, bias=False)) for fine, coarse in pairwise(widths)
        )
        self.mix = _sober(nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(
        self,
        pictures: Tensor,  # (B, C, H, W)
    ) -> Tensor:  # (B, 1, H, W)
        """The verdicts.

        Raises:
            ShapeError: these are no pictures of so many channels.
        """
        if pictures.ndim != 4 or pictures.shape[1] != self.first.in_channels or not pictures.numel():
            raise ShapeError(f"pictures are (B, {self.first.in_channels}, H, W), not {tuple(pictures.shape)}")
        height, width = pictures.shape[-2:]
        whole = 2**self.depth
        x = F.pad(pictures, (0, -width % whole, 0, -height % whole), mode="replicate")
        x = F.leaky_relu(self.first(x), 0.2)
        finer = []
        for layer in self.down:
            finer.append(x)
            x = F.leaky_relu(layer(x), 0.2)
        for layer, skip in zip(reversed(self.up), reversed(finer), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(x), 0.2) + skip
        verdicts: Tensor = self.last(F.leaky_relu(self.mix(x), 0.2))
        return verdicts[..., :height, :width]


def judge_loss(
    real: Tensor,  # (B, 1, H, W), verdicts on real pictures
    made: Tensor,  # (B, 1, H, W), verdicts on made ones, which carry no gradient to the maker
    kind: str = "hinge",
) -> Tensor:  # scalar
    """What the judge minimises.

    "hinge" (Lim and Ye, 2017): mean max(0, 1 - real) + mean max(0, 1 + made). "relativistic" (Jolicoeur-Martineau,
    2018, averaged): real ones are to look more real than the average made one, and the other way round.

    Raises:
        ArgumentError: the kind is unknown.
    """
    _check(kind)
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()
    return (F.softplus(made.mean() - real).mean() + F.softplus(made - real.mean()).mean()) / 2


def maker_loss(
    made: Tensor,  # (B, 1, H, W), verdicts on made pictures
    real: Tensor | None = None,  # (B, 1, H, W), verdicts on real ones; only the relativistic loss needs them
    kind: str = "hinge",
) -> Tensor:  # scalar
    """What the maker minimises: -mean made, or the relativistic loss with the roles changed.

    Raises:
        ArgumentError: the kind is unknown, or real verdicts are missing.
    """
    _check(kind)
    if kind == "hinge":
        return -made.mean()
    if real is None:
        raise ArgumentError("the relativistic loss compares: pass the verdicts on real pictures, too")
    return (F.softplus(real - made.mean()).mean() + F.softplus(real.mean() - made).mean()) / 2


def _check(kind: str) -> None:
    if kind not in ADVERSARIAL_LOSSES:
        raise ArgumentError(f"kind is one of {', '.join(ADVERSARIAL_LOSSES)}, not {kind!r}")


def _sober(layer: nn.Conv2d) -> nn.Module:
    """The layer with a largest singular value of about 1, so that no verdict runs away."""
    return spectral_norm(layer)
