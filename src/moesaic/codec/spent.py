"""Where the bits of a `.moe` file go: what each kernel costs, and what each layer adds."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from moesaic.codec.chunks import ChunkHeader, Memory, Tables, code_chunk
from moesaic.codec.container import Cursor, FileReader
from moesaic.codec.entropy import PRECISION, Coder, Decoder, Ints
from moesaic.codec.limits import DEFAULT_LIMITS, Limits
from moesaic.codec.positions import Square

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from moesaic.codec.quantise import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spent:
    """The bits of a file, kernel by kernel in the order of the file, and its layers."""

    bits: NDArray[np.float64]  # (N,), of each kernel; their sum is that of the layers' bytes
    kernels: tuple[int, ...]  # (L,), that each layer adds
    layer_bytes: tuple[int, ...]  # (L,), of each layer, its frame included
    whole: int  # bytes of the file; what the layers do not take is header, tables and metadata


def spent(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Spent:
    """What each kernel of a file costs.

    A symbol costs -log2 of its probability under the table by which it was coded. The tree of positions serves all
    kernels of a layer, so each pays an equal part of it, and of what a layer takes beside its symbols.

    Raises:
        FormatError: the file is damaged, truncated, or needs a newer moesaic.
        LimitError: it asks for more than the limits allow.
    """
    reader = FileReader(BytesIO(data), limits=limits)
    header = reader.header
    reader.info()
    tables = Tables.unpack(reader.tables(), channels=header.channels, order=header.order)
    tables.check(header.kernels, limits)
    memory = Memory(tables, Square.around(header.width, header.height), header.kernels)
    bits: list[Floats] = []
    left = header.kernels
    for payload in reader.chunks():
        cursor = Cursor(payload, "a chunk of kernels")
        chunk = ChunkHeader.unpack(cursor, left)
        meter = _Meter(Decoder(cursor.rest()))
        code_chunk(meter, chunk, memory, None)
        own = meter.by_kernel(chunk.kernels, memory)
        size = 8 * reader.sections[-1][1]
        bits.append(own + (size - own.sum()) / chunk.kernels)
        left -= chunk.kernels
    return Spent(
        bits=np.concatenate(bits),
        kernels=tuple(len(one) for one in bits),
        layer_bytes=tuple(size for kind, size in reader.sections if kind == "KERN"),
        whole=len(data),
    )


class _Meter:
    """A coder that notes what each symbol costs on its way through another."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._calls: list[Floats] = []  # bits of the symbols of each call

    def rows(self, frequencies: Ints, which: Ints, known: Ints | None) -> Ints:
        """See `Coder`."""
        symbols = self._coder.rows(frequencies, which, known)
        self._calls.append(PRECISION - np.log2(frequencies[which, symbols]))
        return symbols

    def uniform(self, sizes: Ints, known: Ints | None) -> Ints:
        """See `Coder`."""
        symbols = self._coder.uniform(sizes, known)
        self._calls.append(np.log2(np.maximum(sizes, 1)))
        return symbols

    def by_kernel(self, kernels: int, memory: Memory) -> Floats:  # (N,), bits without the tree of positions
        """The bits of the attributes: the last calls, in blocks but for the two of the offsets (see `code_chunk`)."""
        tables = memory.tables
        attributes = 4 + len(tables.colours) + len(tables.slopes)
        blocks = -(-kernels // memory.block)
        calls = self._calls[len(self._calls) - attributes * blocks - 2 :]
        found: Floats = np.concatenate(calls).reshape(attributes + 2, kernels).sum(axis=0)
        return found
