"""Estimators that estimate nothing: one that always says the same, and one that was told the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.scores import Scores
from moesaic.upscale.truth import NAMES, typical_scores
from moesaic.upscale.typical import Typical
from moesaic.values import is_number

if TYPE_CHECKING:
    from torch import Tensor


class Constant:
    """Says the same of every picture and of every severity: what is left of a network that is told nothing.

    Args:
        value: every score, and the severity, in [0, 1].
        names: of the scores.

    Raises:
        ArgumentError: the value is outside [0, 1].
    """

    def __init__(self, value: float = 0.5, names: tuple[str, ...] = NAMES) -> None:
        if not (is_number(value) and 0 <= value <= 1):
            raise ArgumentError(f"a constant score is a number from 0 to 1, not {value!r}")
        self.value, self._names = float(value), tuple(names)

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""
        return self._names

    @property
    def identity(self) -> str:
        """Kind and value."""
        return f"constant:{self.value:g}"

    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W)
    ) -> Scores:
        """The same scores for each, whatever it shows."""
        return self._said(len(pictures), pictures.device)

    def of_pieces(self, pieces: Sequence[Tensor]) -> Scores:
        """The same scores."""
        return self(pieces[0])

    def at(self, severity: float) -> Scores:  # noqa: ARG002 - it says the same whatever it is asked
        """The same scores."""
        return self._said(1, torch.device("cpu"))

    def _said(self, count: int, device: torch.device) -> Scores:
        values = torch.full((count, len(self._names)), self.value, device=device)
        return Scores(names=self._names, values=values, severity=torch.full((count,), self.value, device=device))


class Oracle:
    """Says what it was told of the next pictures: the truth, as far as degraded pictures have one.

    Args:
        truth: of as many pictures as the next call brings; `tell` renews it.
    """

    def __init__(self, truth: Scores | None = None) -> None:
        self._truth = truth

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""
        return NAMES if self._truth is None else self._truth.names

    @property
    def identity(self) -> str:
        """Kind and version."""
        return "oracle:1"

    def tell(self, truth: Scores) -> None:
        """What the next call is to say."""
        self._truth = truth

    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W)
    ) -> Scores:
        """What was told of them, on their device.

        Raises:
            ArgumentError: nothing was told.
            ShapeError: it was told of another number of pictures.
        """
        if self._truth is None:
            raise ArgumentError("an oracle says what it was told: call tell(...) with the true scores first")
        if len(self._truth.severity) != len(pictures):
            raise ShapeError(f"the oracle was told of {len(self._truth.severity)} pictures, not of {len(pictures)}")
        return Scores(
            names=self._truth.names,
            values=self._truth.values.to(pictures.device),
            severity=self._truth.severity.to(pictures.device),
        )

    def at(self, severity: float) -> Scores:
        """The mean true scores of second-order chains of that severity; B is 1.

        Raises:
            ArgumentError: the severity is no number in [0, 1], or it was told of other scores than the chains have.
        """
        if self.names != NAMES:
            raise ArgumentError(f"what is typical is known of {', '.join(NAMES)} only, not of {', '.join(self.names)}")
        return Typical(NAMES, tuple(map(tuple, typical_scores().tolist()))).at(severity)
