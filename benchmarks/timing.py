"""Times on a machine that does other things too: rivals take turns, and the median of many turns counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(rivals: Mapping[str, Callable[[], Any]], *, turns: int, budget: float = 60.0) -> dict[str, list[float]]:
    """Milliseconds of each rival's turns; after one turn that does not count, all take turns one after another.

    Ends after that many turns, or earlier when `budget` seconds are spent and everyone had at least three.
    """
    for work in rivals.values():
        work()
    spent: dict[str, list[float]] = {name: [] for name in rivals}
    began = time.perf_counter()
    for turn in range(turns):
        if turn >= 3 and time.perf_counter() - began > budget:
            break
        for name, work in rivals.items():
            start = time.perf_counter()
            work()
            spent[name].append(1e3 * (time.perf_counter() - start))
    return spent


def summary(milliseconds: list[float]) -> dict[str, float | int]:
    """Median, quartiles and number of turns."""
    first, middle, third = statistics.quantiles(milliseconds, n=4, method="inclusive")
    return {
        "median_ms": round(middle, 3),
        "lower_ms": round(first, 3),
        "upper_ms": round(third, 3),
        "least_ms": round(min(milliseconds), 3),
        "turns": len(milliseconds),
    }
