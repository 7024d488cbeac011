"""Augmentation of a batch on its device: scale, crop, flip and colour, all drawn from one seed for each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moesaic.training.store import Store

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may happen to a picture before a network learns from it."""

    scale: tuple[float, float] = (0.75, 1.5)  # one factor for each batch, uniform in its logarithm
    crop: tuple[int, int] | None = None  # rows and columns, px; the stored size when None
    flip: bool = True  # left to right, every second picture
    jitter: float = 0.2  # brightness, contrast and saturation times 1 - jitter to 1 + jitter
    least: int = 1  # px, the shortest side that the network takes: no scale goes below it

    def smallest(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the smallest batch that pictures of this size give, px."""
        factor = max(self.scale[0], self.least / min(size))
        rows, columns = (min(sides) for sides in zip(self.crop or size, (round(s * factor) for s in size), strict=True))
        return rows, columns

    def __call__(
        self,
        store: Store,
        chosen: Sequence[int],  # B numbers of pictures
        generator: torch.Generator,  # on the CPU
    ) -> tuple[Tensor, Tensor]:  # (B, C, h, w) float32 in [0, 1], channels innermost; (B, h, w) int64
        """A batch. A scale below 1 gives maps smaller than the crop rather than borders without content.

        The window that a crop will show is cut out of the stored bytes first and scaled once, so a step costs the same
        at every scale.
        """
        if store.labels is None:
            raise ArgumentError("pictures without labels cannot be trained on")
        draws = torch.rand(len(chosen), 6, generator=generator, dtype=torch.float64)
        pick = float(torch.rand((), generator=generator, dtype=torch.float64))
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** pick
        factor = max(factor, self.least / min(store.size))
        scaled = [round(have * factor) for have in store.size]
        out = [min(sides) for sides in zip(self.crop or store.size, scaled, strict=True)]
        window = [min(have, round(side / factor)) for side, have in zip(out, store.size, strict=True)]
        pictures, labels = [], []
        for number, (down, right, mirror, *_) in zip(chosen, draws.tolist(), strict=True):
            top, left = (int(u * (have - w + 1)) for u, have, w in zip((down, right), store.size, window, strict=True))
            rows, columns = slice(top, top + window[0]), slice(left, left + window[1])
            picture, label = store.pictures[number, :, rows, columns], store.labels[number, rows, columns]
            if self.flip and mirror < 0.5:
                picture, label = picture.flip(-1), label.flip(-1)
            pictures.append(picture)
            labels.append(label)
        x, y = as_input(torch.stack(pictures)), torch.stack(labels)
        if out != window:
            x = F.interpolate(x, out, mode="bilinear", align_corners=False)
            y = F.interpolate(y[:, None], out, mode="nearest-exact")[:, 0]
        if self.jitter:
            x = _jittered(x, (1 + self.jitter * (2 * draws[:, 3:] - 1)).to(x))
        return x, y.long()


def _jittered(
    x: Tensor,  # (B, C, H, W) in [0, 1]
    factors: Tensor,  # (B, 3): of brightness, contrast, saturation
) -> Tensor:
    bright, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    grey = (x * x.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True) if x.shape[1] == 3 else x
    middle = grey.mean((2, 3), keepdim=True)
    # contrast about the mean grey, saturation about each pixel's grey, brightness from black: one sum of three terms
    mixed = x * (contrast * saturation) + grey * (contrast * (1 - saturation)) + middle * (1 - contrast)
    return mixed.mul_(bright).clamp_(0, 1)
