"""The exact mixture, dense and in plain torch: slow, readable, float64 able, and the oracle of every fast path."""

from __future__ import annotations

import torch
from torch import Tensor

from moesaic.mixture.model import Mixture

# axis letters: P points, N kernels, C channels


def logits(
    centres: Tensor,  # (N, 2), px
    factors: Tensor,  # (N, 3), 1/px
    log_priors: Tensor,  # (N,)
    points: Tensor,  # (P, 2), px
) -> Tensor:  # (P, N)
    """Log of prior times kernel: log_prior - |L^T (x - centre)|^2 / 2."""
    dx, dy = (points[:, None] - centres).unbind(-1)
    u = factors[:, 0] * dx + factors[:, 1] * dy
    v = factors[:, 2] * dy
    return log_priors - (u * u + v * v) / 2


def gates(mixture: Mixture, points: Tensor) -> Tensor:
    """The gates (P, N) at points (P, 2): a softmax over kernels, so each row sums to 1."""
    return torch.softmax(logits(mixture.centres, mixture.factors, mixture.log_priors, points), dim=-1)


def evaluate(mixture: Mixture, points: Tensor) -> Tensor:
    """The picture's values (P, C) at points (P, 2) in px of the canvas."""
    weights = gates(mixture, points)
    values = weights @ mixture.colours
    if mixture.slopes is not None:
        offsets = points[:, None] - mixture.centres  # (P, N, 2)
        values = values + torch.einsum("pn,pnd,ncd->pc", weights, offsets, mixture.slopes)
    return values


def pixel_points(
    size: tuple[int, int],  # (width, height) of the output, in its own pixels
    region: tuple[float, float, float, float],  # left, top, right, bottom, px of the canvas
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | None = None,
) -> Tensor:  # (H * W, 2)
    """Where the centres of the output's pixels lie on the canvas, row by row."""
    left, top, right, bottom = region
    x = left + (torch.arange(size[0], dtype=dtype, device=device) + 0.5) * ((right - left) / size[0])
    y = top + (torch.arange(size[1], dtype=dtype, device=device) + 0.5) * ((bottom - top) / size[1])
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([columns, rows], dim=-1).reshape(-1, 2)


def render(
    mixture: Mixture,
    *,
    size: tuple[int, int] | None = None,
    region: tuple[float, float, float, float] | None = None,
    chunk: int = 4096,
) -> Tensor:  # (C, H, W)
    """Draw the mixture by the definition, in the dtype of its tensors.

    Args:
        mixture: what to draw.
        size: (width, height) of the output; the canvas when None.
        region: (left, top, right, bottom) on the canvas, in px; the whole canvas when None.
        chunk: points evaluated at once; memory grows with chunk x kernels.

    Source: Bochinski et al. (ICIP 2018), equations of the softmax gate.
    """
    width, height = size or (mixture.width, mixture.height)
    box = region or (0.0, 0.0, float(mixture.width), float(mixture.height))
    points = pixel_points((width, height), box, dtype=mixture.dtype, device=mixture.device)
    values = torch.cat([evaluate(mixture, part) for part in points.split(chunk)])
    return values.T.reshape(mixture.channels, height, width)
