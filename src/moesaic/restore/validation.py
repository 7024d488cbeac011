"""How well a network undoes each sort of damage on pictures that it never trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from moesaic.training.device import precision_on
from moesaic.training.psnr import psnrs, rounded_mean
from moesaic.training.samples import write_strip
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from moesaic.restore.build import Parts
    from moesaic.training.bank import Bank

Restore: TypeAlias = Callable[[nn.Module, Tensor], Tensor]

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

        self.before = {sort: rounded_mean(psnrs(pictures, self.clean)) for sort, pictures in self.damaged.items()}  # dB

    @torch.inference_mode()
    def scores(self, model: nn.Module, precision: str, restore: Restore | None = None) -> dict[str, float]:
        """PSNR (dB) of the restored pictures by sort; the model's mode is put back.

        Args:
            model: the network.
            precision: of its passes.
            restore: how it is run on a batch; just called unless given.
        """
        training = model.training
        model.eval()
        told = {}
        try:
            for sort, pictures in self.damaged.items():
                with precision_on(pictures.device, precision):
                    restored = model(pictures) if restore is None else restore(model, pictures)
                told[sort] = rounded_mean(psnrs(restored, self.clean))
        finally:
            model.train(training)
        return told

    @torch.inference_mode()
    def decisions(self, model: nn.Module, precision: str) -> dict[str, Any]:
        """The mean cost of what a network decides, by sort, and the share of pictures of each expert, by layer."""
        look: Any = getattr(model, "look", None)
        if look is None:
            return {}
        training = model.training
        model.eval()
        told: dict[str, Any] = {"cost": {}, "usage": {}}
        try:
            for sort, pictures in self.damaged.items():
                with precision_on(pictures.device, precision):
                    decision = look([pictures])
                told["cost"][sort] = rounded_mean(decision.cost)
                for name, routing in decision.routings.items():
                    shares = (routing.dense() > 0).float().mean((0, 1)).tolist()
                    told["usage"].setdefault(name, {})[sort] = [round(share, 3) for share in shares]
        finally:
            model.train(training)
        return told

    @torch.inference_mode()
    def show(self, model: nn.Module, path: Path, precision: str, restore: Restore | None = None) -> None:
        """Write input, output and clean of a few pictures of each sort, one below the other; as `scores`."""
        training = model.training
        model.eval()
        columns: list[Any] = [[], [], []]
        try:
            for number, pictures in enumerate(self.damaged.values()):
                which = [(number + other) % len(self.clean) for other in range(min(_SHOWN, len(self.clean)))]
                with precision_on(pictures.device, precision):
                    restored = model(pictures[which]) if restore is None else restore(model, pictures[which])
                for column, value in zip(columns, (pictures[which], restored, self.clean[which]), strict=True):
                    column.append(value.float())
        finally:
            model.train(training)
        write_strip(path, [torch.cat(column) for column in columns])
