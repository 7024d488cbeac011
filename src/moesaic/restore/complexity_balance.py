"""MoCE-IR's auxiliary loss: a prior on usage that leans towards cheap experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moesaic.errors import ArgumentError
from moesaic.routing.balance import Balance, load

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.routing import Routing


@dataclass(frozen=True)
class ComplexityBalance(Balance):
    """weight * (importance + load) / 2, MoCE-IR's auxiliary loss of one router, with importance weighted by cost.

    Costs weigh the probability mass of each expert, so that its least value has shares in inverse proportion to cost;
    the load is not weighted. Noise of the load: one over the number of experts. Without costs, importance is plain.

    Source: MoCE-IR (arXiv 2411.18466), reference code; the form without costs is V-MoE's (arXiv 2106.05974).

    Args:
        name: "cost_weighted" with costs, "importance" without.
        weight: the loss's factor.
        costs: c of each expert, parameters over those of the largest.

    Raises:
        ArgumentError: another name, or what `Balance` refuses.
    """

    name: str = "cost_weighted"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in ("cost_weighted", "importance"):
            raise ArgumentError(f"a complexity balance is 'cost_weighted' or 'importance', not {self.name!r}")

    def __call__(
        self,
        routing: Routing,
    ) -> Tensor:  # ()
        """The loss of one routing times the weight."""
        first = super().__call__(routing)
        return (first + self.weight * load(routing)) / 2
