"""Scores of a model over a set of pictures, and how far chance in the choice of pictures could move them.

A bootstrap: draw as many pictures as there are, with replacement, add up what was counted on them, and score the sums;
the spread of many such scores is that of the score. Two models are compared on the same draws, so that what makes a
picture easy or hard for both cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError

_AT_ONCE = 2**22  # draws held at a time: 32 MiB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureScores:
    """What a model scored on each picture, in a form that adds up.

    A mean IoU is no mean over pictures: it belongs to the sum of their confusion matrices. So each picture keeps what
    adds up (its matrix; or its score and a 1), and `score` turns sums into the figure.

    Args:
        parts: (N, ...), for each of N pictures; kept in float64 on the CPU.
        score: sums of parts (..., *parts.shape[1:]) to scores (...), larger is better.
        name: of the score, as tables show it.
        scale: what a score is multiplied by to be shown, such as 100 for percent.
        unit: of a shown score, such as "points" or "dB".

    Raises:
        ShapeError: `parts` has no pictures.
    """

    parts: Tensor
    score: Callable[[Tensor], Tensor]
    name: str = "score"
    scale: float = 1.0
    unit: str = "points"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", self.parts.detach().double().cpu())
        if self.parts.ndim < 1 or self.parts.shape[0] == 0:
            raise ShapeError(f"scores of pictures need at least one picture, not parts of {tuple(self.parts.shape)}")

    @classmethod
    def of_means(
        cls,
        values: Tensor,  # (N,)
        *,
        name: str = "score",
        scale: float = 1.0,
        unit: str = "points",
    ) -> PictureScores:
        """Scores of which the mean over pictures is wanted, such as PSNR in dB."""
        values = values.detach().double().cpu()
        if values.ndim != 1:
            raise ShapeError(f"values must be (N,), one for each picture, not {tuple(values.shape)}")
        parts = torch.stack([values, torch.ones_like(values)], dim=1)
        return cls(parts=parts, score=_mean, name=name, scale=scale, unit=unit)

    @property
    def pictures(self) -> int:
        """N, how many pictures were scored."""
        return self.parts.shape[0]

    def total(self) -> float:
        """The score over all pictures."""
        return float(self.score(self.parts.sum(0)))


def _mean(sums: Tensor) -> Tensor:  # (..., 2) to (...)
    return sums[..., 0] / sums[..., 1]


def resampled(
    arms: Sequence[PictureScores],
    *,
    resamples: int = 2000,
    seed: int = 0,
    block: int = 1,
) -> Tensor:  # (arms, resamples) float64
    """The scores of several models on the same random draws of pictures, with replacement.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7(1), 1979; blocks:
    Carlstein, "The use of subseries values...", Annals of Statistics 14(3), 1986.

    Args:
        arms: of the same pictures in the same order.
        resamples: how many draws.
        seed: same seed, same draws.
        block: how many pictures in a row are drawn together. Pictures of one video resemble their neighbours: taken
            one by one they look like more evidence than they are, and intervals come out too narrow.

    Returns:
        A score for each arm and draw.

    Raises:
        ShapeError: the arms have different numbers of pictures.
        ArgumentError: there are no arms, or `resamples` or `block` is below 1.
    """
    if not arms:
        raise ArgumentError("arms holds no scores to compare")
    if min(resamples, block) < 1:
        raise ArgumentError(f"resamples and block must be 1 or more, not {resamples} and {block}")
    counts = {arm.pictures for arm in arms}
    if len(counts) > 1:
        raise ShapeError(f"arms must score the same pictures, not {', '.join(map(str, sorted(counts)))} of them")
    blocks = [_added_up(arm.parts, block) for arm in arms]
    units = blocks[0].shape[0]
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    at_once = max(1, _AT_ONCE // units)
    for first in range(0, resamples, at_once):
        draws = torch.randint(units, (min(at_once, resamples - first), units), generator=generator)
        times = torch.zeros(draws.shape, dtype=torch.float64)  # (R, units): how often each was drawn
        times.scatter_add_(1, draws, torch.ones_like(times))
        pieces.append(
            torch.stack(
                [
                    arm.score((times @ parts.flatten(1)).view(-1, *parts.shape[1:]))
                    for arm, parts in zip(arms, blocks, strict=True)
                ]
            )
        )
    return torch.cat(pieces, dim=1)


def _added_up(parts: Tensor, block: int) -> Tensor:  # (ceil(N / block), ...)
    """The sums over runs of pictures; the last run may be shorter."""
    run = torch.arange(parts.shape[0]) // block
    return torch.zeros(int(run[-1]) + 1, *parts.shape[1:], dtype=parts.dtype).index_add_(0, run, parts)


def interval(
    samples: Tensor,  # (R,)
    level: float = 0.95,
) -> tuple[float, float]:
    """The range that holds the middle `level` of the samples (percentile interval); samples that are NaN are left out.

    Raises:
        ArgumentError: `level` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ArgumentError(f"level must lie between 0 and 1, not {level}")
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=samples.dtype)
    low, high = torch.nanquantile(samples, tails).tolist()
    return low, high
