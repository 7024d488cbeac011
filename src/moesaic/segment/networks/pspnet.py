"""PSPNet on ResNet-50: means over grids of several sizes as context (Zhao et al. 2017, arXiv 1612.01105)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from moesaic.routing.grid import place_mean
from moesaic.segment.networks.blocks import ConvBlock, he_normal, layer_norm
from moesaic.segment.networks.network import SegmentationNetwork, Widths
from moesaic.segment.networks.resnet import ResNet50

GRIDS = (1, 2, 3, 6)  # rows and columns of the pyramid's levels


class MeanPyramid(nn.Module):
    """The map, and beside it its means over four grids, enlarged to its size (figure 3c of the paper)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            ConvBlock(channels, out, norm=layer_norm if grid == 1 else nn.BatchNorm2d) for grid in GRIDS
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C + 4 out, H, W)
        """The map and its context, joined."""
        maps = [x]
        for level, grid in zip(self.levels, GRIDS, strict=True):
            means = place_mean(x, (grid, grid)).transpose(1, 2).unflatten(2, (grid, grid)).to(x.dtype)
            maps.append(interpolate(level(means), size=x.shape[2:], mode="bilinear", align_corners=False))
        return torch.cat(maps, dim=1)


class PSPNet(SegmentationNetwork):
    """PSPNet with ResNet-50 at an output stride of 8, without the second classifier that only serves training.

    46,592,597 parameters for 21 classes, reported in public as 46 M. The authors' ResNet begins with three 3x3
    convolutions where the common one, taken here, has one 7x7. The norm behind the mean over the whole map is a layer
    norm of as many parameters.

    The patch mixture's place is the last convolution, 512 channels to classes at an eighth of the size: the decoder's
    only 3x3 convolution, `head.conv`, holds 18.9 M numbers, so that eight experts would quadruple the network, while
    the published increase of active parameters is 0.05 % (segmentation note; the paper does not name the layer).

    Args:
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
    """

    multiple_of = 8
    moe_place = "classifier"
    moe_places = ("classifier", "head.conv")

    def __init__(self, classes: int, *, channels: int = 3, width: float = 1.0) -> None:
        super().__init__(classes, channels)
        widths = Widths(width)
        level, inner = widths(512), widths(512)
        self.backbone = ResNet50(channels, widths, stride=8)
        self.pyramid = MeanPyramid(self.backbone.high_channels, level)
        self.head = ConvBlock(self.backbone.high_channels + len(GRIDS) * level, inner, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(inner, classes, 1)
        he_normal(self)

    @property
    def minimum(self) -> int:
        """The smallest height and width accepted, px: below it the finest grid has places without a pixel."""
        return max(GRIDS) * self.multiple_of

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes, H, W)
        """Logits at an eighth of the size, enlarged."""
        _, high = self.backbone(x)
        y = self.classifier(self.dropout(self.head(self.pyramid(high))))
        return interpolate(y, scale_factor=8.0, mode="bilinear", align_corners=False)


def pspnet(classes: int, *, channels: int = 3, width: float = 1.0) -> PSPNet:
    """PSPNet with ResNet-50; see the class for its arguments."""
    return PSPNet(classes, channels=channels, width=width)
