"""What all segmentation networks share: checked input of any size, inner normalisation, logits at the input's size."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from moesaic.errors import ArgumentError, ShapeError
from moesaic.values import is_number

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationNetwork(nn.Module):
    """Base of the six networks: `forward` takes pictures in [0, 1] of any size and returns logits of that size.

    A subclass implements `logits`, which only ever meets heights and widths that are multiples of `multiple_of`: what
    is missing is filled by repeating the last row and column, and cut off again from the logits. A picture is thus
    never resampled, and every step from map to map is a whole factor, so that tiles meet without a shift.

    Args:
        classes: number of classes.
        channels: number of channels of the pictures; three are normalised by ImageNet's statistics, others by a mean
            of 0.5 and a deviation of 0.25. Both are buffers, `mean` and `std`.

    Raises:
        ArgumentError: `classes` or `channels` is not a whole number of at least 1.
    """

    multiple_of: ClassVar[int]  # px: what heights and widths are filled up to
    moe_place: ClassVar[str]  # the convolution that becomes a mixture when nothing else is asked for
    moe_places: ClassVar[tuple[str, ...]]  # the convolutions that make sense as one, the default among them
    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.classes = whole("classes", classes)
        self.channels = whole("channels", channels)
        for name, known, plain in (("mean", IMAGENET_MEAN, 0.5), ("std", IMAGENET_STD, 0.25)):
            shape = (1, channels, 1, 1)
            self.register_buffer(name, torch.tensor(known).view(shape) if channels == 3 else torch.full(shape, plain))

    @property
    def minimum(self) -> int:
        """The smallest height and width accepted, px: below it the deepest map would be a single number."""
        return 2 * self.multiple_of

    def logits(self, x: Tensor) -> Tensor:  # (B, C, H, W), normalised -> (B, classes, H, W)
        """What the network itself computes; height and width are multiples of `multiple_of`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) in [0, 1] -> (B, classes, H, W)
        """Logits of each class at each pixel.

        Raises:
            ShapeError: x is no batch of pictures, holds bytes, has another number of channels, or is smaller than
                `minimum`.
        """
        if not torch.compiler.is_compiling():  # a comparison would tie a compiled or exported network to its sizes
            self._check(x)
        height, width = x.shape[-2:]
        m = self.multiple_of  # the sums below stay above zero: division rounds down here, but towards zero in ONNX
        right, bottom = ((side + m - 1) // m * m - side for side in (width, height))
        x = pad(x, (0, right, 0, bottom), mode="replicate")
        return self.logits((x - self.mean) / self.std)[..., :height, :width]

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(f"pictures have shape {tuple(x.shape)}, this network takes (B, {self.channels}, H, W)")
        if not x.is_floating_point():
            raise ShapeError(f"pictures hold floats in [0, 1], not {x.dtype}: divide bytes by 255")
        if min(x.shape[-2:]) < self.minimum:
            raise ShapeError(
                f"pictures of {x.shape[-1]}x{x.shape[-2]} are too small: "
                f"this network takes at least {self.minimum}x{self.minimum}"
            )


def whole(name: str, value: object) -> int:
    """The value, if it is a whole number of at least 1.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} {value!r} must be a whole number of at least 1")
    return value


WIDEST = 1000
"""Factors on channels from here on are refused: no memory holds such a network, and sums of sizes would overflow."""


class Widths:
    """Channel counts times a factor, rounded so that the size of a whole network follows the factor closely.

    A rounding error is handed on to the next count of `spread`, so that twenty layers of 32 channels become a mix of 32
    and 33 at a factor of 1.02. A factor of 1 leaves every count as it is.

    Raises:
        ArgumentError: the factor is not a number above 0 and below `WIDEST`.
    """

    def __init__(self, width: float) -> None:
        if not (is_number(width) and 0 < width < WIDEST):
            raise ArgumentError(f"width {width!r} must be a number above 0 and below {WIDEST}: it multiplies channels")
        self.width = width
        self._owed = 0.0

    def __call__(self, channels: float) -> int:
        """A count that several layers share."""
        return max(1, round(channels * self.width))

    def spread(self, channels: float) -> int:
        """A count of one layer alone, which takes its share of what rounding owes."""
        wanted = channels * self.width + self._owed
        count = max(1, round(wanted))
        self._owed = wanted - count
        return count
