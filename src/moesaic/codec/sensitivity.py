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
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.backends.curving import EACH, WHOLE, curve, settle
from moesaic.mixture.backends.threads import default_threads, run
from moesaic.mixture.colours import pack
from moesaic.mixture.model import Mixture

PARAMETERS = 6
_DAMPING = 0.02  # px; colours of kernels that hardly any pixel sees make up for nothing
_MARGIN = 8.0  # nats; weights below exp(-8) do not matter when squared


def curvatures(mixture: Mixture, *, threads: int | None = None) -> NDArray[np.float64]:  # (N, 6, 6)
    """The matrix H of every kernel, summed over the pixels and channels of the canvas."""
    threads = threads or default_threads()
    packed = pack(mixture.detach().to(device="cpu", dtype=torch.float32))
    listed = cover(packed.centres, packed.geometry, mixture.width, mixture.height, _MARGIN, threads)
    partials = np.empty((len(listed.pair_kernel), WHOLE + EACH * packed.channels), np.float32)
    work = cpu.work(packed, listed)
    run([partial(curve, tiles, work, mixture.width, partials) for tiles in cpu.spans(listed, threads)], threads)
    found = np.empty((len(mixture), PARAMETERS, PARAMETERS))
    edges = np.linspace(0, len(mixture), threads + 1).astype(int)
    rest = (work, listed.kernel_start, partials, _DAMPING, found)
    run([partial(settle, int(a), int(b), *rest) for a, b in pairwise(edges)], threads)
    return found
