"""Kernels on a canvas while a network changes them, and how a change moves each in its own frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.mixture import start
from moesaic.mixture.backends.cpu import Packed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SIX = 6
"""Log prior, log size, log aspect, shear, and where the centre moves, down and across in standard deviations; as in
`moesaic.mixture.backends.curved`."""

CHANNELS = 3
CHANGE = SIX + CHANNELS
"""Numbers that a stage changes of a kernel: the six of its geometry, then its colour."""

PRIOR, SLANT, COLOUR = 40.0, 30.0, 16.0  # bounds that no sensible kernel meets, so that nothing grows without end
BEYOND = 0.05  # of the longer side: how far outside the canvas centres may go, as in a fit
SHARPEST, WIDEST = 5.0, 1e-3  # 1/px, of a factor's diagonal: what a fit allows, and what a render needs
_POWER = 0.65  # of the squared error, in the density of new kernels: as a start's power of the gradient
_EVEN = 0.05  # share of the new kernels that are spread evenly
_TENSORS = ("centres", "factors", "log_priors", "colours", "change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """N kernels of constant colour."""

    centres: Tensor  # (N, 2), px
    factors: Tensor  # (N, 3), l_xx, l_yx, l_yy in 1/px
    log_priors: Tensor  # (N,)
    colours: Tensor  # (N, 3)
    change: Tensor  # (N, CHANGE), the last one; zeros for new ones

    def __len__(self) -> int:
        return len(self.centres)

    def packed(self) -> Packed:
        """As the CPU's loops take them, without gradients."""
        shape = torch.cat([self.factors, self.log_priors[:, None]], dim=1).detach()
        return Packed(
            self.centres.detach().double().contiguous().numpy(),
            shape.contiguous().numpy(),
            self.colours.detach().contiguous().numpy(),
            CHANNELS,
            0,
        )


def begun(picture: NDArray[np.float32], count: int, random: np.random.Generator) -> Kernels:
    """The round kernels that a fit starts from: more of them where the picture, (3, H, W), changes."""
    return _new(start.begin(picture, count, 0, random))


def grown(
    kernels: Kernels,
    picture: NDArray[np.float32],  # (3, H, W)
    left: NDArray[np.float32],  # (3, H, W), what they draw less the picture
    count: int,
    random: np.random.Generator,
) -> Kernels:
    """With so many round kernels more, where the most is missing."""
    error = np.maximum(start.smoothed(np.square(left, dtype=np.float64).sum(0)), 0.0) ** _POWER
    mean = error.mean()
    wanted = (1.0 - _EVEN) * error / mean + _EVEN if mean > 1e-12 else np.ones_like(error)
    more = _new(start.begin_by(picture, wanted, count, 0, random))
    return Kernels(**{name: torch.cat([getattr(kernels, name), getattr(more, name)]) for name in _TENSORS})


def detached(kernels: Kernels) -> Kernels:
    """Cut off from the gradients of what made them."""
    return Kernels(**{name: getattr(kernels, name).detach() for name in _TENSORS})


def moved(
    kernels: Kernels,
    change: Tensor,  # (N, CHANGE)
) -> Kernels:
    """The kernels after a change; with gradients for both."""
    f0, f1, f2 = kernels.factors.unbind(1)
    prior, size, aspect, shear, down, across = change[:, :SIX].unbind(1)
    slant = (f1 / f2 * torch.exp(aspect) + shear).clamp(-SLANT, SLANT)
    f0 = (f0 * torch.exp(size + aspect / 2)).clamp(WIDEST, SHARPEST)
    f2 = (f2 * torch.exp(size - aspect / 2)).clamp(WIDEST, SHARPEST)
    f1 = slant * f2
    below = down / f2
    centres = kernels.centres + torch.stack([(across - f1 * below) / f0, below], dim=1)
    return Kernels(
        centres=centres,
        factors=torch.stack([f0, f1, f2], dim=1),
        log_priors=(kernels.log_priors + prior).clamp(-PRIOR, PRIOR),
        colours=(kernels.colours + change[:, SIX:]).clamp(-COLOUR, COLOUR),
        change=change,
    )


def held(
    kernels: Kernels,
    size: tuple[int, int],  # width and height of the canvas, px
) -> Kernels:
    """With no centre far outside the canvas."""
    beyond = BEYOND * max(size)
    most = kernels.centres.new_tensor(size) + beyond
    return replace(kernels, centres=kernels.centres.clamp(min=-beyond).minimum(most))


def _new(packed: Packed) -> Kernels:
    shape = torch.from_numpy(packed.geometry)
    return Kernels(
        centres=torch.from_numpy(packed.centres.astype(np.float32)),
        factors=shape[:, :3].contiguous(),
        log_priors=shape[:, 3].contiguous(),
        colours=torch.from_numpy(packed.experts),
        change=shape.new_zeros(len(shape), CHANGE),
    )
