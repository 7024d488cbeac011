"""How the picture answers to each kernel's geometry: what rounding one number costs, and how others can make up for it.

To first order, a change p of the six numbers of one kernel's geometry changes the picture at a pixel by
w (m - y) (phi . p): its gate w, its expert m, the picture y, and phi the change of its logit. So the squared error
grows by p^T H p with H = sum over pixels of w^2 |m - y|^2 phi phi^T, less what a new colour of the same kernel makes up
for (its Schur complement). H is far from diagonal: a smaller size with a larger prior looks almost the same.

The six numbers are log prior, log size, log aspect (natural logarithms; see `quantise`), shear, and the offset of the
centre down and across in units of 1 / l_yy and 1 / l_xx. A change of aspect keeps l_yx / l_xx, and an offset down takes
the centre along the line on which L^T (x - centre) keeps its first component: so the six disturb each other least.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.backends.layout import DEEP, HALF, LOG2E, STEEP, TILE, places, scratch
from moesaic.mixture.backends.loops import FAST, F, depth, exp2, peaks
from moesaic.mixture.backends.threads import default_threads, run
from moesaic.mixture.colours import pack
from moesaic.mixture.model import Mixture

PARAMETERS = 6
_PAIRS = PARAMETERS * (PARAMETERS + 1) // 2  # numbers of a symmetric matrix, row by row of its lower half
_DAMPING = 0.02  # px; colours of kernels that hardly any pixel sees make up for nothing
_MARGIN = 8.0  # nats; weights below exp(-8) do not matter when squared


def curvatures(mixture: Mixture, *, threads: int | None = None) -> NDArray[np.float64]:  # (N, 6, 6)
    """The matrix H of every kernel, summed over the pixels and channels of the canvas."""
    threads = threads or default_threads()
    packed = pack(mixture.detach().to(device="cpu", dtype=torch.float32))
    channels = mixture.channels
    listed = cover(packed.centres, packed.geometry, mixture.width, mixture.height, _MARGIN, threads)
    picture, sums = cpu.forward(packed, listed, threads)
    partials = np.empty((len(listed.pair_kernel), _PAIRS + PARAMETERS * channels + 1), np.float32)
    rest = (cpu.work(packed, listed), mixture.order, picture, sums, partials)
    run([partial(_curve, tiles, *rest) for tiles in cpu.spans(listed, threads)], threads)
    found = np.zeros((len(mixture), partials.shape[1]))
    np.add.at(found, listed.pair_kernel, partials.astype(np.float64))
    rows, columns = np.tril_indices(PARAMETERS)
    full = np.empty((len(mixture), PARAMETERS, PARAMETERS))
    full[:, rows, columns] = full[:, columns, rows] = found[:, :_PAIRS]
    with_colour = found[:, _PAIRS:-1].reshape(-1, channels, PARAMETERS)
    full -= np.einsum("nci,ncj->nij", with_colour, with_colour) / (found[:, -1, None, None] + _DAMPING)
    return full


@njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")  # type: ignore[untyped-decorator] # it erases types
def _curve(tiles: Any, work: Any, order: int, picture: Any, sums: Any, out: Any) -> None:
    """Partial sums (Q, 22 + 6 C) of some tiles: of H without colours, of H between colours and the six, and of w^2."""
    C, PEAK = picture.shape[0], places(work)[3]
    width = sums.shape[1]
    columns = -(-width // TILE)
    s = scratch(work, tiles[:0])
    phi = np.empty(6, np.float32)
    total = np.empty(out.shape[1], np.float32)
    for t in tiles:
        left, up = t % columns * TILE, t // columns * TILE
        wide = min(TILE, width - left)
        bar = work.bars[t] * LOG2E
        steep = STEEP < depth(t, work) <= DEEP
        peaks(t, steep, left + 0.5, up + 0.5, work, bar, s)
        for q in range(work.tile_start[t], work.tile_start[t + 1]):
            p = work.tile_pairs[q]
            j = work.tile_kernel[q]
            f0, f1, f2 = work.geometry[j, 0], work.geometry[j, 1], work.geometry[j, 2]
            dx = left + 0.5 - work.centres[j, 0]
            prior = work.geometry[j, 3] * LOG2E - bar
            total[:] = F(0)
            for r in range(int(work.tile_rows[q, 0]), int(work.tile_rows[q, 1])):
                dy = up + r + 0.5 - work.centres[j, 1]
                v = F(f2 * dy)
                a = F(f0 * dx + f1 * dy)
                top = F(prior - HALF * HALF * v * v)
                for x in range(wide):
                    u = a + f0 * F(x)
                    logit = top - F(HALF * HALF) * u * u - s[PEAK + r * TILE + x]
                    w = exp2(min(max(logit, F(-126)), F(126))) * sums[up + r, left + x]
                    ww = w * w
                    phi[0] = F(1)
                    phi[1] = -(u * u + v * v)
                    phi[2] = F(0.5) * (v * v - u * u)
                    phi[3] = -u * v
                    phi[4] = v
                    phi[5] = u
                    far = F(0)
                    for c in range(C):
                        m = work.experts[j, c]
                        if order == 1:
                            m += F(work.experts[j, C + 2 * c] * (dx + x) + work.experts[j, C + 2 * c + 1] * dy)
                        gap = m - picture[c, up + r, left + x]
                        far += gap * gap
                        for i in range(6):
                            total[21 + 6 * c + i] += ww * gap * phi[i]
                    k = 0
                    for i in range(6):
                        for n in range(i + 1):
                            total[k] += ww * far * phi[i] * phi[n]
                            k += 1
                    total[-1] += ww
            out[p] = total
