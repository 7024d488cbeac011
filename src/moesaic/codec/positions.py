"""Where kernels are, as a tree of counts: the order of kernels costs nothing.

A square around the canvas is halved again and again, across and down in turn. Of a part that holds n >= 2 kernels, the
file says how many are in its first half; a part with one kernel, or of the smallest size, is divided no further. What
is left of each position, the offset within its part, is written with the kernel, at the precision that its shape
deserves. The parts in order follow a Z curve, which is the order of the kernels in a chunk.

Units: 1/4096 px, from the corner of the square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moesaic.codec.entropy import Coder, Ints
from moesaic.codec.frequencies import SPLIT_MOST, split_table
from moesaic.errors import FormatError

UNIT_BITS = 12  # a px has 2^12 units
DEPTH_MOST = 30  # halvings of each axis
_GROUPS = (7, 31, SPLIT_MOST)  # parts with up to so many kernels share a table of splits


@dataclass(frozen=True, slots=True)
class Square:
    """The square in which centres may lie: the smallest power of two px that exceeds the canvas by an eighth."""

    left: int  # px of its corner on the canvas, at most 0
    top: int
    bits: int  # its side is 2^bits units

    @classmethod
    def around(cls, width: int, height: int) -> Square:
        """The square around a canvas."""
        side_bits = (max(width, height) * 9 // 8).bit_length()
        return cls(
            left=(width - (1 << side_bits)) // 2, top=(height - (1 << side_bits)) // 2, bits=side_bits + UNIT_BITS
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """For each kernel, in order, the part of the square that the tree leaves it in; units."""

    x: Ints  # (N,), left edge
    y: Ints  # (N,), top edge
    width_bits: Ints  # (N,), the part is 2^width_bits wide
    height_bits: Ints  # (N,)


def depth_for(square: Square, leaf_bits: int) -> int:
    """Halvings of each axis until parts are 2^leaf_bits units wide, within what a file may ask for."""
    return min(max(square.bits - leaf_bits, 0), DEPTH_MOST)


def curve_keys(x: Ints, y: Ints, square: Square, depth: int) -> Ints:
    """Places on the Z curve through the leaves: bits of x and y in turn, x first."""
    keys = np.zeros(len(x), np.int64)
    for level in range(depth):
        shift = square.bits - 1 - level
        keys = keys << 2 | (x >> shift & 1) << 1 | (y >> shift & 1)
    return keys


def code_parts(coder: Coder, count: int, square: Square, depth: int, known: Ints | None) -> Parts:
    """Code which parts hold the kernels.

    Args:
        coder: an encoder or a decoder.
        count: number of kernels N, at least 1.
        square: where they lie.
        depth: halvings of each axis, at most DEPTH_MOST.
        known: their places on the Z curve (N,), ascending; None when decoding.

    Raises:
        FormatError: a half is said to hold more kernels than the whole.
    """
    paths, sizes = np.zeros(1, np.int64), np.array([count], np.int64)
    firsts = np.zeros(1, np.int64)  # of each part, its first kernel in the order of the curve
    done: list[tuple[Ints, Ints, Ints]] = []  # path to a finished part, levels down to it, kernels in it
    for level in range(2 * depth):
        split = sizes > 1
        done.append((paths[~split], np.full(int((~split).sum()), level), sizes[~split]))
        paths, sizes, firsts = paths[split] * 2, sizes[split], firsts[split]
        if not len(sizes):
            break
        first_half: Ints | None = None
        if known is not None:
            middle = paths + 1 << (2 * depth - level - 1)
            first_half = np.searchsorted(known, middle) - firsts
        left = _code_splits(coder, sizes, level, first_half)
        if (left > sizes).any():
            raise FormatError("a chunk of kernels is damaged: half a part holds more kernels than the part")
        paths = np.stack([paths, paths + 1], 1).ravel()
        firsts = np.stack([firsts, firsts + left], 1).ravel()
        sizes = np.stack([left, sizes - left], 1).ravel()
        filled = sizes > 0
        paths, sizes, firsts = paths[filled], sizes[filled], firsts[filled]
    else:
        done.append((paths, np.full(len(paths), 2 * depth), sizes))
    return _place(done, square, depth)


def _code_splits(coder: Coder, sizes: Ints, level: int, known: Ints | None) -> Ints:
    """How many of `sizes` kernels lie in the first half of each part."""
    left = np.zeros_like(sizes)
    evenness = _evenness(level)
    lower = 1
    for most in _GROUPS:
        group = (sizes > lower) & (sizes <= most)
        lower = most
        if group.any():
            table = split_table(evenness, most)
            left[group] = coder.rows(table, sizes[group], None if known is None else known[group])
    large = sizes > lower
    left[large] = coder.uniform(sizes[large] + 1, None if known is None else known[large])
    return left


def _evenness(level: int) -> int:
    """How evenly parts of a level are filled: measured on fits of Kodak pictures.

    The halves of a square differ less than those of the tall half squares that come next.
    """
    if level < 8:
        return 1
    if level % 2 == 0:
        return 12
    return 2 if level < 14 else 6


def _place(done: list[tuple[Ints, Ints, Ints]], square: Square, depth: int) -> Parts:
    paths, levels, sizes = (np.concatenate(column) for column in zip(*done, strict=True))
    keys = paths << (2 * depth - levels)
    order = np.argsort(keys, kind="stable")
    keys, levels, sizes = (np.repeat(values[order], sizes[order]) for values in (keys, levels, sizes))
    x, y = np.zeros_like(keys), np.zeros_like(keys)
    for level in range(depth):
        pair = keys >> 2 * (depth - 1 - level)
        x |= (pair >> 1 & 1) << (square.bits - 1 - level)
        y |= (pair & 1) << (square.bits - 1 - level)
    return Parts(x, y, square.bits - (levels + 1) // 2, square.bits - levels // 2)


def offsets(position: Ints, edge: Ints, bits: Ints, levels: Ints) -> Ints:
    """Which of `levels` equal steps of a part of 2^bits units a position lies in; outside it, the nearest."""
    found: Ints = (position - edge) * levels >> bits
    return np.minimum(np.maximum(found, 0), levels - 1)


def centres(offset: Ints, edge: Ints, bits: Ints, levels: Ints) -> Ints:
    """The middle of a step, in units: what `offsets` gives back, exactly."""
    return edge + (((2 * offset + 1) << bits) // (2 * levels))
