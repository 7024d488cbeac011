"""A row of a tile as one value in compiled loops: 16 float32 lanes, which the compiler keeps in vector registers.

Numba vectorises loops over arrays, but a sum that runs through a loop over rows then lives in memory. A value of this
type lives in registers: one on AVX-512, two on AVX2, four on NEON. Its arithmetic is that of LLVM's <16 x float>;
products and sums may be fused, and nothing else is reordered, except within `total`.

Loads and stores are not checked against the array's bounds.
"""

# ruff: noqa: ARG001, ARG005 - Numba hands every intrinsic and every lowering the same arguments
from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_WHOLE = ir.VectorType(ir.IntType(32), WIDTH)
_FUSED = ("contract", "nsz")


class Lanes(types.Type):  # type: ignore[misc] # Numba is untyped
    """Numba's name for 16 float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm, fe_type) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _filled(builder, number):
    """All lanes alike."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_WHOLE, [0] * WIDTH))


def _operator(symbol, instruction) -> None:
    """Teach Numba one operator between lanes, and between lanes and a float32 on either side."""
    sides = [(LANES, LANES), (LANES, types.float32), (types.float32, LANES)]

    @infer_global(symbol)
    class _Template(ConcreteTemplate):  # type: ignore[misc]
        cases = [signature(LANES, *side) for side in sides]  # noqa: RUF012  # as Numba spells it

    for side in sides:

        @lower_builtin(symbol, *side)
        def _lower(context, builder, sig, args):
            a, b = (v if t is LANES else _filled(builder, v) for t, v in zip(sig.args, args, strict=True))
            return getattr(builder, instruction)(a, b, flags=_FUSED)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def fill(typing, number):
    """All lanes alike."""
    return LANES(types.float32), lambda context, builder, sig, args: _filled(builder, args[0])


@intrinsic
def places_in_row(typing):
    """0, 1, ... 15."""
    numbers = [float(k) for k in range(WIDTH)]
    return LANES(), lambda context, builder, sig, args: ir.Constant(_VECTOR, numbers)


def _pointer(context, builder, sig, args):
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), _VECTOR.as_pointer())


@intrinsic
def load(typing, array, start):
    """Sixteen numbers of a contiguous float32 array from a place on."""

    def code(context, builder, sig, args):
        return builder.load(_pointer(context, builder, sig, args), align=4)

    return LANES(array, types.intp), code


@intrinsic
def store(typing, array, start, lanes):
    """Write sixteen numbers to a contiguous float32 array from a place on."""

    def code(context, builder, sig, args):
        builder.store(args[2], _pointer(context, builder, sig, args), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), code


@intrinsic
def greatest(typing, a, b):
    """The larger of each two lanes."""

    def code(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return LANES(LANES, LANES), code


@intrinsic
def some_below(typing, lanes, limit):
    """Whether any lane lies below a float32."""

    def code(context, builder, sig, args):
        below = builder.fcmp_ordered("<", args[0], _filled(builder, args[1]))
        bits = builder.bitcast(below, ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(LANES, types.float32), code


@intrinsic
def zero_below(typing, lanes, by, limit):
    """Lanes, with zero where `by` lies below a float32."""

    def code(context, builder, sig, args):
        below = builder.fcmp_ordered("<", args[1], _filled(builder, args[2]))
        return builder.select(below, ir.Constant(_VECTOR, [0.0] * WIDTH), args[0])

    return LANES(LANES, LANES, types.float32), code


@intrinsic
def totals(typing, rows):
    """The sum of each of up to 16 values of lanes, in their order; lanes beyond are undefined.

    One tree of shuffles folds the values and sets them side by side, two at a time.
    """

    def code(context, builder, sig, args):
        given = cgutils.unpack_tuple(builder, args[0])
        parts = [None] * WIDTH
        for lane, place in zip(range(len(given)), _brought_out(), strict=False):
            parts[place] = given[lane]
        for low, high in _FOLDS:
            parts = [_folded(builder, *pair, low, high) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return LANES(rows), code


def _folds():
    """For each level of the tree, which lanes of two values are added; the last levels stay within four lanes."""
    for lows, step in (
        ([*range(8), *range(16, 24)], 8),
        ([k + 8 * run for run in range(4) for k in range(4)], 4),
        ([k + 16 * side + 4 * part for part in range(4) for side in range(2) for k in range(2)], 2),
        ([2 * k + 16 * side + 4 * part for part in range(4) for side in range(2) for k in range(2)], 1),
    ):
        yield lows, [k + step for k in lows]


_FOLDS = list(_folds())


def _folded(builder, a, b, low, high):
    if a is None and b is None:
        return None
    sides = [ir.Constant(_VECTOR, ir.Undefined) if v is None else v for v in (a, b)]
    halves = [builder.shuffle_vector(*sides, ir.Constant(_WHOLE, picked)) for picked in (low, high)]
    return builder.fadd(*halves, flags=_FUSED)


def _brought_out():
    """Which of 16 values the tree's lanes hold the sums of."""
    tags = [[value] * WIDTH for value in range(WIDTH)]
    for low, _ in _FOLDS:
        tags = [[(a + b)[k] for k in low] for a, b in zip(tags[::2], tags[1::2], strict=True)]
    return tags[0]


@intrinsic
def _nearest(typing, lanes):
    def code(context, builder, sig, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.rint.v16f32"), args)

    return LANES(LANES), code


@intrinsic
def _scaled(typing, lanes, whole):
    """Lanes between 0.5 and 2 times 2 to whole powers; zero, or what a float32 still holds, for powers below -126."""

    def code(context, builder, sig, args):
        if "+avx512f" in context.codegen().magic_tuple()[2].split(","):
            bits, mode = ir.IntType(WIDTH), ir.IntType(32)
            kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR, bits, mode])
            scale = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.scalef.ps.512")
            everywhere, rounding_as_set = ir.Constant(bits, 2**WIDTH - 1), ir.Constant(mode, 4)
            return builder.call(scale, [*args, ir.Constant(_VECTOR, ir.Undefined), everywhere, rounding_as_set])
        power = builder.shl(builder.fptosi(args[1], _WHOLE), ir.Constant(_WHOLE, [23] * WIDTH))
        scaled = builder.bitcast(builder.add(builder.bitcast(args[0], _WHOLE), power), _VECTOR)
        held = builder.fcmp_ordered(">=", args[1], ir.Constant(_VECTOR, [-126.0] * WIDTH))
        return builder.select(held, scaled, ir.Constant(_VECTOR, [0.0] * WIDTH))

    return LANES(LANES, LANES), code


@njit(nogil=True, forceinline=True)
def exp2(x):
    """2^x for x <= 127, with zero or next to nothing below -126: a polynomial, relative error below 1e-7."""
    whole = _nearest(x)
    part = x - whole
    p = part * np.float32(1.327647196e-03) + np.float32(9.675541503e-03)
    p = p * part + np.float32(5.550713275e-02)
    p = p * part + np.float32(2.402211972e-01)
    p = p * part + np.float32(6.931469671e-01)
    p = p * part + np.float32(1.0)
    return _scaled(p, whole)


@njit(nogil=True, forceinline=True)
def fetch(array, start, count, room):
    """The first `count` of 16 numbers of an array, zeros behind; `room` holds 16 numbers for the time being."""
    if count == WIDTH:
        return load(array, start)
    for x in range(WIDTH):
        room[x] = array[start + x] if x < count else np.float32(0)
    return load(room, 0)


@njit(nogil=True, forceinline=True)
def put(array, start, lanes, count, room):
    """Write the first `count` lanes; `room` holds 16 numbers for the time being."""
    if count == WIDTH:
        store(array, start, lanes)
    else:
        store(room, 0, lanes)
        for x in range(count):
            array[start + x] = room[x]
