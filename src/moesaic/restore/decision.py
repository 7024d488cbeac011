"""What a restoration network decided for whole pictures, and what a training step takes from it.

Axis letters as in `moesaic.routing.record`, with L kinds of degradation and D numbers of a summary. One picture is one
place: routings here have the grid (1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from moesaic.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What was decided for whole pictures, before they are restored or while they are.

    Args:
        routings: by the routed layer's name, each for B pictures on the grid (1, 1).
        summary: (B, D), what the decision was made from; None where the network has no such vector.
        present: (B, L), in [0, 1], the probability that each kind of degradation is there; None where the network does
            not say.
        severity: (B, L), in [0, 1], how strong each kind is; None where the network does not say.
        cost: (B,), in (0, 1], the share of the dearest decoder's multiply-adds that the chosen experts leave to do.
    """

    routings: Mapping[str, Routing]
    summary: Tensor | None
    present: Tensor | None
    severity: Tensor | None
    cost: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """What a training step needs of one forward pass.

    Args:
        restored: (B, 3, H, W), the restored pictures, not clamped to [0, 1].
        routings: by the routed layer's name, each for B pictures on the grid (1, 1).
        present: (B, L), logits (not probabilities) that each kind of degradation is there; None as in `Decision`.
        severity: (B, L), in [0, 1]; None as in `Decision`.
        cost: (B,), in (0, 1], as in `Decision`; counted from the choice, so without a gradient.
        expected_cost: (), the mean over the pictures of what the decoder costs, in the same unit, when each expert is
            drawn by its probability; it carries the gradient of a loss on cost.
    """

    restored: Tensor
    routings: Mapping[str, Routing]
    present: Tensor | None
    severity: Tensor | None
    cost: Tensor
    expected_cost: Tensor
