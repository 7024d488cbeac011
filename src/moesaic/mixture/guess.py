"""How many experts reach a PSNR, guessed from what other numbers of experts have reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

DECIBELS = 3.0  # gained by twice the experts on natural pictures; only where a search begins


@dataclass(slots=True)
class Guess:
    """The number of experts that reaches a PSNR, from what others have reached."""

    goal: float  # dB
    most: int
    slope: float = DECIBELS  # dB for twice the experts
    last: tuple[float, float] | None = None  # log2 experts, dB

    def after(self, experts: int, reached: float) -> int:
        """The next number to try."""
        reached = min(reached, 200.0)  # a plain picture is met without error
        here = (math.log2(experts), reached)
        if self.last is not None and abs(here[0] - self.last[0]) > 0.05:
            slope = (here[1] - self.last[1]) / (here[0] - self.last[0])
            self.slope = min(max(slope, 0.6 * DECIBELS), 2.0 * DECIBELS)
        self.last = here
        octaves = min(max((self.goal - reached) / self.slope, -3.0), 3.0)
        return int(min(max(round(experts * 2.0**octaves), 1), self.most))
