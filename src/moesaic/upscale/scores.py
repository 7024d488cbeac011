"""How degraded pictures are, in numbers: what every estimator gives, and what adapters are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """How degraded each of B pictures is: 0 not at all, 1 as much as the estimator knows."""

    names: tuple[str, ...]  # S, of what is scored, such as "noise"
    values: Tensor  # (B, S), float32 in [0, 1]
    severity: Tensor  # (B,), float32 in [0, 1], all of it in one number


class Estimator(Protocol):
    """What tells how degraded a picture is."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""

    @property
    def identity(self) -> str:
        """Kind and version, with a hash where weights decide: adapters refuse another one than they learned with."""

    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W), float32 in [0, 1]
    ) -> Scores:
        """The scores of pictures of any size, without gradients."""

    def at(self, severity: float) -> Scores:
        """What is typical of a picture of that severity in [0, 1], for a severity set by hand; B is 1."""


class PieceEstimator(Estimator, Protocol):
    """An estimator that can be shown the pieces of a picture that is not in memory as a whole."""

    def of_pieces(
        self,
        pieces: Sequence[Tensor],  # each (B, 3, h, w)
    ) -> Scores:
        """The scores of pictures of which `moesaic.upscale.pieces.spread` has taken these."""
