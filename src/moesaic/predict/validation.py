"""How well a network predicts held-out pictures, stage by stage, beside the start that a fit would take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.predict.stages import coloured, compared, stages
from moesaic.training.samples import write_strip
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from moesaic.predict.network import MixturePredictor
    from moesaic.training.bank import Bank

SIDE = 192  # px, of what is cut from the middle of each picture
SPARSE = (40, 100)  # px for each kernel: the densities that are tried
_MOST = 16  # pictures
_SHOWN = 6  # pictures in a strip
_COLOURS = 4  # steps of conjugate gradients


class Validation:
    """A few fixed pictures, whose kernels begin at the same places in every run.

    Args:
        bank: the pictures that are held out; at most 16 are taken.
        shares: of the kernels, see `moesaic.predict.stages.SHARES`.
    """

    def __init__(self, bank: Bank, shares: Sequence[float]) -> None:
        self.shares = tuple(shares)
        self.clean = as_input(bank.centres(min(SIDE, bank.smallest))[:_MOST].cpu()).contiguous().numpy()
        self.before: dict[str, float] = {}  # of the kernels before the first stage, with their best colours

    @torch.no_grad()
    def scores(self, network: MixturePredictor) -> dict[str, float]:
        """PSNR (dB) by density and stage with the best colours, such as "40 px a kernel, stage 1"."""
        told: dict[str, float] = {}
        for sparse in SPARSE:
            found = [self._made(network, place, sparse) for place in range(len(self.clean))]
            first, *later = (
                round(float(np.mean([stage[1] for stage in column])), 4) for column in zip(*found, strict=True)
            )
            self.before[f"{sparse} px a kernel"] = first
            told |= {f"{sparse} px a kernel, stage {place}": psnr for place, psnr in enumerate(later, 1)}
        return told

    @torch.no_grad()
    def show(self, network: MixturePredictor, path: Path) -> None:
        """Write some stages and the picture itself of a few pictures, one below the other."""
        found = [self._made(network, place, SPARSE[0]) for place in range(min(_SHOWN, len(self.clean)))]
        columns = [torch.from_numpy(np.stack([stage[0] for stage in column])) for column in zip(*found, strict=True)]
        write_strip(path, [*columns[:: max(1, len(columns) // 3)], torch.from_numpy(self.clean[: len(found)])])

    def _made(self, network: MixturePredictor, place: int, sparse: int) -> list[tuple[NDArray[np.float32], float]]:
        """What each stage draws, and its dB."""
        picture = self.clean[place]
        experts = max(1, picture.shape[1] * picture.shape[2] // sparse)
        made = []
        for stage in stages(network, picture, experts, np.random.default_rng(place), shares=self.shares):
            left = compared(coloured(stage.kernels, picture, _COLOURS, 1), picture, 1).left
            drawn = (picture + left).clip(0.0, 1.0)
            made.append((drawn, -10.0 * math.log10(max(float(np.mean((drawn - picture) ** 2)), 1e-12))))
        return made
