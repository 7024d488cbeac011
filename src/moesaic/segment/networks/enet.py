"""ENet: a very small network of bottlenecks (Paszke, Chaurasia, Kim and Culurciello 2016, arXiv 1606.02147)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad, relu

from moesaic.segment.networks.network import SegmentationNetwork, Widths

EPS = 1e-3  # of the batch norms, as in the authors' code
DILATIONS = (1, 2, 0, 4, 1, 8, 0, 16)  # of stages 2 and 3; 0 stands for the asymmetric convolution
KERNEL = 5  # of the asymmetric convolution: 5x1, then 1x5


class PReLU(nn.PReLU):
    """PReLU written out: on a CPU the gradient of torch's own is more than twice as slow."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        """Values above zero as they are, those below times the slope of their channel."""
        slope = self.weight.view(1, -1, 1, 1)
        return slope * x + (1 - slope) * relu(x)


def _activation(channels: int, decoder: bool) -> nn.Module:
    return nn.ReLU() if decoder else PReLU(channels)  # the authors found PReLU in the decoder to be worse


class Bottleneck(nn.Module):
    """Project to `inner` channels, convolve, expand again, and add to what came in (figure 2b of the paper)."""

    def __init__(self, channels: int, inner: int, *, dilation: int = 1, dropout: float, decoder: bool = False) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner, EPS), _activation(inner, decoder)
        )
        self.conv: nn.Module
        if dilation:
            self.conv = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation)
        else:
            self.conv = nn.Sequential(
                nn.Conv2d(inner, inner, (KERNEL, 1), padding=(KERNEL // 2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, KERNEL), padding=(0, KERNEL // 2)),
            )
        self.after = nn.Sequential(nn.BatchNorm2d(inner, EPS), _activation(inner, decoder))
        self.expand = nn.Sequential(nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels, EPS))
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.activation = _activation(channels, decoder)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same shape
        """What came in, and what the bottleneck adds to it."""
        y: Tensor = self.activation(x + self.dropout(self.expand(self.after(self.conv(self.reduce(x))))))
        return y


class Downsampling(nn.Module):
    """Halve the map; the shortcut is max pooling, whose places are kept for the decoder, and channels of zeros."""

    def __init__(self, channels: int, out: int, inner: int, *, dropout: float) -> None:
        super().__init__()
        self.missing = out - channels
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, inner, 2, stride=2, bias=False), nn.BatchNorm2d(inner, EPS), PReLU(inner)
        )
        self.conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.after = nn.Sequential(nn.BatchNorm2d(inner, EPS), PReLU(inner))
        self.expand = nn.Sequential(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out, EPS))
        self.dropout = nn.Dropout2d(dropout)
        self.activation = PReLU(out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # (B, out, H / 2, W / 2), (B, C, H / 2, W / 2)
        """The halved map, and where in its own map each maximum was."""
        y = self.dropout(self.expand(self.after(self.conv(self.reduce(x)))))
        shortcut, places = max_pool2d(x, 2, return_indices=True)
        return self.activation(pad(shortcut, (0, 0, 0, 0, 0, self.missing)) + y), places


class Upsampling(nn.Module):
    """Double the map; the shortcut puts values back at the places of the maxima, or enlarges bilinearly."""

    def __init__(self, channels: int, out: int, inner: int, *, unpool: bool) -> None:
        super().__init__()
        self.unpool = unpool
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out, EPS))
        self.reduce = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner, EPS), nn.ReLU())
        self.conv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1)
        self.after = nn.Sequential(nn.BatchNorm2d(inner, EPS), nn.ReLU())
        self.expand = nn.Sequential(nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out, EPS))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:  # (B, C, H, W), (B, out, H, W) -> (B, out, 2 H, 2 W)
        """The doubled map."""
        y = self.expand(self.after(self.conv(self.reduce(x))))
        shortcut = self.shortcut(x)
        if self.unpool:
            height, width = places.shape[2:]  # max_unpool2d of torch.nn loads a computer algebra to check this size
            shortcut = torch.ops.aten.max_unpool2d(shortcut, places, [2 * height, 2 * width])
        else:
            shortcut = interpolate(shortcut, scale_factor=2.0, mode="bilinear", align_corners=False)
        return relu(y + shortcut)


class ENet(SegmentationNetwork):
    """ENet, encoder and decoder trained as one.

    Channels, biases, dropout and the epsilon of the norms are those of the authors' code (e-lab/ENet-training): 364,376
    parameters for Cityscapes' 20 classes, listed as 0.36 M (timosaemann/ENet). Others' versions differ:
    davidtvs/PyTorch-ENet has fewer biases, one slope per PReLU, and a last convolution of 3x3 instead of 2x2.

    The patch mixture's place is the last 3x3 convolution of stage 4, 16 to 16 channels at a quarter of the size. The
    decoder's very last 3x3 convolution, `stage5.0.conv`, has only 4 channels: kernels of 144 numbers leave a mixture
    little to choose from. (The paper of the mixture does not say which it took; its 0.29 % more active parameters fit
    neither: 0.68 % and 0.06 %.)

    Args:
        classes: number of classes.
        channels: channels of the pictures.
        width: factor on all channel counts.
        unpool: bring values back to the places of the maxima, as published. False enlarges bilinearly instead, for
            runs under torch.use_deterministic_algorithms, which refuses unpooling although these windows never overlap.
    """

    multiple_of = 8
    moe_place = "stage4.1.conv"
    moe_places = ("stage4.1.conv", "stage4.0.conv", "stage5.0.conv")

    def __init__(self, classes: int, *, channels: int = 3, width: float = 1.0, unpool: bool = True) -> None:
        super().__init__(classes, channels)
        widths = Widths(width)
        stem = max(widths(16), channels + 1)  # the pictures themselves, halved, are among these channels
        middle, deep = max(widths(64), stem), max(widths(128), stem)
        inner = widths.spread
        self.stem = nn.Conv2d(channels, stem - channels, 3, stride=2, padding=1)
        self.after = nn.Sequential(nn.BatchNorm2d(stem, EPS), PReLU(stem))
        self.down1 = Downsampling(stem, middle, inner(16), dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(middle, inner(16), dropout=0.01) for _ in range(4)))
        self.down2 = Downsampling(middle, deep, inner(32), dropout=0.1)
        self.stage2 = nn.Sequential(*(Bottleneck(deep, inner(32), dilation=d, dropout=0.1) for d in DILATIONS))
        self.stage3 = nn.Sequential(*(Bottleneck(deep, inner(32), dilation=d, dropout=0.1) for d in DILATIONS))
        self.up4 = Upsampling(deep, middle, inner(16), unpool=unpool)
        self.stage4 = nn.Sequential(*(Bottleneck(middle, inner(16), dropout=0.0, decoder=True) for _ in range(2)))
        self.up5 = Upsampling(middle, stem, inner(4), unpool=unpool)
        self.stage5 = nn.Sequential(Bottleneck(stem, inner(4), dropout=0.0, decoder=True))
        self.classifier = nn.ConvTranspose2d(stem, classes, 2, stride=2)

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes, H, W)
        """Encoder to an eighth of the size, decoder back to a half, and a last full convolution."""
        x = self.after(torch.cat([self.stem(x), max_pool2d(x, 2)], dim=1))
        x, places1 = self.down1(x)
        x, places2 = self.down2(self.stage1(x))
        x = self.stage3(self.stage2(x))
        x = self.stage4(self.up4(x, places2))
        x = self.stage5(self.up5(x, places1))
        y: Tensor = self.classifier(x)
        return y


def enet(classes: int, *, channels: int = 3, width: float = 1.0, unpool: bool = True) -> ENet:
    """ENet; see the class for its arguments."""
    return ENet(classes, channels=channels, width=width, unpool=unpool)
