"""Integers to bytes and back: a stack coder (ANS) under tables of integer frequencies.

Bits: the state is one integer, at first 0. Pushing a symbol that owns `f` of the 2^24 slots, from slot `c` on: if the
state is 2^40 f or more, its low 32 bits go out as a word; then state = (state // f) 2^24 + c + state % f. At the end
the state's words follow, low word first. Popping undoes it, last symbol first. `ReferenceCoder` is these lines in
Python; the work is done by constriction's `AnsCoder`, which has the same bits.

Why this decodes alike everywhere: constriction takes probabilities as floats and computes, for the i-th symbol,
floor(scale x (p_0 + ... + p_{i-1})) + i with scale = (2^24 - n) / sum(p). We pass p_i = f_i - 1 with integers f_i >= 1
that sum to 2^24: every partial sum is an integer below 2^24 and exact even in float32, the scale is exactly 1, and so
the slots are exactly the integers f_i, on any machine. (`perfect=False` throughout: the other way uses logarithms.)

Source: J. Duda, "Asymmetric numeral systems" (arXiv 1311.2540); R. Bamler, constriction (arXiv 2201.01741).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol, TypeAlias

import constriction
import numpy as np
import numpy.typing as npt

from moesaic.errors import FormatError

PRECISION = 24
TOTAL = 1 << PRECISION  # slots that the frequencies of one table share
_BATCH = 1 << 21  # frequencies expanded at once

Ints: TypeAlias = npt.NDArray[np.int64]

_table = partial(constriction.stream.model.Categorical, perfect=False)
_rows_family = _table()
_uniform_family = constriction.stream.model.Uniform()


class Coder(Protocol):
    """What the syntax of a chunk is written against: the same calls, in the same order, encode and decode it."""

    def rows(self, frequencies: Ints, which: Ints, known: Ints | None) -> Ints:
        """One symbol per entry of `which` (M,), under that row of `frequencies` (R, A).

        `known` holds the symbols (M,) when encoding, and is None when decoding.
        """

    def uniform(self, sizes: Ints, known: Ints | None) -> Ints:
        """One symbol per entry of `sizes` (M,), equally likely in [0, size)."""


class Encoder:
    """Collects symbols in the order in which they will be decoded, then codes them all."""

    def __init__(self) -> None:
        self._steps: list[tuple[Any, ...]] = []  # symbols, family of models, parameters, which of them

    def rows(self, frequencies: Ints, which: Ints, known: Ints | None) -> Ints:
        """See `Coder`."""
        symbols = _given(known, len(which))
        if frequencies.shape[1] > 1:
            weights = _weights(frequencies)
            for here in _batches(len(which), frequencies.shape[1]):
                self._steps.append((symbols[here].astype(np.int32), _rows_family, weights, which[here]))
        return symbols

    def uniform(self, sizes: Ints, known: Ints | None) -> Ints:
        """See `Coder`."""
        symbols = _given(known, len(sizes))
        real = sizes > 1  # a single possible value takes no bits, and the coder refuses it
        if real.any():
            self._steps.append((symbols[real].astype(np.int32), _uniform_family, sizes[real].astype(np.int32)))
        return symbols

    def finish(self) -> bytes:
        """The bytes; trailing zeros are left out, a decoder supplies them."""
        coder = constriction.stream.stack.AnsCoder()
        for symbols, family, parameters, *which in reversed(self._steps):
            coder.encode_reverse(symbols, family, parameters[which[0]] if which else parameters)
        words: npt.NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")


class Decoder:
    """Gives the symbols back, in the order in which the encoder met them.

    Raises:
        FormatError: from `finish`, when the bytes do not end where the symbols do.
    """

    def __init__(self, data: bytes) -> None:
        data = data.rstrip(b"\0")
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").astype(np.uint32)
        self._coder = constriction.stream.stack.AnsCoder(words)

    def rows(self, frequencies: Ints, which: Ints, known: Ints | None) -> Ints:  # noqa: ARG002 - see Coder
        """See `Coder`."""
        symbols = np.zeros(len(which), np.int64)
        if len(frequencies) == 1 < frequencies.shape[1] and len(which):  # one table for all: faster, and the same bits
            symbols[:] = self._coder.decode(_table(_weights(frequencies)[0]), len(which))
        elif frequencies.shape[1] > 1:
            weights = _weights(frequencies)
            for here in _batches(len(which), frequencies.shape[1]):
                symbols[here] = self._coder.decode(_rows_family, weights[which[here]])
        return symbols

    def uniform(self, sizes: Ints, known: Ints | None) -> Ints:  # noqa: ARG002 - see Coder
        """See `Coder`."""
        symbols, real = np.zeros(len(sizes), np.int64), sizes > 1
        if real.any():
            symbols[real] = self._coder.decode(_uniform_family, sizes[real].astype(np.int32))
        return symbols

    def finish(self) -> None:
        """Raise unless every bit was used."""
        if not self._coder.is_empty():
            raise FormatError("a chunk of kernels is damaged: its bits do not end where its kernels do")


def _given(known: Ints | None, count: int) -> Ints:
    if known is None or len(known) != count:
        raise ValueError("an encoder needs each symbol")
    return known


def _weights(frequencies: Ints) -> npt.NDArray[np.float32]:
    return (frequencies - 1).astype(np.float32)  # exact: integers below 2^24


def _batches(count: int, size: int) -> Iterator[slice]:
    """Runs of symbols whose tables of `size` frequencies fit into little memory, whatever a file asks for."""
    most = max(_BATCH // size, 1)
    return (slice(first, first + most) for first in range(0, count, most))


class ReferenceCoder:
    """The coder in plain Python, symbol by symbol: slow, readable, and with the same bits."""

    def __init__(self, words: list[int] | None = None) -> None:
        self.words = list(words or [])
        self.state = 0
        while self.words and self.state < 1 << 32:
            self.state = self.state << 32 | self.words.pop()

    def push(self, first: int, size: int) -> None:
        """Add the symbol that owns the `size` slots from `first` on."""
        if self.state >> 40 >= size:
            self.words.append(self.state & 0xFFFFFFFF)
            self.state >>= 32
        self.state = (self.state // size << PRECISION) + first + self.state % size

    def pop(self, firsts: list[int]) -> int:
        """Take off the last symbol of a table whose symbols begin at slots `firsts` (ascending, 2^24 at the end)."""
        slot = self.state & (TOTAL - 1)
        symbol = next(i for i in range(len(firsts) - 1) if firsts[i] <= slot < firsts[i + 1])
        first, size = firsts[symbol], firsts[symbol + 1] - firsts[symbol]
        self.state = size * (self.state >> PRECISION) + slot - first
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()
        return symbol

    def finish(self) -> list[int]:
        """All words, those of the state last."""
        words, state = list(self.words), self.state
        while state:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        return words
