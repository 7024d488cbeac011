"""The kernels' syntax: what a chunk holds, in which order, and what is known when each integer is read.

Kernels are grouped by size, the largest first, so that every leading chunk is a coarser picture and a kernel's size
costs little within its chunk. Inside a chunk they follow the Z curve. A chunk is its header, then one stream of
symbols: the tree of positions, then, attribute by attribute, the sizes, aspects, shears, priors, offsets, colours and
slopes of all its kernels. Tables adapt after every block of some hundred symbols, across chunks.

One function, `code_chunk`, is both writer and reader, so that the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moesaic.codec.container import Cursor, signed_varint, varint
from moesaic.codec.entropy import Coder, Decoder, Encoder, Ints
from moesaic.codec.frequencies import SPREAD_MOST, Adaptive
from moesaic.codec.limits import Limits
from moesaic.codec.positions import Square, centres, code_parts, curve_keys, depth_for, offsets
from moesaic.codec.quantise import COLOUR_BITS, Kernels, Steps, axis_levels, check_ranges, colour_steps, usual_colours
from moesaic.codec.surroundings import VALUE_BITS, Surroundings
from moesaic.errors import FormatError

ALPHABET_MOST = 2**14  # symbols of one table
SIZES_MOST = 2**10  # symbols of a table of sizes
_VALUE_MOST = 2**31
_KERNELS_PER_BYTE = 8  # more cannot be honest: it bounds the work that a small file can cause
_KERNELS_FREE = 4096
_LEANING = np.array([-300, 300])  # mean aspects around, in 2^-10 octave, between contexts of aspects
_LONG = np.array([-4000, -1200, 1200, 4000])  # a kernel's aspect, in 1/4096 octave, between contexts of its shear
_TRUST = np.array([1, 4, 16, 64])  # variances over the squared step, between contexts of colours


@dataclass(frozen=True, slots=True)
class Span:
    """The symbols of one attribute: values least to least + size - 1, likeliest at first around centre."""

    least: int
    size: int
    centre: int = 0  # a symbol
    spread: int = SPREAD_MOST  # quarter symbols

    @classmethod
    def of(cls, values: Ints) -> Span:
        """The span of these values."""
        if not values.size:
            return cls(0, 1)
        least = int(values.min())
        centre = int(np.median(values))
        spread = round(5.0 * float(np.abs(values - centre).mean()))  # of a bell with tails like these
        return cls(least, int(values.max()) - least + 1, centre - least, min(max(spread, 1), SPREAD_MOST))

    def pack(self) -> bytes:
        """As bytes."""
        return signed_varint(self.least) + varint(self.size) + varint(self.centre) + varint(self.spread)

    @classmethod
    def unpack(cls, cursor: Cursor) -> Span:
        """From bytes.

        Raises:
            FormatError: more symbols than ALPHABET_MOST, or none.
        """
        least, size = cursor.signed(_VALUE_MOST), cursor.unsigned(ALPHABET_MOST)
        centre, spread = cursor.unsigned(ALPHABET_MOST), cursor.unsigned(SPREAD_MOST)
        if centre >= size or spread < 1:
            raise FormatError("the quantiser's section is damaged: a span of symbols is empty or has no centre")
        return cls(least, size, centre, spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The quantiser's section: steps, and the spans of the attributes that are alike in all chunks."""

    steps: Steps
    aspect: Span
    shear: Span
    prior: Span
    colours: tuple[Span, ...]  # C
    slopes: tuple[Span, ...]  # 2 C of order 1, none of order 0

    def check(self, kernels: int, limits: Limits) -> None:
        """Raise when decoding so many kernels would take longer than the limits allow.

        Raises:
            LimitError: it would.
        """
        symbols = kernels * (sum(span.size for span in self._spans()) + SIZES_MOST)
        limits.check("table_symbols", symbols, "decoding would look at frequencies:")

    def _spans(self) -> tuple[Span, ...]:
        return (self.aspect, self.shear, self.prior, *self.colours, *self.slopes)

    def pack(self) -> bytes:
        """As bytes."""
        spans = self._spans()
        return self.steps.pack() + b"".join(span.pack() for span in spans)

    @classmethod
    def unpack(cls, data: bytes, *, channels: int, order: int) -> Tables:
        """From bytes.

        Raises:
            FormatError: the section is damaged.
        """
        cursor = Cursor(data, "the quantiser's section")
        steps = Steps.unpack(cursor)
        spans = [Span.unpack(cursor) for _ in range(3 + channels + 2 * channels * order)]
        cursor.done()
        return cls(
            steps=steps,
            aspect=spans[0],
            shear=spans[1],
            prior=spans[2],
            colours=tuple(spans[3 : 3 + channels]),
            slopes=tuple(spans[3 + channels :]),
        )


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """How many kernels a chunk holds, their sizes, and how deep its tree goes."""

    kernels: int
    sizes: Span
    leaf_bits: int  # the smallest part is 2^leaf_bits units

    def pack(self) -> bytes:
        """As bytes."""
        return varint(self.kernels) + varint(self.leaf_bits) + signed_varint(self.sizes.least) + varint(self.sizes.size)

    @classmethod
    def unpack(cls, cursor: Cursor, most: int) -> ChunkHeader:
        """From bytes; at most `most` kernels.

        Raises:
            FormatError: no kernel, too many, or no size.
        """
        kernels, leaf_bits = cursor.unsigned(most), cursor.unsigned(62)
        least, size = cursor.signed(_VALUE_MOST), cursor.unsigned(SIZES_MOST)
        if not kernels or not size:
            raise FormatError("a chunk of kernels is damaged: it holds none")
        return cls(kernels, Span(least, size), leaf_bits)


class Memory:
    """What both sides know when a chunk begins: the tables as learnt so far, and the colours around every place."""

    def __init__(self, tables: Tables, square: Square, kernels: int) -> None:
        self.tables, self.square = tables, square
        self.block = max(128, kernels // 64)
        self.aspect = _adaptive(tables.aspect, len(_LEANING) + 1)
        self.shear = _adaptive(tables.shear, len(_LONG) + 1)
        self.prior = _adaptive(tables.prior)
        self.colours = [_adaptive(span, len(_TRUST) + 1) for span in tables.colours]
        self.slopes = [_adaptive(span) for span in tables.slopes]
        usual = [round(2**VALUE_BITS * value) for value in usual_colours(len(tables.colours))]
        self.around = Surroundings(square, [*usual, 0, 0], kernels)

    def expected_colours(self, x: Ints, y: Ints, size: Ints) -> tuple[Ints, Ints]:  # (N, C) both
        """The symbols that neighbours suggest for the colours, and how far to trust them (contexts)."""
        mean, variance = self.around.at(x, y)
        channels = len(self.tables.colours)
        step = np.maximum(colour_steps(self.tables.steps, size, channels) >> (COLOUR_BITS - VALUE_BITS - 4), 1)
        guess = (mean[:, :channels] * 32 + step) // (2 * step)  # the nearest multiple; values in 2^-10, steps in 2^-14
        deviation = variance[:, :channels] * 256 // (step * step)  # variance over the squared step
        return guess, np.searchsorted(_TRUST, deviation.ravel(), side="right").reshape(deviation.shape)

    def note(self, kernels: Kernels) -> None:
        """Remember a finished chunk."""
        steps = self.tables.steps
        step = colour_steps(steps, kernels.size, len(self.tables.colours))
        colours = kernels.colours * step >> (COLOUR_BITS - VALUE_BITS)
        aspect, shear = kernels.aspect * steps.aspect >> 2, kernels.shear * steps.shear >> 2
        self.around.add(kernels.x, kernels.y, np.concatenate([colours, aspect[:, None], shear[:, None]], 1))


def _adaptive(span: Span, contexts: int = 1) -> Adaptive:
    return Adaptive(span.size, span.centre, span.spread, contexts)


def code_chunk(coder: Coder, header: ChunkHeader, memory: Memory, known: Kernels | None) -> Kernels:
    """Write the kernels of one chunk, or read them when `known` is None; both come back with what was coded.

    Raises:
        FormatError: the integers are not a mixture's.
    """
    tables, steps = memory.tables, memory.tables.steps
    depth = depth_for(memory.square, header.leaf_bits)
    keys = None if known is None else curve_keys(known.x, known.y, memory.square, depth)
    parts = code_parts(coder, header.kernels, memory.square, depth, keys)
    alike = np.zeros(header.kernels, np.int64)

    def code(span: Span, models: Adaptive, contexts: Ints, values: Ints | None) -> Ints:
        """One attribute, block by block, under the table of each kernel's context."""
        found = np.empty(header.kernels, np.int64)
        for first in range(0, header.kernels, memory.block):
            here = slice(first, first + memory.block)
            symbols = None if values is None else values[here] - span.least
            symbols = coder.rows(models.frequencies(), contexts[here], symbols)
            models.learn(symbols, contexts[here])
            found[here] = symbols + span.least
        return found

    size = code(header.sizes, _adaptive(header.sizes), alike, None if known is None else known.size)
    middle = parts.x + (1 << parts.width_bits >> 1), parts.y + (1 << parts.height_bits >> 1)  # positions come later
    leaning = np.searchsorted(_LEANING, memory.around.at(*middle)[0][:, -2], side="right")
    aspect = code(tables.aspect, memory.aspect, leaning, None if known is None else known.aspect)
    length = np.searchsorted(_LONG, aspect * steps.aspect, side="right")
    shear = code(tables.shear, memory.shear, length, None if known is None else known.shear)
    prior = code(tables.prior, memory.prior, alike, None if known is None else known.prior)

    down = axis_levels(steps, size, aspect, parts.height_bits, across=False)
    over = axis_levels(steps, size, aspect, parts.width_bits, across=True)
    rows = coder.uniform(down, None if known is None else offsets(known.y, parts.y, parts.height_bits, down))
    columns = coder.uniform(over, None if known is None else offsets(known.x, parts.x, parts.width_bits, over))
    x, y = centres(columns, parts.x, parts.width_bits, over), centres(rows, parts.y, parts.height_bits, down)

    guess, trust = memory.expected_colours(x, y, size)
    colours = [
        code(span, models, trust[:, c], None if known is None else known.colours[:, c] - guess[:, c]) + guess[:, c]
        for c, (span, models) in enumerate(zip(tables.colours, memory.colours, strict=True))
    ]
    slopes = [
        code(span, models, alike, None if known is None else known.slopes[:, i])
        for i, (span, models) in enumerate(zip(tables.slopes, memory.slopes, strict=True))
    ]
    kernels = Kernels(
        x=x,
        y=y,
        size=size,
        aspect=aspect,
        shear=shear,
        prior=prior,
        colours=np.stack(colours, 1),
        slopes=np.stack(slopes, 1) if slopes else np.zeros((header.kernels, 0), np.int64),
    )
    check_ranges(kernels, steps)
    memory.note(kernels)
    return kernels


def write_chunk(header: ChunkHeader, memory: Memory, kernels: Kernels) -> bytes:
    """The payload of a KERN section."""
    coder = Encoder()
    code_chunk(coder, header, memory, kernels)
    stream = coder.finish()
    least = -(-max(header.kernels - _KERNELS_FREE, 0) // _KERNELS_PER_BYTE)
    return header.pack() + stream.ljust(least, b"\0")


def read_chunk(payload: bytes, memory: Memory, *, most: int) -> Kernels:
    """The kernels of a KERN section, at most `most`.

    Raises:
        FormatError: the payload is damaged.
    """
    cursor = Cursor(payload, "a chunk of kernels")
    header = ChunkHeader.unpack(cursor, most)
    stream = cursor.rest()
    if header.kernels > _KERNELS_FREE + _KERNELS_PER_BYTE * len(stream):
        raise FormatError(f"a chunk of kernels is damaged: {len(stream)} bytes cannot hold {header.kernels} kernels")
    coder = Decoder(stream)
    kernels = code_chunk(coder, header, memory, None)
    coder.finish()
    return kernels
