"""What a network is told of each kernel, all of it in the kernel's own frame and units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.mixture.backends.curved import downhill
from moesaic.mixture.backends.threads import run
from moesaic.predict.kernels import CHANNELS, SIX
from moesaic.predict.telling import SEEN, tell, weave

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.mixture.backends.cpu import Floats, Packed
    from moesaic.mixture.backends.curved import Bent


@dataclass(frozen=True, slots=True)
class View:
    """What is known of each kernel."""

    seen: Tensor  # (N, SEEN)
    bold: Tensor  # (N, 6), the step of Newton's method with little damping
    shy: Tensor  # (N, 6), with much
    colour: Tensor  # (N, 3), the step that were best if every other kernel stayed


def view(
    packed: Packed,
    change: Tensor,  # (N, CHANGE), the last one
    picture: Floats,  # (3, H, W)
    bent: Bent,
    threads: int,
) -> View:
    """What a network is told of kernels whose picture has been compared with the wanted one."""
    count = len(packed.centres)
    seen, bold, shy, colour = (np.empty((count, width), np.float32) for width in (SEEN, SIX, SIX, CHANNELS))
    height, width = picture.shape[1:]
    both = np.empty((height, width, 2 * CHANNELS), np.float32)
    rows = np.linspace(0, height, 4 * threads + 1).astype(int)
    run([partial(weave, int(a), int(b), picture, bent.left, both) for a, b in pairwise(rows) if b > a], threads)
    arrays = (
        packed.centres,
        packed.geometry,
        packed.experts,
        change.detach().contiguous().numpy(),
        bent.slope,
        downhill(packed, bent.slope),
        bent.bends,
        both,
    )
    edges = np.linspace(0, count, 4 * threads + 1).astype(int)
    tasks = [partial(tell, int(a), int(b), *arrays, seen, bold, shy, colour) for a, b in pairwise(edges) if b > a]
    run(tasks, threads)
    return View(*(torch.from_numpy(found) for found in (seen, bold, shy, colour)))
