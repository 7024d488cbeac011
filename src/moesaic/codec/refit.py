"""Quantising a fitted mixture with the picture at hand: what is not yet rounded moves to make up for what is.

First the priors are rounded, and gradient steps adapt the rest; then the shapes, with feedback inside each kernel (see
`rounding`), and gradient steps adapt centres and colours; then the centres; at last the colours are solved in closed
form and rounded too. The gradient steps are divided by curvatures, with momentum: on a mixture that has been fitted
well they gain more in 15 rounds than Adam in 60, whose first steps are as long for settled numbers as for others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moesaic.codec.plan import Placed, place
from moesaic.codec.quantise import FINE, Steps, factors_of
from moesaic.codec.rounding import round_shapes
from moesaic.codec.sensitivity import curvatures
from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import Cover, cover
from moesaic.mixture.backends.threads import default_threads
from moesaic.mixture.colours import pack, solve_colours, unpack
from moesaic.mixture.model import Mixture

_MARGIN = 8.0  # nats, between logits, for the lists of kernels by tile
_RELIST = 8  # gradient steps between listings
_SHAPES, _CENTRES = (1, 2, 3), (4, 5)  # places among the six numbers of `sensitivity`
_RATE, _MOMENTUM, _DAMPING = 0.25, 0.85, 0.1  # of a step against curvature
_LEAP = 0.1  # the largest change in one step, in the units of the six numbers
_LEAST_MASS = 0.05  # px; ties down experts that hardly any pixel sees


def refit(
    mixture: Mixture,
    target: Tensor,  # (C, H, W), premultiplied, at the canvas's size
    steps: Steps,
    *,
    rounds: int = 30,
    threads: int | None = None,
    chunks: int | None = None,
) -> Placed:
    """Quantise a mixture so that its picture stays as close to the target as the steps allow.

    Args:
        mixture: a fit of the target.
        target: the picture.
        steps: the quantiser's steps.
        rounds: gradient steps after the shapes are rounded, and half as many before; 0 only rounds, with feedback, and
            solves the colours.
        threads: of the CPU backend; as many as the process may use when None. Does not change the result.
        chunks: see `place`.

    Raises:
        ArgumentError: the mixture is empty or cannot be stored, or a step is out of range.
        ShapeError: the target does not fit the mixture.
    """
    steps.check()
    wanted = (mixture.channels, mixture.height, mixture.width)
    if not len(mixture):
        raise ArgumentError("a mixture without kernels has no picture and cannot be stored")
    if tuple(target.shape) != wanted:
        raise ShapeError(f"the target has shape {tuple(target.shape)}, the mixture's picture has {wanted}")
    pixels = target.detach().cpu().float().contiguous().numpy()
    threads = threads or default_threads()
    moving = mixture.detach().to(device="cpu", dtype=torch.float32)
    if rounds:
        moving = replace(moving, log_priors=_rounded_priors(moving.log_priors, steps))
        moving = _descend(moving, pixels, -(-rounds // 2), _SHAPES + _CENTRES, threads)
        moving = _descend(_shaped(moving, steps, threads), pixels, rounds, _CENTRES, threads)
        placed = place(moving, steps, chunks=chunks)
    else:
        placed = place(moving, steps, chunks=chunks, curvature=curvatures(moving, threads=threads))
    return placed.recoloured(solve_colours(placed.mixture(), target, steps=10))


def _rounded_priors(priors: Tensor, steps: Steps) -> Tensor:
    middle = priors.sort().values[(len(priors) - 1) // 2]
    step = steps.prior / FINE
    return torch.round((priors - middle) / step) * step


def _shaped(mixture: Mixture, steps: Steps, threads: int) -> Mixture:
    """The mixture with shapes and priors rounded, and centres where that wants them."""
    rounded = round_shapes(mixture, steps, curvatures(mixture, threads=threads))
    shapes = rounded.shapes
    factors = factors_of(shapes["size"], shapes["aspect"], shapes["shear"], steps)
    return replace(
        mixture,
        factors=torch.from_numpy(factors.astype(np.float32)),
        log_priors=torch.from_numpy((shapes["prior"] * (steps.prior / FINE)).astype(np.float32)),
        centres=torch.from_numpy(rounded.centres.astype(np.float32)),
    )


def _descend(
    mixture: Mixture,
    target: NDArray[np.float32],  # (C, H, W)
    rounds: int,
    free: tuple[int, ...],  # which of the six numbers of `sensitivity` may move; experts always do
    threads: int,
) -> Mixture:
    """Gradient steps with momentum, each number's step divided by its own curvature."""
    packed = pack(mixture)
    packed = replace(
        packed, centres=packed.centres.copy(), geometry=packed.geometry.copy(), experts=packed.experts.copy()
    )
    height, width = target.shape[1:]
    diagonal = np.einsum("nii->ni", curvatures(mixture, threads=threads))
    scale = np.zeros_like(diagonal)
    bent = (1 + _DAMPING) * diagonal + _DAMPING * diagonal.mean(axis=0) + 1e-6
    scale[:, free] = 1 / bent[:, free]
    speed, expert_speed = np.zeros_like(scale), np.zeros(packed.experts.shape)
    for count in range(rounds):
        if count % _RELIST == 0:
            listed = cover(packed.centres, packed.geometry, width, height, _MARGIN, threads)
        if count == 0:
            experts_scale = 1 / (_weights(packed, listed, threads) + _LEAST_MASS)
        slope = cpu.squared_error(packed, listed, target, threads)[1].astype(np.float64) / 2
        f0, f1, f2 = packed.geometry[:, :3].T.astype(np.float64)
        downhill = np.stack(
            [
                slope[:, 5],
                slope[:, 2] * f0 + slope[:, 3] * f1 + slope[:, 4] * f2,
                (slope[:, 2] * f0 + slope[:, 3] * f1 - slope[:, 4] * f2) / 2,
                slope[:, 3] * f2,
                (slope[:, 1] - slope[:, 0] * f1 / f0) / f2,
                slope[:, 0] / f0,
            ],
            axis=1,
        )
        speed = np.clip(_MOMENTUM * speed - _RATE * downhill * scale, -_LEAP, _LEAP)
        expert_speed = _MOMENTUM * expert_speed - _RATE * slope[:, 6:] * experts_scale
        _move(packed, speed)
        packed.experts[:] += expert_speed.astype(np.float32)
    return unpack(packed, width, height)


def _move(packed: cpu.Packed, by: NDArray[np.float64]) -> None:
    """Change the six numbers of each kernel, in place."""
    f0, f1, f2 = packed.geometry[:, :3].T.astype(np.float64)
    shear = f1 / f2 * np.exp(by[:, 2]) + by[:, 3]
    f0, f2 = f0 * np.exp(by[:, 1] + by[:, 2] / 2), f2 * np.exp(by[:, 1] - by[:, 2] / 2)
    f1 = shear * f2
    moving = by[:, :4].any()
    if moving:  # else the shapes stay on their steps, to the last bit
        packed.geometry[:] = np.stack([f0, f1, f2, packed.geometry[:, 3] + by[:, 0]], axis=1)
    down = by[:, 4] / f2
    packed.centres[:, 0] += by[:, 5] / f0 - f1 / f0 * down
    packed.centres[:, 1] += down


def _weights(packed: cpu.Packed, listed: Cover, threads: int) -> NDArray[np.float64]:  # (N, K)
    """A bound on the curvature of each expert: the area its gate owns, times squared offsets for slopes."""
    _, sums = cpu.forward(packed, listed, threads)
    ones = np.ones((packed.channels, *sums.shape), np.float32)
    owned = cpu.backward(packed, listed, np.zeros_like(ones), sums, ones, threads)[:, 6 : 6 + packed.channels]
    owned64 = np.maximum(owned.astype(np.float64), 0.0)
    if packed.order == 0:
        return owned64
    f0, f1, f2 = packed.geometry[:, :3].T.astype(np.float64)
    spread = np.stack([(f1 * f1 + f2 * f2) / (f0 * f2) ** 2, 1 / (f2 * f2)], axis=1)  # (N, 2), px^2
    slopes = (owned64[:, :, None] * spread[:, None]).reshape(len(owned64), -1)
    return np.concatenate([owned64, slopes], axis=1)
