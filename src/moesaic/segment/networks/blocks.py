"""The block that most networks are made of, convolution, norm and activation, and how its weights begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class ConvBlock(nn.Module):
    """A convolution that keeps the map's size (or divides it by the stride), a norm, an activation.

    Args:
        channels: channels that come in.
        out: channels that go out.
        kernel: side of the kernel, odd.
        stride: step of the kernel.
        dilation: distance of the kernel's taps.
        groups: groups of channels.
        bias: whether the convolution has one.
        norm: makes the norm from a number of channels.
        activation: makes the activation; None for a linear block.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias)
        self.norm = norm(out)
        self.activation = activation() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, out, H / stride, W / stride)
        """Convolution, norm and activation, one after the other."""
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y


def layer_norm(channels: int) -> nn.Module:
    """A norm over the channels of one picture, for maps of 1x1: a batch of one has no statistics there."""
    return nn.GroupNorm(1, channels)


def he_normal(network: nn.Module) -> None:
    """Draw the convolutions of all blocks for ReLUs, by the channels that go out (He et al. 2015, arXiv 1502.01852).

    Convolutions without a norm behind them, classifiers above all, keep torch's smaller weights: the loss begins near
    that of a guess.
    """
    for module in network.modules():
        if isinstance(module, ConvBlock):
            nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
