"""An estimator without weights: noise, sharpness, the spectrum's end and the blocks of JPEG, each by its formula.

Each is measured on luma and mapped to [0, 1] by a fixed curve: the isotonic regression of true scores on what was
measured on training pictures (`benchmarks/estimator_curves.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from moesaic.mixture.noise import estimate_noise
from moesaic.upscale.analytic_curves import CURVES, SEVERITY, TYPICAL, WEIGHTS
from moesaic.upscale.pieces import checked, spread
from moesaic.upscale.scores import Scores
from moesaic.upscale.truth import NAMES
from moesaic.upscale.typical import Typical

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Array = NDArray[np.float64]

MEASURES = ("noise", "blur", "jpeg", "resolution")
BANDS = 4  # of the spectrum, each an octave
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_WHITE = (0.8895, 0.2006, 0.0857, 0.0417)
"""Deviation of each band for white noise of 1; a test measures them."""
_FLOOR = 0.1  # levels of 255, below which a band counts as empty


class Analytic:
    """The estimator; it computes on the CPU."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is scored, in the order of the values."""
        return NAMES

    @property
    def identity(self) -> str:
        """Kind and version."""
        return "analytic:1"

    def __call__(
        self,
        pictures: Tensor,  # (B, 3, H, W), float32 in [0, 1]
    ) -> Scores:
        """The scores of pictures, on their device; of more than 1.6 megapixels, of 16 pieces of 320 px.

        Raises:
            ShapeError: another shape than (B, 3, H, W), or sides below 8 px.
            ArgumentError: no tensor of floats, or values that are no finite numbers.
        """
        return self.of_pieces(spread(checked(pictures)))

    def of_pieces(self, pieces: Sequence[Tensor]) -> Scores:
        """The scores of pictures of which `moesaic.upscale.pieces.spread` has taken these, each (B, 3, h, w)."""
        home, measured = pieces[0].device, _mean(pieces)
        columns = [np.interp(measured[:, place], *CURVES[name]) for place, name in enumerate(NAMES)]
        values = np.stack(columns, axis=1)
        severity = np.interp(values @ np.array(WEIGHTS), *SEVERITY)
        return Scores(
            names=NAMES,
            values=torch.from_numpy(values).float().to(home),
            severity=torch.from_numpy(severity).float().to(home),
        )

    def at(self, severity: float) -> Scores:
        """What this estimator says of the mean training picture of that severity; B is 1.

        Raises:
            ArgumentError: the severity is no number in [0, 1].
        """
        return Typical(NAMES, TYPICAL).at(severity)


def measure(
    x: Tensor,  # (B, 3, H, W), in [0, 1]
) -> Array:  # (B, 4), see `MEASURES`
    """What the curves map: the mean over the pieces that are looked at.

    - noise: its deviation, levels of 255, by `moesaic.mixture.noise.estimate_noise`.
    - blur: how much weaker the finest band of the spectrum is than the next, as a logarithm, without the noise.
    - jpeg: how much steeper the steps between blocks are than those within, in the grid of 8 px that fits best.
    - resolution: the same as blur of the second band and the third.
    """
    return _mean(spread(x))


def _mean(pieces: Sequence[Tensor]) -> Array:  # (B, 4)
    """What `measure` gives, of the pieces."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=pieces[0].device).view(1, 3, 1, 1)
    rows: list[Array] = []
    for piece in pieces:
        luma = 255 * (piece * weights).sum(1, keepdim=True).cpu()
        noise = np.array([estimate_noise(one.numpy() / 255) for one in luma])
        bands = _bands(luma)
        clean = bands.square() - (torch.tensor(noise)[:, None] * torch.tensor(_WHITE)).square()
        levels = (clean.clamp_min(_FLOOR**2) / 2).log().numpy()
        rows.append(np.stack([noise, levels[:, 1] - levels[:, 0], _blocks(luma), levels[:, 2] - levels[:, 1]], axis=1))
    mean: Array = np.mean(rows, axis=0)
    return mean


def _bands(
    luma: Tensor,  # (B, 1, H, W), levels
) -> Tensor:  # (B, BANDS), float64, the deviation in each octave, the finest first
    taps = torch.tensor(_BINOMIAL)
    kernel = (taps[:, None] * taps)[None, None]
    found = []
    for octave in range(BANDS):
        step = 2**octave  # holes in the kernel, for an octave without a smaller picture (a trous)
        reach = 2 * step
        wide = F.pad(luma, (reach, reach, reach, reach), mode="replicate")
        smooth = F.conv2d(wide, kernel, dilation=step)
        found.append((luma - smooth).double().square().mean((1, 2, 3)).sqrt())
        luma = smooth
    return torch.stack(found, 1)


def _blocks(
    luma: Tensor,  # (B, 1, H, W)
) -> Array:  # (B,)
    """The excess of steps at the best of the 8 phases over the others, in both directions, as a share of all steps."""
    found = np.zeros(len(luma))
    for axis in (2, 3):
        steps = luma.diff(dim=axis).abs().movedim(axis, -1)  # (B, 1, L, N)
        if steps.shape[-1] < 16:
            continue
        around = (steps[..., :-2] + steps[..., 2:]) / 2
        excess = (steps[..., 1:-1] - around).mean((1, 2))  # (B, N - 2)
        whole = excess[:, : excess.shape[1] // 8 * 8].unflatten(1, (-1, 8)).mean(1)  # (B, 8)
        best = whole.amax(1) - whole.median(1).values
        found += (best / (steps.mean((1, 2, 3)) + 0.5)).double().numpy() / 2
    return found
