"""MobileNetV3-Large for dense prediction (Howard et al. 2019, arXiv 1905.02244, table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import hardsigmoid, relu

from moesaic.segment.networks.blocks import ConvBlock

if TYPE_CHECKING:
    from moesaic.segment.networks.network import Widths

LOW = 4  # the block whose output, at an eighth of the size, the decoder reads beside the last one
NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the paper's table: an inverted residual block."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard: bool  # hard swish instead of ReLU
    stride: int = 1
    dilation: int = 1


ROWS = (
    Row(3, 16, 16, squeeze=False, hard=False),
    Row(3, 64, 24, squeeze=False, hard=False, stride=2),
    Row(3, 72, 24, squeeze=False, hard=False),
    Row(5, 72, 40, squeeze=True, hard=False, stride=2),
    Row(5, 120, 40, squeeze=True, hard=False),
    Row(5, 120, 40, squeeze=True, hard=False),
    Row(3, 240, 80, squeeze=False, hard=True, stride=2),
    Row(3, 200, 80, squeeze=False, hard=True),
    Row(3, 184, 80, squeeze=False, hard=True),
    Row(3, 184, 80, squeeze=False, hard=True),
    Row(3, 480, 112, squeeze=True, hard=True),
    Row(3, 672, 112, squeeze=True, hard=True),
    # the classifier's last step down becomes a dilation: the map stays at a sixteenth of the size (section 6.4)
    Row(5, 672, 160, squeeze=True, hard=True, dilation=2),
    Row(5, 960, 160, squeeze=True, hard=True, dilation=2),
    Row(5, 960, 160, squeeze=True, hard=True, dilation=2),
)


class SqueezeExcite(nn.Module):
    """Scale each channel by a number in [0, 1] that is read off the means of all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _multiple_of_8(channels / 4)
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        """The channels, scaled."""
        means = x.mean((2, 3), keepdim=True)
        return x * hardsigmoid(self.expand(relu(self.reduce(means))))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, scale the channels, project; a shortcut where shapes allow it."""

    def __init__(self, channels: int, out: int, expanded: int, row: Row) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard else nn.ReLU
        block = partial(ConvBlock, norm=NORM)
        layers: list[nn.Module] = []
        if expanded != channels:
            layers.append(block(channels, expanded, activation=activation))
        depthwise = partial(block, stride=row.stride, dilation=row.dilation, groups=expanded)
        layers.append(depthwise(expanded, expanded, row.kernel, activation=activation))
        if row.squeeze:
            layers.append(SqueezeExcite(expanded))
        layers.append(block(expanded, out, activation=None))
        self.layers = nn.Sequential(*layers)
        self.shortcut = row.stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, out, H / stride, W / stride)
        """What the block computes, added to what came in where shapes allow it."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV3Large(nn.Module):
    """The feature extractor: maps at an eighth (40 channels) and a sixteenth (960 channels) of the size."""

    def __init__(self, channels: int, widths: Widths) -> None:
        super().__init__()
        outs = [widths(16), *(widths(row.out) for row in ROWS)]
        expanded = [outs[0], *(widths.spread(row.expanded) for row in ROWS[1:])]  # the first block expands nothing
        self.stem = ConvBlock(channels, outs[0], 3, stride=2, norm=NORM, activation=nn.Hardswish)
        self.blocks = nn.Sequential(*map(InvertedResidual, outs, outs[1:], expanded, ROWS))
        self.low_channels, self.high_channels = outs[LOW], widths(960)
        self.last = ConvBlock(outs[-1], self.high_channels, norm=NORM, activation=nn.Hardswish)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, 40, H / 8, W / 8), (B, 960, H / 16, W / 16)
        """The fine and the deep map."""
        low = self.blocks[:LOW](self.stem(x))
        return low, self.last(self.blocks[LOW:](low))


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, but not more than a tenth below, as in the paper's code."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
