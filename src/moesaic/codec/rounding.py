"""Geometry to integers: each number to its nearest step, the later ones making up for the errors of the earlier.

The six numbers of a kernel are rounded in the order of `sensitivity`: prior, size, aspect, shear, and then, by the tree
of positions, y and x. Without curvatures, only what geometry alone says is made up for: shear for aspect, x for y.

Source: rounding with feedback is Babai's nearest plane; for neural networks, Frantar et al. (arXiv 2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.codec.quantise import FINE, OCTAVES, PRIOR_MOST, SHEAR_MOST, Floats, Steps, nearest
from moesaic.errors import ArgumentError

if TYPE_CHECKING:
    from moesaic.codec.entropy import Ints
    from moesaic.mixture.model import Mixture

_DAMPING = 1.0  # of the diagonal: how little the quadratic model is trusted across parameters (1 was best on Kodak)
_MOVE = 1.0  # steps by which rounding the others may move a number


@dataclass(frozen=True, slots=True)
class Rounded:
    """Shapes and priors in steps, and where centres should go now."""

    shapes: dict[str, Ints]  # size, aspect, shear, prior: (N,) each
    centres: Floats  # (N, 2), px
    across_for_down: Floats  # (N,), px that x should move for each px that y is moved


def round_shapes(mixture: Mixture, steps: Steps, curvature: Floats | None = None) -> Rounded:
    """Round priors and shapes, with feedback when `curvature` (N, 6, 6) of `sensitivity.curvatures` is given.

    Raises:
        ArgumentError: a parameter is not finite, or a factor is singular.
    """
    finite = all(bool(torch.isfinite(t).all()) for t in mixture._tensors().values())
    xx, yx, yy = mixture.factors.detach().cpu().double().numpy().T
    if not finite or not (xx * yy).all():
        raise ArgumentError("a mixture with parameters that are not finite, or with singular factors, cannot be stored")
    low, high = 2.0**-OCTAVES, 2.0**OCTAVES
    across, down = np.clip(np.abs(xx), low, high), np.clip(np.abs(yy), low, high)
    priors = mixture.log_priors.detach().cpu().double().numpy()
    middle = np.sort(priors)[(len(priors) - 1) // 2]  # only differences matter; one kernel's own, so that it is kept
    values = np.stack(
        [
            priors - middle,
            np.log(across * down) / 2,
            np.log(across / down),
            np.clip(yx * np.sign(xx) / np.abs(yy), -SHEAR_MOST, SHEAR_MOST),
            np.zeros_like(xx),
            np.zeros_like(xx),
        ],
        axis=1,
    )
    octave = log(2) / FINE
    units = np.array([1 / FINE, octave, octave, 1 / FINE])
    names, sizes = ("prior", "size", "aspect", "shear"), (steps.prior, steps.size, steps.aspect, steps.shear)
    mosts = (PRIOR_MOST * FINE, OCTAVES * FINE, OCTAVES * FINE, SHEAR_MOST * FINE)
    step = np.array([*(units * sizes), *[2.0 ** (steps.position / FINE)] * 2])
    shapes = {}
    for i, (name, size, most) in enumerate(zip(names, sizes, mosts, strict=True)):
        limit = int(most) // size
        shapes[name] = np.clip(nearest(values[:, i] / step[i]), -limit, limit)
        error = shapes[name] * step[i] - values[:, i]
        if name == "aspect":
            values[:, 3] *= np.exp(np.clip(error, -1, 1))  # l_yx / l_xx stays
        if curvature is not None:
            rest = slice(i + 1, None)
            values[:, rest] += np.clip(_answer(curvature, i, error), -_MOVE * step[rest], _MOVE * step[rest])
    ratio = np.exp(shapes["aspect"] * step[2])  # l_xx / l_yy
    extent = np.exp(-shapes["size"] * step[1])
    lean = -shapes["shear"] * step[3] / ratio  # -l_yx / l_xx: keeps L^T (x - centre) along x as it is
    moved = values[:, 4] * extent * np.sqrt(ratio)
    centres = mixture.centres.detach().cpu().double().numpy().copy()
    centres[:, 0] += values[:, 5] * extent / np.sqrt(ratio) + lean * moved
    centres[:, 1] += moved
    if curvature is not None:
        lean += _answer(curvature[:, 4:, 4:], 0, np.ones(len(lean)))[:, 0] / ratio
    return Rounded(shapes, centres, lean)


def _answer(curvature: Floats, i: int, error: Floats) -> Floats:  # (N, 5 - i)
    """How the numbers after the i-th best move when that one is off by `error`."""
    rest = curvature[:, i + 1 :, i + 1 :]
    diagonal = np.einsum("nii->ni", rest)
    damped = rest + np.eye(rest.shape[1]) * (_DAMPING * diagonal + 1e-9)[:, None]
    found: Floats = -np.linalg.solve(damped, curvature[:, i + 1 :, i : i + 1] * error[:, None, None])[..., 0]
    return found
