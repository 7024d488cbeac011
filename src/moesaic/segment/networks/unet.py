"""U-Net: a ladder down, a ladder up, and rungs between them (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from moesaic.segment.networks.blocks import ConvBlock, he_normal
from moesaic.segment.networks.network import SegmentationNetwork, Widths, whole

LEVELS = 5  # sizes of maps, each half of the one above


class Pair(nn.Module):
    """Two 3x3 convolutions."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, out, 3, bias=True)
        self.second = ConvBlock(out, out, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, out, H, W)
        """A map of as many rows and columns."""
        y: Tensor = self.second(self.first(x))
        return y


class UNet(SegmentationNetwork):
    """U-Net, with two changes that have become usual: padded convolutions, so that no border is lost, and batch norms.

    With 32 channels at the top, grey pictures and 2 classes it has 7,765,442 parameters, published as 7.76 M in
    UNet++ (Zhou et al. 2018, arXiv 1807.10165, table 3); with the paper's 64 channels, 31.0 M.

    The patch mixture's place is the decoder's last 3x3 convolution, 64 to 64 channels at full size.

    Args:
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
        base: channels at full size, doubled at each of the four levels below.

    Raises:
        ArgumentError: `base` is not a whole number of at least 1.
    """

    multiple_of = 2 ** (LEVELS - 1)
    moe_place = "up.3.second.conv"
    moe_places = ("up.3.second.conv", "up.3.first.conv", "up.2.second.conv", "up.1.second.conv", "up.0.second.conv")

    def __init__(self, classes: int, *, channels: int = 3, width: float = 1.0, base: int = 64) -> None:
        super().__init__(classes, channels)
        widths = Widths(width)
        sizes = [widths(whole("base", base) * 2**level) for level in range(LEVELS)]
        self.down = nn.ModuleList(Pair(*pair) for pair in zip([channels, *sizes], sizes, strict=False))
        steps = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))  # (channels below, channels of the rung)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(below, out, 2, stride=2) for below, out in steps)
        self.up = nn.ModuleList(Pair(2 * out, out) for _, out in steps)
        self.classifier = nn.Conv2d(sizes[0], classes, 1)
        he_normal(self)

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes, H, W)
        """Down the ladder, and up again past what was kept at each rung."""
        rungs = []
        for level, pair in enumerate(self.down):
            x = pair(max_pool2d(x, 2) if level else x)
            rungs.append(x)
        for enlarge, pair, rung in zip(self.enlarge, self.up, rungs[-2::-1], strict=True):
            x = pair(torch.cat([rung, enlarge(x)], dim=1))
        y: Tensor = self.classifier(x)
        return y


def unet(classes: int, *, channels: int = 3, width: float = 1.0, base: int = 64) -> UNet:
    """U-Net; see the class for its arguments."""
    return UNet(classes, channels=channels, width=width, base=base)
