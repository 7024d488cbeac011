"""What kernels should have been: the numbers after some steps of a fit (predict, optimise, distil).

Source: AIR, arXiv 2605.20820, where twenty steps of Adam on the render loss teach the network that predicted them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.mixture.fit import FitConfig, Fitting
from moesaic.mixture.observed import Pixels
from moesaic.predict.shapes import Geometry, raw_of

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.predict.stages import Kernels

_STILL = FitConfig(until=0.0, solve=0)  # no kernel is moved elsewhere, or none would know which it was


def optimised(
    kernels: Kernels,
    picture: Tensor,  # (3, H, W)
    steps: int,
) -> Tensor:  # (N, 6), all but the colour
    """The raw numbers of the same kernels after so many steps of a fit from where they are."""
    target = np.ascontiguousarray(picture.detach().cpu().numpy())
    fitting = Fitting(target, 0, 0, 1, None, _STILL, Pixels(target))
    fitting.packed = kernels.packed()
    fitting.descend(len(kernels), steps=steps, seconds=None)
    packed = fitting.packed
    shape = torch.from_numpy(packed.geometry)
    found = Geometry(torch.from_numpy(packed.centres).float(), shape[:, :3], shape[:, 3])
    places, spacing = kernels.places.cpu(), kernels.spacing.cpu()
    return raw_of(found, places, spacing).to(picture.device)
