"""What kernels should have been: where some steps of a fit take them (predict, optimise, distil).

Source: AIR, arXiv 2605.20820, where twenty steps of Adam on the render loss teach the network that predicted them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.mixture.fitting import FitConfig, Fitting
from moesaic.mixture.observed import Pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.predict.kernels import Kernels

_STILL = FitConfig(until=0.0, solve=0)  # no kernel is moved elsewhere, or none would know which it was


def optimised(
    kernels: Kernels,
    picture: NDArray[np.float32],  # (3, H, W)
    steps: int,
) -> Kernels:
    """The same kernels after so many steps of a fit from where they are; without gradients."""
    fitting = Fitting(picture, 0, 0, 1, None, _STILL, Pixels(picture))
    fitting.packed = kernels.packed().copy()
    fitting.descend(len(kernels), steps=steps, seconds=None)
    packed = fitting.packed
    shape = torch.from_numpy(packed.geometry)
    return replace(
        kernels,
        centres=torch.from_numpy(packed.centres.astype(np.float32)),
        factors=shape[:, :3],
        log_priors=shape[:, 3],
        colours=torch.from_numpy(packed.experts),
        change=kernels.change.detach(),
    )


def between(a: Kernels, b: Kernels) -> Tensor:  # (N, CHANGE)
    """The change that takes the first kernels to the second; see `moesaic.predict.kernels.moved`."""
    (a0, a1, a2), (b0, b1, b2) = a.factors.unbind(1), b.factors.unbind(1)
    wide, tall = (b0 / a0).log(), (b2 / a2).log()
    aspect = wide - tall
    shear = b1 / b2 - a1 / a2 * aspect.exp()
    across, down = (b.centres - a.centres).unbind(1)
    six = (b.log_priors - a.log_priors, (wide + tall) / 2, aspect, shear, b2 * down, b0 * across + b1 * down)
    return torch.cat([torch.stack(six, dim=1), b.colours - a.colours], dim=1)
