"""The network that says where kernels belong and how they are shaped, in stages that share its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError, ShapeError
from moesaic.predict.shapes import RAW
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

PATCH = 8  # px, the side of what one place of the map stands for
MAPS = 7  # channels: the picture, what is missing of it, and how many kernels stand at a pixel
TAPS = 5  # along a side of the window that is seen around a kernel
STEP = 0.5  # spacings between them
_WINDOW = 6 * TAPS * TAPS  # numbers: of the picture and of what is missing
OWN = 3 + RAW + 1 + RAW + 1
"""Numbers of a kernel's own: its place in its patch, its spacing, what it is so far, whether it is new, which way the
error falls, and how much of the picture is its own."""
_WIDEST, _LONGEST, _MOST = 1024, 64, 16


class MixturePredictor(nn.Module):
    """Pictures with kernels on them to how each kernel should change.

    A small U at 1/8 and 1/16 of the picture's size sees the picture, what is missing of it, and where kernels stand.
    Then each kernel is told what the map says at its centre, what a window around it shows, as wide as its own
    spacing, what it is so far, and which way the error falls; a small head says how its numbers change. So there can be
    any number of kernels in a patch, and the same head shapes new ones and corrects those that are there. Nothing looks
    at the whole picture, and norms are over channels: a crop is treated as it would be in its picture.

    Of AIR (arXiv 2605.20820) are the stages that see what is missing; the kernels of a normalised mixture, their places
    from a density, the shared weights and the head are moesaic's.

    Args:
        width: channels at 1/8; half as many more at 1/16.
        blocks: at 1/8 before, at 1/16, and at 1/8 after.
        hidden: of the head.
        stages: how many the network tells apart.

    Raises:
        ArgumentError: a count is no whole number in its range.
    """

    def __init__(self, width: int = 96, blocks: Sequence[int] = (2, 3, 2), hidden: int = 128, stages: int = 3) -> None:
        super().__init__()
        for name, value, most in (("width", width, _WIDEST), ("hidden", hidden, _WIDEST), ("stages", stages, _MOST)):
            if not is_whole(value, 1) or value > most:
                raise ArgumentError(f"{name} is a whole number from 1 to {most}, not {value!r}")
        counts = tuple(blocks) if is_a(blocks, tuple, list) else ()
        if len(counts) != 3 or not all(is_whole(count, 1) and count <= _LONGEST for count in counts):
            raise ArgumentError(f"blocks are three whole numbers from 1 to {_LONGEST}, not {blocks!r}")
        self.stages = stages
        low = width + width // 2
        self.stem = nn.Conv2d(MAPS * PATCH**2, width, 1)
        self.code = nn.Embedding(stages, width)
        self.first = nn.Sequential(*(_Block(width) for _ in range(counts[0])))
        self.down = nn.Conv2d(width, low, 2, stride=2)
        self.low = nn.Sequential(*(_Block(low) for _ in range(counts[1])))
        self.up = nn.Conv2d(low, width, 1)
        self.last = nn.Sequential(*(_Block(width) for _ in range(counts[2])))
        self.head = nn.Sequential(
            nn.Linear(width + _WINDOW + OWN, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.change = nn.Linear(hidden, RAW)
        with torch.no_grad():
            self.code.weight.mul_(0.1)
            for parameter in self.change.parameters():
                parameter.mul_(0.02)  # a fresh network hardly changes the start

    def look(
        self,
        maps: Tensor,  # (B, MAPS, H, W); sides are multiples of 16
        stage: int,
    ) -> Tensor:  # (B, width, H / 8, W / 8)
        """What is to be known of each patch.

        Raises:
            ShapeError: the maps have another shape.
            ArgumentError: the network knows no such stage.
        """
        if maps.ndim != 4 or maps.shape[1] != MAPS or maps.shape[2] % (2 * PATCH) or maps.shape[3] % (2 * PATCH):
            raise ShapeError(
                f"maps have the shape (B, {MAPS}, H, W) with sides of multiples of {2 * PATCH}, not {tuple(maps.shape)}"
            )
        if not is_whole(stage, 0, self.stages - 1):
            raise ArgumentError(f"stage is a whole number from 0 to {self.stages - 1}, not {stage!r}")
        x = self.stem(F.pixel_unshuffle(maps, PATCH))
        x = x + self.code.weight[stage][:, None, None]
        x = self.first(x)
        low = self.low(self.down(x))
        x = x + F.interpolate(self.up(low), scale_factor=2, mode="bilinear", align_corners=False)
        found: Tensor = self.last(x)
        return found

    def say(
        self,
        features: Tensor,  # (N, width), of the map at each kernel
        windows: Tensor,  # (N, 6 * TAPS^2)
        own: Tensor,  # (N, OWN)
    ) -> Tensor:  # (N, RAW)
        """How the numbers of each kernel should change."""
        change: Tensor = self.change(self.head(torch.cat([features, windows, own], dim=1)))
        return change


class _Block(nn.Module):
    """A depthwise window of 7x7 and two layers at each place, as in ConvNeXt (Liu et al. 2022, arXiv 2201.03545)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.window = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.window(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.wide(y)))
        changed: Tensor = x + y.permute(0, 3, 1, 2)
        return changed
