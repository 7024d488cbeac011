"""Tables of integer frequencies: how likely each symbol is, by integer arithmetic alone, alike on every machine."""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np

from moesaic.codec.entropy import TOTAL, Ints

_PRIOR = 3072 * 16  # weight of the bell
_LEARN = 24 * 16  # weight of one seen symbol
_FORGET = 2**14 * 16  # weight of the symbols seen above which old ones fade
_REACH_MOST = 32  # symbols over which one seen is smeared, to either side
SPREAD_MOST = 4095  # quarter symbols


def normalise(
    weights: Ints,  # (R, A), at least 0, sums of rows below 2^38
) -> Ints:  # (R, A), at least 1, sums of rows exactly 2^24
    """Frequencies in proportion to weights; none is zero, and the largest one takes what rounding leaves."""
    size = weights.shape[1]
    found: Ints = weights * (TOTAL - size) // np.maximum(weights.sum(axis=1), 1)[:, None] + 1
    found[np.arange(len(found)), found.argmax(axis=1)] += TOTAL - found.sum(axis=1)
    return found


def bell(
    size: int,  # symbols
    centre: int,  # the likeliest symbol
    spread: int,  # quarter symbols, 1 to SPREAD_MOST
) -> Ints:  # (size,)
    """Weights of a bell with tails that fall with the fourth power: b^4 / (b^2 + d^2)^2 at distance d."""
    distance = 4 * np.abs(np.arange(size, dtype=np.int64) - centre)
    b2 = spread * spread
    near: Ints = (b2 << 20) // (b2 + distance * distance)  # 2^20 b^2 / (b^2 + d^2)
    squared: Ints = near * near >> 20
    return squared


class Adaptive:
    """Tables, one per context, that follow what they code: bells at first, then more and more the symbols seen.

    A seen symbol makes its neighbours likelier too, as far as half of the bell's spread. Encoder and decoder call
    `learn` after the same symbols, so both always hold the same tables.
    """

    def __init__(self, size: int, centre: int, spread: int, contexts: int = 1) -> None:
        """The same bell for every context; see `bell`."""
        shape = bell(size, centre, spread)
        self._prior = shape * _PRIOR // max(int(shape.sum()), 1) + 1
        self._seen = np.zeros((contexts, size), np.int64)
        self._reach = reach = min(spread // 8, size // 16, _REACH_MOST)
        near = reach + 1 - np.abs(np.arange(-reach, reach + 1))
        self._triangle = near * _LEARN // (reach + 1) ** 2

    def frequencies(self) -> Ints:  # (contexts, size)
        """The tables as they stand."""
        return normalise(self._prior + (self._seen))

    def learn(self, symbols: Ints, contexts: Ints) -> None:
        """Make symbols likelier in their contexts, and their neighbours a little."""
        rows, size = self._seen.shape
        reach, wide = self._reach, size + 2 * self._reach  # room for what is smeared beyond both ends, and lost
        first = contexts * wide + symbols
        places = (first[:, None] + np.arange(2 * reach + 1)).ravel()
        weights = np.tile(self._triangle, len(symbols))
        seen = np.bincount(places, weights, minlength=rows * wide)  # floats, exact: integers below 2^53
        self._seen += seen.reshape(rows, wide)[:, reach : reach + size].astype(np.int64)
        while (full := self._seen.sum(axis=1) > _FORGET).any():
            self._seen[full] -= self._seen[full] >> 2


SPLIT_MOST = 127  # largest number of kernels whose split has a table of its own


@cache
def split_table(evenness: int, most: int) -> Ints:
    """How n kernels fall into two equal halves: row n, up to `most`, holds the frequencies of 0 to n in the first.

    The beta-binomial law C(k+a-1, k) C(n-k+a-1, n-k): every count alike for an evenness a of 1, towards the binomial as
    it grows. Shape (most + 1, most + 1).
    """
    ways = [comb(k + evenness - 1, k) for k in range(most + 1)]
    weights = np.zeros((most + 1, most + 1), np.int64)
    for n in range(most + 1):
        row = [ways[k] * ways[n - k] for k in range(n + 1)]
        scale = sum(row)
        weights[n, : n + 1] = [(w << 36) // scale for w in row]
    return normalise(weights)
