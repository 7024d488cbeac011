"""Colours in closed form: with the gates fixed, a picture is linear in its experts, so they are least squares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover, cover, exact_margin
from moesaic.mixture.backends.gram import Gram, gram, room
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.model import Mixture
from moesaic.mixture.render import check

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_ROOM = 2**26  # numbers that products of gates may hold, 256 MiB: 10,000 kernels of a small picture hold 2**21


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

    normal = _normal(packed, listed, target, threads)
    experts = packed.experts.astype(np.float64)
    residual = normal.downhill()
    scale = 1.0 / (normal.diagonal() + damping)
    direction = scale * residual
    power = float((residual * direction).sum())
    for _ in range(steps):
        if power <= 0.0:
            break
        along = normal.times(direction.astype(np.float32)) + damping * direction
        curvature = float((direction * along).sum())
        if curvature <= 0.0:
            break
        experts += power / curvature * direction
        residual -= power / curvature * along
        towards = scale * residual
        power, before = float((residual * towards).sum()), power
        direction = towards + power / before * direction
    return experts.astype(np.float32)


class _Normal(Protocol):
    """The normal equations W^T W m = W^T y of a picture y that is linear in its experts m."""

    def times(self, experts: Floats) -> Doubles:
        """W^T W times experts (N, K)."""

    def downhill(self) -> Doubles:
        """W^T (y - W m) with the experts as they are, (N, K)."""

    def diagonal(self) -> Doubles:
        """A bound on the rows of W^T W, (N, K): sum over pixels of the gate (times offsets squared for slopes)."""


def _normal(packed: cpu.Packed, listed: Cover, target: Floats, threads: int) -> _Normal:
    if packed.order == 0 and room(listed) <= _ROOM:
        return _Shared(packed, gram(packed, listed, target, threads), threads)
    return _Drawn(packed, listed, target, threads)


@dataclass(frozen=True, slots=True)
class _Shared:
    """For constant experts: the products of gates are few enough to be kept."""

    packed: cpu.Packed
    gram: Gram
    threads: int

    def times(self, experts: Floats) -> Doubles:
        return self.gram.times(experts, self.threads)

    def downhill(self) -> Doubles:
        return self.gram.towards - self.times(self.packed.experts)

    def diagonal(self) -> Doubles:
        return self.gram.mass(self.threads)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """For all experts: pixels are drawn and compared each time."""

    packed: cpu.Packed
    listed: Cover
    target: Floats  # (C, H, W)
    threads: int

    def times(self, experts: Floats) -> Doubles:
        return self._off(self.packed.with_experts(experts), np.zeros_like(self.target))

    def downhill(self) -> Doubles:
        return -self._off(self.packed, self.target)

    def diagonal(self) -> Doubles:
        packed = self.packed
        ones = replace(packed, experts=np.ones((len(packed.centres), 1), np.float32), channels=1, order=0)
        mass = self._off(ones, np.zeros_like(self.target[:1]))
        mass = np.repeat(np.maximum(mass, 0.0), packed.channels, axis=1)
        if packed.order == 0:
            return mass
        f0, f1, f2 = (packed.geometry[:, k].astype(np.float64) for k in range(3))
        variance = np.stack([(f1 * f1 + f2 * f2) / (f0 * f2) ** 2, 1.0 / (f2 * f2)], axis=1)  # (N, 2), px^2
        return np.concatenate([mass, (mass[:, :, None] * variance[:, None, :]).reshape(len(mass), -1)], axis=1)

    def _off(self, packed: cpu.Packed, wanted: Floats) -> Doubles:
        """The transpose of drawing, of what is drawn less what is wanted."""
        return cpu.squared_error(packed, self.listed, wanted, self.threads)[1][:, 6:].astype(np.float64) / 2
