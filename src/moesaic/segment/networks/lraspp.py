"""LR-ASPP: a light decoder on MobileNetV3-Large (Howard et al. 2019, arXiv 1905.02244, section 6.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from moesaic.segment.networks.blocks import ConvBlock, he_normal
from moesaic.segment.networks.mobilenet import MobileNetV3Large
from moesaic.segment.networks.network import SegmentationNetwork, Widths


class LRASPP(SegmentationNetwork):
    """LR-ASPP with MobileNetV3-Large.

    3,221,538 parameters for 21 classes, as torchvision's lraspp_mobilenet_v3_large. Like there, the decoder's gate
    looks at the mean of the whole map where the paper takes means of 49x49 pixels.

    The decoder has no 3x3 convolution. The patch mixture's place is the classifier of the deep features, 128 channels
    to classes at a sixteenth of the size: of the three 1x1 convolutions it is the one whose parameters agree best with
    the published increase of 0.06 % (segmentation note; the paper does not name the layer). `deep.conv` (960 to 128
    channels) would add 27 % with eight experts.

    Args:
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
    """

    multiple_of = 16
    moe_place = "deep_classifier"
    moe_places = ("deep_classifier", "low_classifier", "deep.conv")

    def __init__(self, classes: int, *, channels: int = 3, width: float = 1.0) -> None:
        super().__init__(classes, channels)
        widths = Widths(width)
        inner = widths(128)
        self.backbone = MobileNetV3Large(channels, widths)
        self.deep = ConvBlock(self.backbone.high_channels, inner)
        self.gate = nn.Conv2d(self.backbone.high_channels, inner, 1, bias=False)
        self.low_classifier = nn.Conv2d(self.backbone.low_channels, classes, 1)
        self.deep_classifier = nn.Conv2d(inner, classes, 1)
        he_normal(self)

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes, H, W)
        """Logits of the deep features, enlarged, plus those of the fine ones."""
        low, high = self.backbone(x)
        deep = self.deep(high) * torch.sigmoid(self.gate(high.mean((2, 3), keepdim=True)))
        # classifying before enlarging gives the same numbers as after it, from a quarter of the pixels
        deep = interpolate(self.deep_classifier(deep), scale_factor=2.0, mode="bilinear", align_corners=False)
        return interpolate(self.low_classifier(low) + deep, scale_factor=8.0, mode="bilinear", align_corners=False)


def lraspp(classes: int, *, channels: int = 3, width: float = 1.0) -> LRASPP:
    """LR-ASPP with MobileNetV3-Large; see the class for its arguments."""
    return LRASPP(classes, channels=channels, width=width)
