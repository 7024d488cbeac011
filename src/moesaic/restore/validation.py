"""How well a network undoes each sort of damage on pictures that it never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moesaic.restore.tally import psnrs
from moesaic.training.device import precision_on
from moesaic.training.samples import write_strip
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moesaic.restore.build import Parts
    from moesaic.training.bank import Bank

SIDE = 128  # px, of what is cut from the middle of each picture
_MOST = 16  # pictures
_SHOWN = 2  # pictures of each sort in a strip
_SEED = 20  # of the damage: the same for all runs, whatever their own seed


class Validation:
    """A few fixed pictures, each damaged once in every way of the mix; the damage is drawn once.

    Args:
        bank: the pictures that are held out; at most 16 are taken.
        parts: the damage.
        mix: whose sorts are tried.
        multiple_of: px; sides are multiples of this.
        device: where to compute.
    """

    def __init__(
        self, bank: Bank, parts: Parts, mix: Mapping[str, float], multiple_of: int, device: torch.device
    ) -> None:
        side = max(multiple_of, min(SIDE, bank.smallest) // multiple_of * multiple_of)
        self.clean = as_input(bank.centres(side)[:_MOST].to(device))  # (B, 3, side, side)
        self.damaged: dict[str, Tensor] = {}
        for sort, share in mix.items():
            if share > 0:
                generator = generator_for(_SEED, f"validation of {sort}")
                self.damaged[sort] = parts.degrade(self.clean, generator, {sort: 1.0}).pictures

    @torch.inference_mode()
    def scores(self, model: nn.Module, precision: str) -> dict[str, float]:
        """PSNR (dB) by sort, of the restored pictures and, as "... in", of the damaged ones; the mode is put back."""
        training = model.training
        model.eval()
        told = {}
        try:
            for sort, pictures in self.damaged.items():
                with precision_on(pictures.device, precision):
                    restored = model(pictures)
                told[sort] = round(float(psnrs(restored, self.clean).mean()), 4)
                told[f"{sort} in"] = round(float(psnrs(pictures, self.clean).mean()), 4)
        finally:
            model.train(training)
        return told

    @torch.inference_mode()
    def show(self, model: nn.Module, path: Path, precision: str) -> None:
        """Write input, output and clean of a few pictures of each sort, one below the other."""
        training = model.training
        model.eval()
        columns: list[Any] = [[], [], []]
        try:
            for number, pictures in enumerate(self.damaged.values()):
                which = [(number + other) % len(self.clean) for other in range(min(_SHOWN, len(self.clean)))]
                with precision_on(pictures.device, precision):
                    restored = model(pictures[which])
                for column, value in zip(columns, (pictures[which], restored, self.clean[which]), strict=True):
                    column.append(value.float())
        finally:
            model.train(training)
        write_strip(path, [torch.cat(column) for column in columns])


def mean_psnr(scores: Mapping[str, float]) -> float:
    """The mean over the sorts of what came out, dB."""
    out = [value for name, value in scores.items() if not name.endswith(" in")]
    return sum(out) / len(out)
