"""Raw numbers of a kernel and what they stand for, both ways; zeros are the round kernel that a fit starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from moesaic.mixture.start import WIDTH

if TYPE_CHECKING:
    from torch import Tensor

SHIFT, SHAPE, PRIOR, COLOUR = slice(0, 2), slice(2, 5), slice(5, 6), slice(6, 9)
RAW = 9
"""Numbers of a kernel: where it moves, its shape, its log prior, and what is added to the colour of its place."""

FIELDS = {"shift": SHIFT, "shape": SHAPE, "prior": PRIOR, "colour": COLOUR}

FARTHEST = 2.0  # spacings that a kernel may move along an axis
SHARPEST, WIDEST = 5.0, 1e-3  # 1/px, of a factor's diagonal: what a fit allows, and what a render needs
_SHAPE, _PRIOR = 2.5, 6.0  # largest numbers of the logarithms of sharpness and prior


class Geometry(NamedTuple):
    """What gates are made of, in the terms of `moesaic.mixture.Mixture`."""

    centres: Tensor  # (N, 2), px
    factors: Tensor  # (N, 3), 1/px
    log_priors: Tensor  # (N,)


def geometry(
    raw: Tensor,  # (N, RAW)
    places: Tensor,  # (N, 2), px
    spacing: Tensor,  # (N,), px, to the neighbours
) -> Geometry:
    """Kernels around their places.

    The shape is the exponential of a symmetric 2x2 matrix M, the logarithm of the sharpness: the precision is
    exp(2 M) / sigma^2, with the sigma of `moesaic.mixture.start`. Turning or mirroring a picture turns M, without a
    seam, and M = 0 is round.
    """
    centres = places + spacing[:, None] * _bounded(raw[:, SHIFT], FARTHEST)
    a, b, c = _bounded(raw[:, SHAPE], _SHAPE).unbind(1)
    mean, half = (a + c) / 2, (a - c) / 2
    r = (half * half + b * b + 1e-12).sqrt()
    cosine, sine = torch.cosh(2 * r), torch.sinh(2 * r) / r
    sharp = torch.exp(2 * mean) / (WIDTH * spacing) ** 2  # the root of the precision's determinant
    l_xx = (sharp * (cosine + sine * half)).sqrt()
    l_yx = sharp * sine * b / l_xx
    l_yy = sharp / l_xx
    diagonal = [l.clamp(WIDEST, SHARPEST) for l in (l_xx, l_yy)]  # noqa: E741 - as in the formula
    factors = torch.stack([diagonal[0], l_yx, diagonal[1]], dim=1)
    return Geometry(centres, factors, _bounded(raw[:, PRIOR], _PRIOR)[:, 0])


def raw_of(
    found: Geometry,
    places: Tensor,  # (N, 2), px
    spacing: Tensor,  # (N,), px
) -> Tensor:  # (N, 6), all but the colour
    """The numbers that give these kernels, as near as their bounds allow; `geometry`'s inverse."""
    shift = _unbounded((found.centres - places) / spacing[:, None], FARTHEST)
    l_xx, l_yx, l_yy = found.factors.unbind(1)
    sigma = WIDTH * spacing
    p_xx, p_xy, p_yy = (value * sigma**2 for value in (l_xx * l_xx, l_xx * l_yx, l_yx * l_yx + l_yy * l_yy))
    mean, half = (p_xx + p_yy) / 2, (p_xx - p_yy) / 2
    r = (half * half + p_xy * p_xy).sqrt()
    trace = (l_xx * l_yy * sigma**2).clamp_min(1e-20).log()  # of M: the root of the determinant of exp(2 M)
    length = torch.atanh((r / mean).clamp(max=1 - 1e-7)) / 2  # r of M
    direction = length / r.clamp_min(1e-12)
    shape = torch.stack([trace / 2 + direction * half, direction * p_xy, trace / 2 - direction * half], dim=1)
    prior = _unbounded(found.log_priors[:, None], _PRIOR)
    return torch.cat([shift, _unbounded(shape, _SHAPE), prior], dim=1)


def _bounded(value: Tensor, most: float) -> Tensor:
    return most * torch.tanh(value / most)


def _unbounded(value: Tensor, most: float) -> Tensor:
    return most * torch.atanh((value / most).clamp(-0.999, 0.999))
