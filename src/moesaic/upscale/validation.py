"""How well a network enlarges held-out pictures, by scale and sort of pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from moesaic.training.device import precision_on
from moesaic.training.psnr import psnrs, rounded_mean
from moesaic.training.samples import write_strip
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input
from moesaic.upscale.network import enlarged
from moesaic.upscale.pairs import Pairs, make_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from moesaic.training.bank import Bank

Enlarge: TypeAlias = Callable[[Pairs, int], Tensor]

SORTS = ("bicubic", "mild", "medium", "severe")
SIDE = 192  # px, of what is cut from the middle of each picture
_MOST = 16  # pictures
_SHOWN = 2  # pictures of each sort in a strip
_SEED = 20  # of the damage: the same for all runs, whatever their own seed
_FACTOR = 8  # px; sides are multiples of this


class Validation:
    """A few fixed pictures, each shrunk once in every way; the damage is drawn once.

    Args:
        bank: the pictures that are held out; at most 16 are taken.
        scales: to try.
        device: where to compute.
    """

    def __init__(self, bank: Bank, scales: Iterable[int], device: torch.device) -> None:
        side = min(SIDE, bank.smallest) // _FACTOR * _FACTOR
        self.clean = as_input(bank.centres(side)[:_MOST].to(device))  # (B, 3, side, side)
        self.pairs: dict[str, tuple[int, Pairs]] = {}
        for scale in sorted(scales):
            for sort in SORTS:
                generator = generator_for(_SEED, f"validation of {sort}")
                self.pairs[f"x{scale} {sort}"] = scale, make_pairs(self.clean, generator, scale, {sort: 1.0})
        self.before = {name: self._score(enlarged(pairs.low, scale)) for name, (scale, pairs) in self.pairs.items()}

    @torch.inference_mode()
    def scores(self, enlarge: Enlarge, precision: str) -> dict[str, float]:
        """PSNR (dB) of the enlarged pictures by scale and sort, such as "x4 mild"."""
        told = {}
        for name, (scale, pairs) in self.pairs.items():
            with precision_on(self.clean.device, precision):
                told[name] = self._score(enlarge(pairs, scale))
        return told

    @torch.inference_mode()
    def show(self, enlarge: Enlarge, path: Path, precision: str) -> None:
        """Write bicubic, output and clean of a few pictures of each, one below the other."""
        columns: list[list[Tensor]] = [[], [], []]
        for number, (scale, pairs) in enumerate(self.pairs.values()):
            which = [(number + other) % len(self.clean) for other in range(min(_SHOWN, len(self.clean)))]
            with precision_on(self.clean.device, precision):
                large = enlarge(pairs, scale)[which]
            for column, value in zip(
                columns, (enlarged(pairs.low[which], scale), large, self.clean[which]), strict=True
            ):
                column.append(value.float())
        write_strip(path, [torch.cat(column) for column in columns])

    def _score(self, large: Tensor) -> float:
        return rounded_mean(psnrs(large, self.clean))
