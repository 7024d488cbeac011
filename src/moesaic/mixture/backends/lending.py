"""Arrays lent to compiled loops without counting references.

Numba counts a reference, in an atomic operation, wherever an array is handed to a function or taken from a tuple. In
loops over tiles that costs more than the arithmetic of a row. A lent array is counted nowhere: whoever lends it keeps
it alive.
"""

# ruff: noqa: ARG001 - Numba hands every intrinsic and every lowering the same arguments
from __future__ import annotations

from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic

from moesaic.mixture.backends.layout import Work, places


@intrinsic
def borrowed(typing, array):
    """The same array, uncounted; the caller must hold on to the counted one."""

    def code(context, builder, sig, args):
        view = context.make_array(array)(context, builder, args[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        return view._getvalue()

    return array(array), code


@njit(nogil=True, cache=True)
def lent(work):
    """All arrays of a work, uncounted."""
    return Work(
        borrowed(work.centres),
        borrowed(work.geometry),
        borrowed(work.experts),
        borrowed(work.tile_kernel),
        borrowed(work.tile_rows),
        borrowed(work.tile_pairs),
        borrowed(work.tile_start),
        borrowed(work.bars),
        work.channels,
        work.linear,
    )


@njit(nogil=True, cache=True)
def planes(own, work):
    """The planes and the weights of a scratch array, uncounted."""
    size = places(work)[5]
    return borrowed(own[:size]), borrowed(own[size:])
