"""News of a run, and the estimate of the time that it still needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands."""

    step: int  # steps done, of the whole run
    steps: int  # of the whole run
    loss: float  # a running mean
    seconds: float  # spent in this call
    seconds_left: float  # until this call ends: the run's end, or the end of its minutes
    epoch: int | None = None  # counted from 1; None where a run is counted in steps alone
    epochs: int | None = None
    score: float | None = None  # the last validation, in [0, 1]
    psnr: float | None = None  # the last validation, dB
    warning: str = ""  # a few words on what went wrong in the last epoch, such as experts that never act


ProgressCallback: TypeAlias = Callable[[Progress], None]


class Pace:
    """The time that this call has spent, and what it still needs.

    Args:
        minutes: that this call may take; no end when None.
        step: the run's steps that were done before this call.
    """

    def __init__(self, minutes: float | None, step: int) -> None:
        self._began = time.monotonic()
        self._minutes = minutes
        self._first = step
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """Spent since this call began."""
        return time.monotonic() - self._began

    @property
    def over(self) -> bool:
        """Whether the minutes are used up."""
        return self._minutes is not None and self.seconds >= 60 * self._minutes

    def seconds_left(self, step: int, steps: int) -> float:
        """Until the last step or the end of the minutes, at the mean speed of this call after its first step."""
        now = time.monotonic()
        if self._started is None:
            self._started, self._first = now, step  # the first step is slow, and says little
        rest = (now - self._started) / max(step - self._first, 1) * (steps - step)
        return rest if self._minutes is None else max(0.0, min(rest, 60 * self._minutes - self.seconds))
