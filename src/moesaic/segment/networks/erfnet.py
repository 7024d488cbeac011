"""ERFNet: residual blocks of factorised convolutions (Romera, Alvarez, Bergasa and Arroyo 2018, IEEE T-ITS 19(1))."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from moesaic.segment.networks.network import SegmentationNetwork, Widths

EPS = 1e-3  # of the batch norms, as in the authors' code
DILATIONS = (2, 4, 8, 16)  # of the blocks at an eighth of the size, used twice


class Factorised(nn.Module):
    """Two 3x3 convolutions, each as 3x1 and 1x3, the second one dilated, around a shortcut (non-bottleneck-1D)."""

    def __init__(self, channels: int, *, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        d = dilation
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.norm1 = nn.BatchNorm2d(channels, EPS)
        self.conv3 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1))
        self.conv4 = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d))
        self.norm2 = nn.BatchNorm2d(channels, EPS)
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        """What came in, and what the four convolutions add to it."""
        y = relu(self.norm1(self.conv2(relu(self.conv1(x)))))
        y = self.norm2(self.conv4(relu(self.conv3(y))))
        return relu(x + self.dropout(y))


class Downsampling(nn.Module):
    """Halve the map: a convolution makes the new channels, max pooling carries the old ones over."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out - channels, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(out, EPS)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, out, H / 2, W / 2)
        """The halved map."""
        return relu(self.norm(torch.cat([self.conv(x), max_pool2d(x, 2)], dim=1)))


def _upsampling(channels: int, out: int) -> nn.Module:
    conv = nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out, EPS), nn.ReLU())


class ERFNet(SegmentationNetwork):
    """ERFNet, encoder and decoder trained as one.

    As in the authors' code (Eromera/erfnet_pytorch), less its second classifier, which only serves to train the encoder
    alone: 2,064,256 parameters for Cityscapes' 20 classes; 2,066,836 with the second classifier, listed as 2.07 M
    (voldemortX/pytorch-auto-drive).

    No convolution here is 3x3: each is a 3x1 and a 1x3. The patch mixture's place is the last of them at a quarter of
    the size, 64 to 64 channels; the very last one, `stage5.1.conv4`, has 16.

    Args:
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
    """

    multiple_of = 8
    moe_place = "stage4.1.conv4"
    moe_places = ("stage4.1.conv4", "stage4.1.conv3", "stage5.1.conv4", "stage5.1.conv3")

    def __init__(self, classes: int, *, channels: int = 3, width: float = 1.0) -> None:
        super().__init__(classes, channels)
        widths = Widths(width)
        small = max(widths(16), channels + 1)  # each step down makes at least one channel that is new
        middle = max(widths(64), small + 1)
        deep = max(widths(128), middle + 1)
        self.down1 = Downsampling(channels, small)
        self.down2 = Downsampling(small, middle)
        self.stage1 = nn.Sequential(*(Factorised(middle, dropout=0.03) for _ in range(5)))
        self.down3 = Downsampling(middle, deep)
        self.stage2 = nn.Sequential(*(Factorised(deep, dilation=d, dropout=0.3) for d in DILATIONS * 2))
        self.up4 = _upsampling(deep, middle)
        self.stage4 = nn.Sequential(Factorised(middle), Factorised(middle))
        self.up5 = _upsampling(middle, small)
        self.stage5 = nn.Sequential(Factorised(small), Factorised(small))
        self.classifier = nn.ConvTranspose2d(small, classes, 2, stride=2)

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes, H, W)
        """Encoder to an eighth of the size, decoder back to a half, and a last full convolution."""
        x = self.stage1(self.down2(self.down1(x)))
        x = self.stage2(self.down3(x))
        x = self.stage5(self.up5(self.stage4(self.up4(x))))
        y: Tensor = self.classifier(x)
        return y


def erfnet(classes: int, *, channels: int = 3, width: float = 1.0) -> ERFNet:
    """ERFNet; see the class for its arguments."""
    return ERFNet(classes, channels=channels, width=width)
