"""Colours in closed form: with the gates fixed, a picture is linear in its experts, so they are least squares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover, cover, exact_margin
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.model import Mixture
from moesaic.mixture.render import check


def solve_colours(
    mixture: Mixture,
    target: Tensor,  # (C, H, W), at the canvas's size
    *,
    steps: int = 10,
    damping: float = 0.05,
) -> Mixture:
    """The same kernels with the colours (and slopes) that bring the picture closest to the target.

    Minimises |W m - y|^2 + damping |m - m_0|^2 over the experts m, where W holds the gates, from the mixture's own
    experts m_0 by conjugate gradients with a diagonal preconditioner; each step costs a render and its transpose.
    The damping, in pixels of weight, ties down kernels that hardly any pixel sees.

    Raises:
        ShapeError: the target's shape is not (channels, height, width) of the mixture.
        ArgumentError: steps or damping is negative, or the mixture cannot be drawn.
    """
    if tuple(target.shape) != (mixture.channels, mixture.height, mixture.width):
        wanted = (mixture.channels, mixture.height, mixture.width)
        raise ShapeError(f"the target has shape {tuple(target.shape)}, the mixture's picture has {wanted}")
    if steps < 0 or damping < 0:
        raise ArgumentError(f"steps ({steps}) and damping ({damping}) must not be negative")
    check(mixture)
    still = mixture.detach().to(device="cpu", dtype=torch.float32)
    packed = pack(still)
    pixels = target.detach().cpu().float().contiguous().numpy()
    experts = solve(packed, pixels, steps=steps, damping=damping)
    solved = torch.from_numpy(experts).to(device=mixture.device, dtype=mixture.dtype)
    c = mixture.channels
    slopes = None if mixture.slopes is None else solved[:, c:].reshape(-1, c, 2)
    return replace(mixture, colours=solved[:, :c].contiguous(), slopes=slopes)


def pack(mixture: Mixture) -> cpu.Packed:
    """The arrays that the CPU loops read, at the canvas's own size."""
    experts = mixture.colours
    if mixture.slopes is not None:
        experts = torch.cat([experts, mixture.slopes.flatten(1)], dim=1)
    geometry = torch.cat([mixture.factors, mixture.log_priors[:, None]], dim=1)
    return cpu.Packed(
        mixture.centres.double().contiguous().numpy(),
        geometry.contiguous().numpy(),
        experts.contiguous().numpy(),
        mixture.channels,
        mixture.order,
    )


def unpack(packed: cpu.Packed, width: int, height: int) -> Mixture:
    """The mixture that such arrays hold, on a canvas of width x height px."""
    c = packed.channels
    experts = torch.from_numpy(packed.experts.copy())
    geometry = torch.from_numpy(packed.geometry.copy())
    return Mixture(
        centres=torch.from_numpy(packed.centres.astype(np.float32)),
        factors=geometry[:, :3].contiguous(),
        log_priors=geometry[:, 3].contiguous(),
        colours=experts[:, :c].contiguous(),
        slopes=experts[:, c:].reshape(-1, c, 2).contiguous() if packed.order else None,
        width=width,
        height=height,
    )


def solve(
    packed: cpu.Packed,
    target: np.ndarray,  # (C, H, W)
    *,
    steps: int,
    damping: float,
    margin: float | None = None,
    threads: int | None = None,
) -> np.ndarray:  # (N, K)
    """The experts that solve the damped least squares of `solve_colours`, in the arrays of the CPU backend."""
    threads = threads or default_threads()
    height, width = target.shape[1:]
    n = len(packed.centres)
    margin = exact_margin(n) if margin is None else margin
    listed = cover(packed.centres, packed.geometry, width, height, margin, threads)

    def towards_less(experts: np.ndarray, wanted: np.ndarray) -> np.ndarray:  # the transpose of drawing, of what is off
        there = packed.with_experts(experts)
        return cpu.squared_error(there, listed, wanted, threads)[1][:, 6:].astype(np.float64) / 2

    blank = np.zeros_like(target)
    experts = packed.experts.astype(np.float64)
    residual = -towards_less(packed.experts, target)
    scale = 1.0 / (_diagonal(packed, listed, threads) + damping)
    direction = scale * residual
    power = float((residual * direction).sum())
    for _ in range(steps):
        if power <= 0.0:
            break
        along = towards_less(direction.astype(np.float32), blank) + damping * direction
        curvature = float((direction * along).sum())
        if curvature <= 0.0:
            break
        experts += power / curvature * direction
        residual -= power / curvature * along
        towards = scale * residual
        power, before = float((residual * towards).sum()), power
        direction = towards + power / before * direction
    return experts.astype(np.float32)


def _diagonal(packed: cpu.Packed, listed: Cover, threads: int) -> np.ndarray:  # (N, K)
    """A bound on the normal matrix's rows, sum over pixels of the gate (times offsets squared for slopes)."""
    ones = replace(packed, experts=np.ones((len(packed.centres), 1), np.float32), channels=1, order=0)
    blank = np.zeros((1, listed.height, listed.width), np.float32)
    mass = cpu.squared_error(ones, listed, blank, threads)[1][:, 6:].astype(np.float64) / 2
    mass = np.repeat(np.maximum(mass, 0.0), packed.channels, axis=1)
    if packed.order == 0:
        return mass
    f0, f1, f2 = (packed.geometry[:, k].astype(np.float64) for k in range(3))
    variance = np.stack([(f1 * f1 + f2 * f2) / (f0 * f2) ** 2, 1.0 / (f2 * f2)], axis=1)  # (N, 2), px^2
    return np.concatenate([mass, (mass[:, :, None] * variance[:, None, :]).reshape(len(mass), -1)], axis=1)
