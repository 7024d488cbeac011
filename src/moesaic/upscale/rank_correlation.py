"""Whether one number rises with another: Spearman's rank correlation, and the loss that teaches an order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional as F

from moesaic.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

_APART = 0.02  # truths that are closer have no order to teach
_SHARP = 8.0  # estimates that are apart by the inverse of this the right way cost little


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rho of two sequences of numbers, equal values at the mean of their ranks; 0 where one never changes.

    Raises:
        ShapeError: they are no two sequences of one length.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ShapeError(f"a rank correlation is of two sequences of one length, not {first.shape} and {second.shape}")
    if not len(first) or not (np.ptp(first) and np.ptp(second)):
        return 0.0
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def order_loss(
    said: Tensor,  # (B, S)
    true: Tensor,  # (B, S)
) -> Tensor:  # ()
    """How badly pairs of estimates are ordered: a logistic loss on the difference of each pair whose truths differ.

    Source: Burges et al. 2005, "Learning to rank using gradient descent".
    """
    apart = true[:, None] - true[None]  # (B, B, S)
    ordered = (apart > _APART).float()
    pairs: Tensor = F.softplus(-_SHARP * (said[:, None] - said[None])) * ordered
    return pairs.sum() / ordered.sum().clamp_min(1)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[places]
    return ranks
