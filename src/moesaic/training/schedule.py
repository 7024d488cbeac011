"""The learning rate over a known number of steps: a linear warm-up, then a cosine, a polynomial or nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from moesaic.errors import ArgumentError

SHAPES = ("cosine", "poly", "constant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The factor on the learning rate at each step.

    Step s of a warm-up over n steps has the factor (s + 1) / n, so that no step is lost at rate 0. After it, with t
    from 0 to 1 over the steps that are left: cosine is (1 + cos(pi t)) / 2 (Loshchilov and Hutter 2017, one cycle),
    poly is (1 - t)^0.9 (Chen et al. 2017, DeepLab), constant is 1.

    Raises:
        ArgumentError: the shape is unknown, steps is below 1, or the warm-up is negative.
    """

    steps: int  # of the whole run
    warm_up: int = 0  # steps
    shape: str = "cosine"
    power: float = 0.9  # of poly

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ArgumentError(f"schedule {self.shape!r} is unknown; choose one of {', '.join(SHAPES)}")
        if self.steps < 1 or self.warm_up < 0:
            raise ArgumentError(f"a schedule needs steps of at least 1 and warm_up of at least 0, not {self}")

    def factor(self, step: int) -> float:
        """The factor at a step, counted from 0; in (0, 1] for all steps of the run."""
        warm_up = min(self.warm_up, self.steps - 1)  # a run shorter than its warm-up still ends at the full rate
        if step < warm_up:
            return (step + 1) / warm_up
        t = min(1.0, (step - warm_up) / (self.steps - warm_up))
        if self.shape == "cosine":
            return (1 + math.cos(math.pi * t)) / 2
        return (1 - t) ** self.power if self.shape == "poly" else 1.0
