"""News of tiles, for verbs that run a network over a picture tile by tile."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from moesaic.cli.report import Report
    from moesaic.mixture.fitting import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tiles:
    """Tiles as `Report.progress` takes the steps of a fit; importing those would load a compiler."""

    step: int
    steps: int
    seconds: float
    seconds_left: float
    phase: str
    psnr: float = math.nan
    experts: int = 0


class TileNews:
    """Tells the report of finished tiles.

    Args:
        report: of the run.
        phase: what is being done, in a word.
    """

    def __init__(self, report: Report, phase: str) -> None:
        self._report, self._phase = report, phase
        self._began = time.perf_counter()

    def tile(self, done: int, total: int) -> None:
        """The callback of a picture's call: the number of tiles done and of all."""
        spent = time.perf_counter() - self._began
        left = spent / done * (total - done)
        news = _Tiles(step=done, steps=total, seconds=spent, seconds_left=left, phase=self._phase)
        self._report.progress(cast("Progress", news))
