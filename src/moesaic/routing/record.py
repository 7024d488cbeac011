"""What a gate decided: the record of one routing.

Axis letters, here and in every file of this folder: B batch, C channels, H W rows and columns, P places, E experts,
K chosen experts. Places are the patches of a grid, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routing:
    """The decision of one gate for one batch.

    Args:
        weights: (B, P, K), of the chosen experts; they sum to 1 over K unless a gate's docstring says otherwise.
        chosen: (B, P, K), int64, the experts that act at each place, the heaviest first.
        probabilities: (B, P, E), float32, the softmax over all experts from which the choice was made.
        logits: (B, P, E), float32, before the softmax and without noise.
        grid: rows and columns of places; P = rows * columns.
    """

    weights: Tensor
    chosen: Tensor
    probabilities: Tensor
    logits: Tensor
    grid: tuple[int, int]

    @property
    def experts(self) -> int:
        """E, how many experts there are."""
        return self.probabilities.shape[-1]

    @property
    def k(self) -> int:
        """K, how many experts act at a place."""
        return self.chosen.shape[-1]

    @property
    def places(self) -> int:
        """P, the places of one picture."""
        return self.grid[0] * self.grid[1]

    def dense(self) -> Tensor:  # (B, P, E)
        """The weights spread over all experts, zero where an expert was not chosen."""
        nothing = torch.zeros_like(self.probabilities, dtype=self.weights.dtype)
        return nothing.scatter(2, self.chosen, self.weights)
