"""The moving average of a network's weights, which is what a run is judged by and what it leaves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Average:
    """The exponential moving average of everything in a network's state that is a float; the rest is copied.

    Buffers of floats are averaged too: the statistics of batch normalisation then belong to the averaged weights. The
    start is bias-corrected as in Adam (Kingma and Ba 2015): after n updates the average is
    sum_i decay^(n-i) w_i / sum_i decay^(n-i), so the first update copies the weights and no initial value lingers.

    Args:
        model: the network; the average starts as its weights.
        decay: share of the average that an update keeps, in [0, 1); 0 follows the weights exactly.

    Raises:
        ArgumentError: the decay is outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError(f"the decay of averaged weights is in [0, 1), not {decay}")
        self.decay = decay
        self.updates = 0
        self._state = {name: _copy(value) for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the network's present weights into the average."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)  # 1 at the first update, 1 - decay in the long run
        averages, presents = [], []
        for name, present in model.state_dict().items():
            average = self._state[name]
            if isinstance(average, Tensor) and average.is_floating_point():
                averages.append(average)
                presents.append(present)
            else:
                self._state[name] = _copy(present)
        torch._foreach_lerp_(averages, presents, share)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within the block the network has the averaged weights; afterwards its own again, to the bit."""
        own = {name: _copy(value) for name, value in model.state_dict().items()}
        model.load_state_dict(self._state)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def weights(self) -> dict[str, Any]:
        """The averaged state, by the names of the network's `state_dict`; not a copy."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "weights": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.updates = int(state["updates"])
        for name, value in state["weights"].items():
            average = self._state[name]
            if isinstance(average, Tensor):
                average.copy_(value)
            else:
                self._state[name] = value


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
