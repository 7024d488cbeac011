"""How well a network predicts held-out pictures, stage by stage, beside the start that a fit would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.predict.stages import coloured, placed, stages
from moesaic.training.psnr import psnrs, rounded_mean
from moesaic.training.samples import write_strip
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from moesaic.predict.network import MixturePredictor
    from moesaic.training.bank import Bank

SIDE = 192  # px, of what is cut from the middle of each picture
SPARSE = (40, 100)  # px for each kernel: the densities that are tried, the second where the network sees half the size
_MOST = 16  # pictures
_SHOWN = 6  # pictures in a strip
_COLOURS = 4  # steps of conjugate gradients


class Validation:
    """A few fixed pictures, whose kernels begin at the same places in every run.

    Args:
        bank: the pictures that are held out; at most 16 are taken.
        shares: of the kernels, see `moesaic.predict.stages.SHARES`.
        device: where to compute.
    """

    def __init__(self, bank: Bank, shares: Sequence[float], device: torch.device) -> None:
        self.shares = tuple(shares)
        self.clean = as_input(bank.centres(min(SIDE, bank.smallest))[:_MOST].to(device)).contiguous()
        self.before = {f"{sparse} px a kernel": self._start(sparse) for sparse in SPARSE}

    @torch.no_grad()
    def scores(self, network: MixturePredictor) -> dict[str, float]:
        """PSNR (dB) by density and stage, such as "40 px a kernel, stage 1"."""
        told = {}
        for sparse in SPARSE:
            found = [self._drawn(network, place, sparse) for place in range(len(self.clean))]
            for stage in range(len(self.shares)):
                drawn = torch.stack([each[stage] for each in found])
                told[f"{sparse} px a kernel, stage {stage + 1}"] = rounded_mean(psnrs(drawn, self.clean))
        return told

    @torch.no_grad()
    def show(self, network: MixturePredictor, path: Path) -> None:
        """Write each stage and the picture itself of a few pictures, one below the other."""
        count = min(_SHOWN, len(self.clean))
        found = [self._drawn(network, place, SPARSE[0]) for place in range(count)]
        write_strip(path, [*(torch.stack(column) for column in zip(*found, strict=True)), self.clean[:count]])

    def _drawn(self, network: MixturePredictor, place: int, sparse: int) -> list[Tensor]:
        picture = self.clean[place]
        random = np.random.default_rng(place)
        made = stages(network, picture, self._experts(sparse), random, shares=self.shares, colours=_COLOURS)
        return [drawn for _, drawn in made]

    def _start(self, sparse: int) -> float:
        """Of round kernels at a start's places, with their colours in closed form."""
        drawn = []
        for place, picture in enumerate(self.clean):
            random = np.random.default_rng(place)
            kernels = coloured(placed(picture, None, None, self._experts(sparse), 0, random), picture, _COLOURS)
            drawn.append(kernels.drawn((picture.shape[2], picture.shape[1])))
        return rounded_mean(psnrs(torch.stack(drawn), self.clean))

    def _experts(self, sparse: int) -> int:
        return max(1, self.clean.shape[-1] * self.clean.shape[-2] // sparse)
