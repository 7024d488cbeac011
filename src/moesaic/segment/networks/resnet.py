"""ResNet-50 for dense prediction (He et al. 2016, arXiv 1512.03385), its last steps down turned into dilations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from moesaic.segment.networks.blocks import ConvBlock

if TYPE_CHECKING:
    from moesaic.segment.networks.network import Widths

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # inner channels and blocks; four times as many channels go out


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 around a shortcut; the stride sits in the 3x3, as in torchvision and nvidia's version 1.5."""

    def __init__(self, channels: int, inner: int, out: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.reduce = ConvBlock(channels, inner)
        self.middle = ConvBlock(inner, inner, 3, stride=stride, dilation=dilation)
        self.expand = ConvBlock(inner, out, activation=None)
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else ConvBlock(channels, out, stride=stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, out, H / stride, W / stride)
        """What came in, and what the bottleneck adds to it."""
        return relu(self.shortcut(x) + self.expand(self.middle(self.reduce(x))))


class ResNet50(nn.Module):
    """The feature extractor, 23,508,032 parameters for colour pictures.

    Args:
        channels: channels of the pictures.
        widths: factor on the channel counts.
        stride: the deepest map has this fraction of the size, 8, 16 or 32.
    """

    def __init__(self, channels: int, widths: Widths, *, stride: int) -> None:
        super().__init__()
        first = widths(64)
        self.stem = ConvBlock(channels, first, 7, stride=2)
        stages: list[nn.Module] = []
        channels, dilation = first, 1
        for number, (inner, blocks) in enumerate(STAGES):
            inner, out = widths(inner), widths(4 * inner)
            before, step = dilation, 2 if number else 1
            if 2 ** (number + 2) > stride:  # from here on the map keeps its size, and the kernels' taps move apart
                dilation, step = 2 * dilation, 1
            head = Bottleneck(channels, inner, out, stride=step, dilation=before)
            tail = (Bottleneck(out, inner, out, dilation=dilation) for _ in range(blocks - 1))
            stages.append(nn.Sequential(head, *tail))
            channels = out
        self.stages = nn.ModuleList(stages)
        self.low_channels, self.high_channels = widths(4 * STAGES[0][0]), channels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, 256, H / 4, W / 4), (B, 2048, H / stride, W / stride)
        """The fine and the deep map."""
        x = low = self.stages[0](max_pool2d(self.stem(x), 3, stride=2, padding=1))
        for stage in list(self.stages)[1:]:
            x = stage(x)
        return low, x
