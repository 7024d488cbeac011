"""What a run did since it last told: mean losses, and for each sort of damage how well it was undone, and by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.training.psnr import psnrs

if TYPE_CHECKING:
    from moesaic.restore.decision import Pass


class Tally:
    """Sums on the device, read now and then: a step never waits for them. Nothing is drawn and nothing changed.

    Args:
        sorts: names of the sorts of damage.
        device: of the run.
    """

    def __init__(self, sorts: Sequence[str], device: torch.device) -> None:
        self.sorts, self.device = tuple(sorts), device
        self._losses: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}  # each (sorts, ...), over pictures
        self._steps = 0

    @torch.no_grad()
    def add(
        self,
        losses: Mapping[str, Tensor],  # each ()
        sort: Tensor,  # (B,) int64, indices into sorts
        outcome: Pass,
        pictures: Tensor,  # (B, 3, H, W), what went in
        clean: Tensor,  # (B, 3, H, W)
    ) -> None:
        """Count one step."""
        mine = torch.nn.functional.one_hot(sort.to(self.device), len(self.sorts)).float()  # (B, sorts)
        figures = {
            "pictures": torch.ones_like(mine[:, 0]),
            "psnr": psnrs(outcome.restored, clean),
            "psnr_in": psnrs(pictures, clean),
            "cost": outcome.cost.float(),
        }
        for name, routing in outcome.routings.items():
            acts = (routing.dense() > 0).float().mean(1)  # (B, E), the share of places
            figures[f"usage {name}"] = acts
        for name, value in figures.items():
            self._add(self._sums, name, mine.T @ value.detach().to(self.device))  # float atomics have no place here
        for name, value in losses.items():
            self._add(self._losses, name, value.detach().float())
        self._steps += 1

    def read(self) -> dict[str, Any]:
        """Means since the last call, as plain numbers; the next ones count from zero.

        Returns:
            The mean of each loss; under "psnr" and "psnr_in" the mean PSNR (dB) of what came out and went in, by sort;
            under "cost" the mean share of the dearest decoder's cost; under "usage" by layer and sort the share of
            places in which each expert acted. Sorts that did not come up are left out.
        """
        told: dict[str, Any] = {name: value / max(1, self._steps) for name, value in _read(self._losses).items()}
        sums = {name: value.tolist() for name, value in self._sums.items()}
        counts = sums.pop("pictures", [])
        seen = [(number, name) for number, name in enumerate(self.sorts) if counts and counts[number]]
        for what in ("psnr", "psnr_in"):
            told[what] = {name: round(sums[what][number] / counts[number], 3) for number, name in seen}
        if seen:
            told["cost"] = round(sum(sums["cost"]) / sum(counts), 4)
        told["usage"] = {
            what.removeprefix("usage "): {
                name: [round(share / counts[number], 3) for share in table[number]] for number, name in seen
            }
            for what, table in sums.items()
            if what.startswith("usage ")
        }
        self._losses, self._sums, self._steps = {}, {}, 0
        return told

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self._steps, "losses": dict(self._losses), "sums": dict(self._sums)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._steps = int(state["steps"])
        self._losses, self._sums = dict(state["losses"]), dict(state["sums"])

    @staticmethod
    def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
        sums[name] = sums[name] + value if name in sums else value


def _read(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True)) if losses else {}
