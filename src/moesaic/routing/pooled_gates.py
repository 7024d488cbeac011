"""Gates that read the map itself: a few weights at each pixel, averaged over each place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear, relu

from moesaic.errors import ArgumentError
from moesaic.routing.choice import Gate, whole, widened
from moesaic.routing.grid import place_mean

_EPSILON = 1e-5  # of a variance over channels
_NORMS = ("channel", "batch", "none")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu}


class PooledLinear(Gate):
    """The mean of the place, then a linear map: GAP-Linear of PatchConvMoE (arXiv 2604.13761).

    Args:
        channels: of the maps it reads.
        experts: how many there are.
        k: how many act at each place.
        options: noise and capacity, see `Gate`.

    Raises:
        ArgumentError: a count below 1, or what `Gate` refuses.
    """

    def __init__(self, channels: int, experts: int, k: int, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.channels = whole("channels", channels)
        self.weight = drawn(experts, channels)
        self.bias = nn.Parameter(torch.zeros(experts))

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, C, H, W)."""
        mean = place_mean(x, grid)
        return linear(mean, self.weight.to(mean.dtype), self.bias.to(mean.dtype))


class ConvPool(Gate):
    """A convolution straight to the experts, then the mean over the place: Conv-GAP of PatchConvMoE.

    Without anything between convolution and mean this is linear in the place and a ring of pixels around it.

    Args:
        channels: of the maps it reads.
        experts: how many there are.
        k: how many act at each place.
        kernel: px, odd; beyond the map it sees zeros (as published, the map shrinks instead, and places would shift).
        options: noise and capacity, see `Gate`.

    Raises:
        ArgumentError: a count below 1, an even kernel, or what `Gate` refuses.
    """

    def __init__(self, channels: int, experts: int, k: int, *, kernel: int = 3, **options: Any) -> None:
        super().__init__(experts, k, **options)
        self.channels = whole("channels", channels)
        size = _odd(kernel)
        self.weight = drawn(experts, channels, size, size)

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, C, H, W)."""
        x = widened(x)
        return place_mean(conv2d(x, self.weight.to(x.dtype), padding=self.weight.shape[-1] // 2), grid)


class TwoConvPool(Gate):
    """Two convolutions with a norm between them, then the mean over the place: 2Conv-GAP of PatchConvMoE.

    As published (1x1 kernels, batch norm, no activation) it is exactly linear in the place's mean when in use. The norm
    over the channels of each pixel is not: it weighs every pixel alike, bright or dark, and needs no statistics of
    space or batch, so that a tile is routed as within its picture. `kernel=3, norm="none", activation="gelu"` is the
    router of Cassez and Larnier (`guillaume-cassez/cityscape-moe-experts`).

    Args:
        channels: of the maps it reads.
        experts: how many there are.
        k: how many act at each place.
        hidden: channels between the convolutions.
        kernel: px, odd, of the first one; beyond the map it sees zeros. The second is 1x1.
        norm: "channel", "batch" (as published) or "none".
        activation: "relu" or "gelu" after the norm; None as published.
        options: noise and capacity, see `Gate`.

    Raises:
        ArgumentError: a count below 1, an even kernel, an unknown norm or activation, or what `Gate` refuses.
    """

    def __init__(
        self,
        channels: int,
        experts: int,
        k: int,
        *,
        hidden: int = 8,
        kernel: int = 1,
        norm: str = "channel",
        activation: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(experts, k, **options)
        self.channels = whole("channels", channels)
        if norm not in _NORMS:
            raise ArgumentError(f"norm {norm!r} is unknown; choose one of {', '.join(_NORMS)}")
        if activation is not None and activation not in tuple(_ACTIVATIONS):
            raise ArgumentError(f"activation {activation!r} is unknown; choose None, {' or '.join(_ACTIVATIONS)}")
        size = _odd(kernel)
        self.norm, self.activation = norm, activation
        self.first = drawn(whole("hidden", hidden), channels, size, size)
        self.batch_norm = nn.BatchNorm2d(hidden) if norm == "batch" else None
        if norm == "channel":
            self.gain = nn.Parameter(torch.ones(hidden))
            self.shift = nn.Parameter(torch.zeros(hidden))
        self.second = drawn(experts, hidden)

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E) from (B, C, H, W)."""
        x = widened(x)
        weight = self.first.to(x.dtype)
        if self.norm == "channel":
            # weights without their mean over the output channels give what is without its mean already
            hidden = _convolved(x, weight - weight.mean(0))
            hidden = hidden * (_channel_mean(hidden.square()) + _EPSILON).rsqrt()
        else:
            hidden = _convolved(x, weight)
        if self.batch_norm is not None:
            hidden = widened(self.batch_norm(hidden.to(self.batch_norm.weight.dtype)))
        # What is linear in a pixel may as well follow the mean: there are far fewer places than pixels.
        if self.activation is None:
            mean = self._scaled(place_mean(hidden, grid))
        else:
            hidden = self._scaled(hidden.movedim(1, -1)).movedim(-1, 1)
            mean = place_mean(_ACTIVATIONS[self.activation](hidden), grid)
        return linear(mean, self.second.to(x.dtype))

    def _scaled(self, hidden: Tensor) -> Tensor:  # (..., hidden)
        """The norm's own scale and shift."""
        return hidden * self.gain.to(hidden.dtype) + self.shift.to(hidden.dtype) if self.norm == "channel" else hidden


def _convolved(
    x: Tensor,  # (B, C, H, W)
    weight: Tensor,  # (D, C, kernel, kernel)
) -> Tensor:  # (B, D, H, W)
    """The convolution that keeps the map's size."""
    plain = weight.shape[-1] == 1 and not torch.compiler.is_compiling()
    if plain and x.is_contiguous(memory_format=torch.channels_last):
        # on a CPU three times as fast as a convolution from channels last to so few channels
        flat: Tensor = weight[:, :, 0, 0] @ x.flatten(2)
        return flat.view(x.shape[0], -1, *x.shape[2:])
    return conv2d(x, weight, padding=weight.shape[-1] // 2)


def _channel_mean(
    x: Tensor,  # (B, C, H, W)
) -> Tensor:  # (B, 1, H, W)
    """The mean over channels, as a convolution: on a CPU faster than `mean`, twice so with channels last."""
    return conv2d(x, torch.full((1, x.shape[1], 1, 1), 1 / x.shape[1], dtype=x.dtype, device=x.device))


def drawn(*shape: int) -> nn.Parameter:
    """Weights as torch draws them for a layer of this shape: uniform within 1 / sqrt(inputs)."""
    limit = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(shape).uniform_(-limit, limit))


def _odd(kernel: int) -> int:
    size = whole("kernel", kernel)
    if size % 2 == 0:
        raise ArgumentError(f"kernel {kernel} must be odd: an even one has no centre")
    return size
