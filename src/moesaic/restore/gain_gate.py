"""A gate that states what it expects: the gain of each expert in dB, against a price for its compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.routing.conditioned_gates import ConditionedGate
from moesaic.values import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TEMPERATURE = 0.05
"""dB; how far apart two experts' worth must be for the probabilities to be decided (e to 1)."""

MOST = 1000.0
"""dB; the highest price of compute, at which nothing is worth it."""


def checked_price(price: float) -> float:
    """The price of compute, dB.

    Raises:
        ArgumentError: it is no number from 0 to `MOST`.
    """
    if not (is_number(price) and 0 <= price <= MOST):
        raise ArgumentError(f"price is a number of dB from 0 to {MOST:g}, not {price!r}")
    return float(price)


class GainGate(ConditionedGate):
    """Chooses the expert whose expected gain, less the price of its compute, is largest; alike for the whole picture.

    scores = (gain(condition) - price * costs) / temperature, where the gain is two linear maps with a GELU between
    them. Gains are in dB of the picture's mean squared error, against expert 0, whose gain is 0. The price is in dB for
    the compute of a whole decoder, so one number trades quality for time without any retraining.

    Args:
        condition_size: length of the vector that describes the picture.
        costs: of each expert, as a share of the dearest decoder.
        hidden: width between the two maps.
        price: dB that the compute of a whole decoder must be worth.
        noise: see `Gate`.

    Raises:
        ArgumentError: a cost is negative or no number, the price is none of `checked_price`, or what `Gate` refuses.
    """

    reads_channels = False

    def __init__(
        self, condition_size: int, costs: Sequence[float], *, hidden: int = 64, price: float = 0.0, noise: float = 0.0
    ) -> None:
        super().__init__(len(costs), 1, noise=noise)
        if not all(0 <= cost < float("inf") for cost in costs):
            raise ArgumentError(f"costs are shares of a decoder from 0 up, not {list(costs)!r}")
        self.condition_size = condition_size
        self.price = checked_price(price)
        self.first = nn.Linear(condition_size, hidden)
        self.last = nn.Linear(hidden, len(costs))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("costs", torch.tensor(list(costs), dtype=torch.float32), persistent=False)
        self.costs: Tensor

    def gains(
        self,
        condition: Tensor,  # (..., S)
    ) -> Tensor:  # (..., E), dB
        """What each expert is expected to gain over expert 0."""
        raw: Tensor = self.last(torch.nn.functional.gelu(self.first(condition)))
        return raw - raw[..., :1]

    def scores(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P, E), the same at each place."""
        worth = self.gains(self.given(x)) - self.price * self.costs
        return (worth / TEMPERATURE).expand(x.shape[0], grid[0] * grid[1], -1)
