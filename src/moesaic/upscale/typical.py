"""Which scores are typical of a severity: a table of eleven severities, straight in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.errors import ArgumentError
from moesaic.upscale.scores import Scores
from moesaic.values import is_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 11  # severities 0, 0.1, ... 1


@dataclass(frozen=True, slots=True)
class Typical:
    """Typical scores by severity.

    Args:
        names: of the scores.
        rows: of each severity 0, 0.1, ... 1, a score for each name; none falls where the severity grows.

    Raises:
        ArgumentError: the table has another form, or values outside [0, 1], or a score falls.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]  # (POINTS, S)

    def __post_init__(self) -> None:
        right = len(self.rows) == POINTS and all(len(row) == len(self.names) for row in self.rows)
        if not right or not all(is_number(value) and 0 <= value <= 1 for row in self.rows for value in row):
            raise ArgumentError(f"typical scores are {POINTS} rows of {len(self.names)} numbers in [0, 1]")
        table = np.array(self.rows).reshape(POINTS, -1)
        if (np.diff(table, axis=0) < 0).any():
            raise ArgumentError("typical scores never fall where the severity grows")

    @classmethod
    def measured(cls, names: tuple[str, ...], severity: Sequence[float], values: NDArray[np.float64]) -> Typical:
        """The table nearest to what was measured: means around each severity, then made to rise.

        Args:
            names: of the scores.
            severity: (n,) of the pictures.
            values: (n, S) their scores.

        Raises:
            ArgumentError: there is no picture near one of the severities.
        """
        places = np.round(np.asarray(severity, dtype=np.float64) * (POINTS - 1)).astype(int)
        counts = np.bincount(places, minlength=POINTS)
        if len(counts) != POINTS or not counts.all():
            raise ArgumentError("typical scores are measured on pictures of all severities from 0 to 1")
        means = np.stack([values[places == place].mean(0) for place in range(POINTS)])
        table = np.stack([rising(means[:, column], counts) for column in range(len(names))], axis=1)
        rows = tuple(tuple(round(float(value), 5) for value in row) for row in table.clip(0, 1))
        return cls(names, rows)

    def at(self, severity: float) -> Scores:
        """The scores of a severity in [0, 1]; B is 1, on the CPU.

        Raises:
            ArgumentError: the severity is no number in [0, 1].
        """
        if not (is_number(severity) and math.isfinite(severity) and 0 <= severity <= 1):
            raise ArgumentError(f"severity {severity!r} must be a number from 0 to 1")
        places = np.linspace(0, 1, POINTS)
        values = [np.interp(severity, places, column) for column in zip(*self.rows, strict=True)]
        return Scores(
            names=self.names,
            values=torch.tensor([values], dtype=torch.float32),
            severity=torch.tensor([severity], dtype=torch.float32),
        )


def rising(
    means: NDArray[np.float64],  # (n,)
    counts: NDArray[np.int64],  # (n,), how much each weighs
) -> NDArray[np.float64]:  # (n,)
    """The nearest sequence that never falls: neighbours that do are pooled (Ayer et al. 1955)."""
    pools: list[tuple[float, int, int]] = []  # mean, pictures, points
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        pool = (mean, count, 1)
        while pools and pools[-1][0] > pool[0]:
            before = pools.pop()
            together = before[1] + pool[1]
            pool = ((before[0] * before[1] + pool[0] * pool[1]) / together, together, before[2] + pool[2])
        pools.append(pool)
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])
