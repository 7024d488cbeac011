"""From a mixture to all that its file will hold: which kernel goes into which chunk, every integer, every table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from moesaic.codec.chunks import ALPHABET_MOST, SIZES_MOST, ChunkHeader, Memory, Span, Tables
from moesaic.codec.entropy import Ints
from moesaic.codec.positions import UNIT_BITS, Square, centres, code_parts, curve_keys, depth_for, offsets
from moesaic.codec.quantise import (
    FINE,
    Floats,
    Kernels,
    Steps,
    axis_levels,
    colour_integers,
    dequantise,
    slope_integers,
)
from moesaic.codec.rounding import round_shapes
from moesaic.errors import ArgumentError
from moesaic.mixture.model import Mixture

_CHUNKS_MOST = 6
_KERNELS_A_CHUNK = 300  # a further chunk costs some 16 bytes
_STRAY = 0.01  # share of the kernels that may be clipped to fit into a table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantised:
    """A mixture in whole numbers."""

    width: int  # px
    height: int  # px
    kernels: Kernels
    chunks: tuple[ChunkHeader, ...]
    steps: Steps
    order: Ints  # (N,), for each kernel of the file its place in the mixture that was planned

    def mixture(self) -> Mixture:
        """What a reader of the file will see, kernels in the order of the file."""
        return dequantise(self.kernels, self.steps, width=self.width, height=self.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(_Quantised):
    """A quantised mixture, ready to be written."""

    tables: Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(_Quantised):
    """A quantised mixture without tables, which look at its final colours."""

    def recoloured(self, mixture: Mixture) -> Placed:
        """The same geometry with the colours and slopes of `mixture`, whose kernels are in the order of the file."""
        return replace(self, kernels=_coloured(self.kernels, mixture, self.steps))

    def finished(self) -> Plan:
        """With tables.

        Raises:
            ArgumentError: the slopes or colours cannot be stored.
        """
        square = Square.around(self.width, self.height)
        kernels, tables = _tables(self.kernels, self.chunks, self.steps, square)
        return Plan(
            width=self.width,
            height=self.height,
            kernels=kernels,
            chunks=self.chunks,
            steps=self.steps,
            order=self.order,
            tables=tables,
        )


def plan(mixture: Mixture, steps: Steps, *, chunks: int | None = None) -> Plan:
    """Quantise a mixture whose colours stay as they are; see `place`."""
    return place(mixture, steps, chunks=chunks).finished()


def place(mixture: Mixture, steps: Steps, *, chunks: int | None = None, curvature: Floats | None = None) -> Placed:
    """Quantise a mixture, up to the tables.

    Args:
        mixture: at least one kernel, parameters finite, factors regular.
        steps: the quantiser's steps.
        curvature: of `sensitivity.curvatures`, (N, 6, 6): lets parameters make up for each other's errors.
        chunks: how many chunks to aim at, each about twice the one before; by the number of kernels when None.

    Raises:
        ArgumentError: the mixture is empty or cannot be stored, or a step is out of range.
    """
    steps.check()
    if not len(mixture):
        raise ArgumentError("a mixture without kernels has no picture and cannot be stored")
    rounded = round_shapes(mixture, steps, curvature)
    shapes = {
        name: _tamed(values, SIZES_MOST if name == "size" else ALPHABET_MOST, name)
        for name, values in rounded.shapes.items()
    }
    square = Square.around(mixture.width, mixture.height)
    corner = np.array([square.left, square.top])
    exact = np.concatenate([(rounded.centres - corner) * 2.0**UNIT_BITS, rounded.across_for_down[:, None]], 1)
    empty = np.zeros((len(mixture), 0), np.int64)
    unplaced = Kernels(x=shapes["size"], y=shapes["size"], colours=empty, slopes=empty, **shapes)

    orders, headers, parts = [], [], []
    for chosen in _by_size(shapes["size"], chunks or min(_CHUNKS_MOST, 1 + len(mixture) // _KERNELS_A_CHUNK)):
        header = _chunk_header(shapes["size"][chosen], steps, square)
        along_curve, placed = _place(unplaced[chosen], exact[chosen], header, steps, square)
        orders.append(chosen[along_curve])
        headers.append(header)
        parts.append(placed)
    order = np.concatenate(orders)
    kernels = _coloured(Kernels.join(parts), mixture[list(order)], steps)
    return Placed(
        width=mixture.width, height=mixture.height, kernels=kernels, chunks=tuple(headers), steps=steps, order=order
    )


def _by_size(size: Ints, wanted: int) -> list[Ints]:
    """Kernels, largest first, in up to `wanted` groups of doubling number; kernels of one size stay together."""
    order = np.argsort(size, kind="stable")
    ordered = size[order]
    cuts = {0, len(size)}
    for i in range(1, wanted):
        cuts.add(int(np.searchsorted(ordered, ordered[len(size) >> i])))
    edges = sorted(cuts)
    return [order[first:last] for first, last in pairwise(edges)]


def _chunk_header(size: Ints, steps: Steps, square: Square) -> ChunkHeader:
    """For one chunk: parts are divided down to the precision of its smallest kernels, and no further."""
    extent = UNIT_BITS + (steps.position - int(size.max()) * steps.size) // FINE
    sizes = Span(int(size.min()), int(size.max() - size.min()) + 1)
    return ChunkHeader(len(size), sizes, min(max(extent, 0), square.bits))


class _Rehearsal:
    """A coder that codes nothing: it shows what the tree of positions makes of known places."""

    def rows(self, frequencies: Ints, which: Ints, known: Ints | None) -> Ints:  # noqa: ARG002 - see entropy.Coder
        return _known(known)

    def uniform(self, sizes: Ints, known: Ints | None) -> Ints:  # noqa: ARG002 - see entropy.Coder
        return _known(known)


def _known(known: Ints | None) -> Ints:
    if known is None:
        raise ValueError("nothing can be decoded from a rehearsal")
    return known


def _place(kernels: Kernels, exact: Floats, header: ChunkHeader, steps: Steps, square: Square) -> tuple[Ints, Kernels]:
    """The order along the curve, and the kernels in it, with their positions.

    `exact` (N, 3) holds the wanted positions in units, and how far x should move for each unit that y does.
    """
    inside = np.clip(np.floor(exact[:, :2]), 0, (1 << square.bits) - 1).astype(np.int64)
    depth = depth_for(square, header.leaf_bits)
    keys = curve_keys(inside[:, 0], inside[:, 1], square, depth)
    order = np.argsort(keys, kind="stable")
    kernels, inside, exact = kernels[order], inside[order], exact[order]
    parts = code_parts(_Rehearsal(), len(kernels), square, depth, keys[order])

    down = axis_levels(steps, kernels.size, kernels.aspect, parts.height_bits, across=False)
    over = axis_levels(steps, kernels.size, kernels.aspect, parts.width_bits, across=True)
    y = centres(offsets(inside[:, 1], parts.y, parts.height_bits, down), parts.y, parts.height_bits, down)
    wanted = np.clip(exact[:, 0] + exact[:, 2] * (y - exact[:, 1]), 0, (1 << square.bits) - 1)
    x = centres(
        offsets(np.floor(wanted).astype(np.int64), parts.x, parts.width_bits, over), parts.x, parts.width_bits, over
    )
    return order, replace(kernels, x=x, y=y)


def _coloured(kernels: Kernels, mixture: Mixture, steps: Steps) -> Kernels:
    colours = colour_integers(mixture.colours.detach().cpu().double().numpy(), kernels.size, steps)
    slopes = np.zeros((len(kernels), 0), np.int64)
    if mixture.slopes is not None:
        slopes = slope_integers(mixture.slopes.detach().cpu().double().numpy(), kernels.size, steps)
    return replace(kernels, colours=colours, slopes=slopes)


def _tables(kernels: Kernels, chunks: tuple[ChunkHeader, ...], steps: Steps, square: Square) -> tuple[Kernels, Tables]:
    """The spans of all attributes, those of the colours after what neighbours suggest is taken off.

    Kernels come back too, with stray colours and slopes pulled in.
    """
    kernels = replace(kernels, slopes=_tamed(kernels.slopes, ALPHABET_MOST, "slope"))
    channels = kernels.colours.shape[1]
    blank = Tables(
        steps=steps,
        aspect=Span.of(kernels.aspect),
        shear=Span.of(kernels.shear),
        prior=Span.of(kernels.prior),
        colours=(Span(0, 1),) * channels,
        slopes=tuple(Span.of(column) for column in kernels.slopes.T),
    )
    memory, first = Memory(blank, square, len(kernels)), 0
    chosen: list[Ints] = []
    left: list[Ints] = []
    for header in chunks:
        chunk = kernels[first : first + header.kernels]
        guess = memory.expected_colours(chunk.x, chunk.y, chunk.size)[0]
        left.append(_tamed(chunk.colours - guess, ALPHABET_MOST, "colour"))
        chosen.append(guess + left[-1])
        memory.note(replace(chunk, colours=chosen[-1]))
        first += header.kernels
    spans = tuple(Span.of(column) for column in np.concatenate(left).T)
    return replace(kernels, colours=np.concatenate(chosen)), replace(blank, colours=spans)


def _tamed(values: Ints, most: int, name: str) -> Ints:
    """Values clipped to `most` steps around their median, column by column: a few stray kernels are pulled in.

    Raises:
        ArgumentError: more than one in a hundred lie outside.
    """
    middle = np.median(values, axis=0).astype(np.int64)
    found: Ints = np.clip(values, middle - most // 2 + 1, middle + most // 2)
    if (found != values).sum() > _STRAY * values.size:
        raise ArgumentError(f"the kernels' {name} spans more than {most} steps: enlarge this step")
    return found
