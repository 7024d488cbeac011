"""Moving kernels within a fit: the least useful are taken away, and the neediest split in two.

Both sides are measured (see `backends.survey`): a removal by the squared error that it adds, a split by the squared
error that a second colour along its best axis can take away. A split leaves the picture nearly as it was: the halves
stand half a standard deviation apart, narrowed so that their sum is close to the parent, so that nothing around them
has to recover from the move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover
from moesaic.mixture.backends.survey import survey as measure
from moesaic.mixture.backends.survey import weigh
from moesaic.mixture.backends.threads import run

APART = 0.5  # standard deviations between the parent's centre and each half
LEAP = 0.15  # the largest difference in colour that a split starts with


@dataclass(frozen=True, slots=True)
class Survey:
    """What each kernel is worth, in squared error summed over pixels and channels."""

    cost: NDArray[np.float64]  # (N,), added by taking the kernel away
    gain: NDArray[np.float64]  # (N,), taken away by splitting it
    axis: NDArray[np.float64]  # (N, 2), unit vector of the split in the kernel's whitened frame
    difference: NDArray[np.float64]  # (N, C), change of colour per standard deviation along that axis


def survey(packed: cpu.Packed, listed: Cover, target: NDArray[np.float32], threads: int) -> Survey:
    """Measure all kernels against the target (C, H, W); experts of order 1 are judged by their colours alone."""
    flat = replace(packed, experts=np.ascontiguousarray(packed.experts[:, : packed.channels]), order=0)
    picture, sums = cpu.forward(flat, listed, threads)
    if packed.order:
        picture, _ = cpu.forward(packed, listed, threads)
    sums_of_pairs = np.empty((len(listed.pair_kernel), 4 + 2 * packed.channels), np.float32)
    work = cpu.work(flat, listed)
    aims = np.ascontiguousarray(target)
    tasks = [partial(measure, t, work, picture, sums, aims, sums_of_pairs) for t in cpu.spans(listed, threads)]
    run(tasks, threads)
    n = len(packed.centres)
    found = Survey(np.empty(n), np.empty(n), np.empty((n, 2)), np.empty((n, packed.channels)))
    weigh(listed.kernel_start, sums_of_pairs, found.cost, found.gain, found.axis, found.difference)
    return found


def moves(
    found: Survey,
    share: float,
    ratio: float,
    among: NDArray[np.bool_] | None = None,  # (N,), kernels that may take part; all when None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kernels to split and kernels to give up for their second halves, at most `share` of all, best first.

    A pair is moved while the gain exceeds `ratio` times the cost; a kernel is never on both sides.
    """
    count = int(share * len(found.cost))
    cost, gain = found.cost.copy(), found.gain.copy()
    if among is not None:
        cost[~among], gain[~among] = np.inf, -1.0
        count = min(count, int(among.sum()) // 2)
    removed = np.argsort(cost, kind="stable")[:count]
    gain[removed] = -1.0
    parents = np.argsort(-gain, kind="stable")[:count]
    worth = gain[parents] > ratio * np.maximum(found.cost[removed], 0.0)
    return parents[worth], removed[worth]


def split(
    packed: cpu.Packed,
    parents: NDArray[np.int64],  # (M,)
    places: NDArray[np.int64],  # (M,), where the second halves are written
    found: Survey,
) -> None:
    """Split parents in place; the second halves overwrite what stood at `places`."""
    f0, f1, f2 = (packed.geometry[parents, k].astype(np.float64) for k in range(3))
    axis = found.axis[parents]
    down = APART * axis[:, 1] / f2
    offset = np.stack([(APART * axis[:, 0] - f1 * down) / f0, down], axis=1)  # L^-T axis, px
    narrow = 1.0 / (1.0 - APART**2)  # the halves' spread makes up for what they lose in width
    metric = np.eye(2) + (narrow - 1.0) * axis[:, :, None] * axis[:, None, :]
    factor = np.zeros((len(parents), 2, 2))
    factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1] = f0, f1, f2
    halves = np.linalg.cholesky(factor @ metric @ factor.transpose(0, 2, 1))
    packed.geometry[parents, 0] = halves[:, 0, 0]
    packed.geometry[parents, 1] = halves[:, 1, 0]
    packed.geometry[parents, 2] = halves[:, 1, 1]
    packed.geometry[parents, 3] += 0.5 * math.log(narrow) - math.log(2.0)
    packed.geometry[places] = packed.geometry[parents]
    centres = packed.centres[parents]
    packed.centres[parents] = centres - offset
    packed.centres[places] = centres + offset
    step = np.clip(APART * found.difference[parents], -LEAP, LEAP)
    experts = packed.experts[parents]
    if packed.order:  # each half's colour is the parent's at its own centre
        step += np.einsum("ncd,nd->nc", experts[:, packed.channels :].reshape(len(parents), packed.channels, 2), offset)
    step = step.astype(np.float32)
    packed.experts[places] = experts
    packed.experts[parents, : packed.channels] = experts[:, : packed.channels] - step
    packed.experts[places, : packed.channels] = experts[:, : packed.channels] + step


def grown(packed: cpu.Packed, more: int, found: Survey) -> cpu.Packed:
    """The same mixture with `more` kernels added by splitting those with the largest gain; at most doubles it."""
    n = len(packed.centres)
    more = min(more, n)
    parents = np.argsort(-found.gain, kind="stable")[:more]
    larger = replace(
        packed,
        centres=np.concatenate([packed.centres, packed.centres[parents]]),
        geometry=np.concatenate([packed.geometry, packed.geometry[parents]]),
        experts=np.concatenate([packed.experts, packed.experts[parents]]),
    )
    split(larger, parents, np.arange(n, n + more), found)
    return larger


def pruned(packed: cpu.Packed, fewer: int, found: Survey) -> cpu.Packed:
    """The same mixture without the `fewer` kernels that cost least to take away; at least one stays."""
    fewer = min(fewer, len(packed.centres) - 1)
    return packed.chosen(np.sort(np.argsort(found.cost, kind="stable")[fewer:]))
