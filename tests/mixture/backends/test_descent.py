from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.mixture.backends import descent


def start(kernels, channels, order, seed=0):
    random = np.random.default_rng(seed)
    centres = random.uniform(0, 40, (kernels, 2))
    geometry = random.normal(0, 0.2, (kernels, 4)).astype(np.float32)
    geometry[:, [0, 2]] = random.uniform(0.1, 1.5, (kernels, 2))
    experts = random.uniform(size=(kernels, channels * (3 if order else 1))).astype(np.float32)
    return centres, geometry, experts


def moved(parameters, moves, channels):
    """Parameters after moves in the whitened frame, written as matrices."""
    centres, geometry, experts = parameters
    f0, f1, f2 = geometry[:, 0], geometry[:, 1], geometry[:, 2]
    zero = torch.zeros_like(f0)
    lower = torch.stack([f0, zero, f1, f2], dim=1).reshape(-1, 2, 2)
    new_centres = centres + torch.linalg.solve(lower.mT, moves[:, :2, None])[..., 0]
    stretch = torch.stack([moves[:, 2].exp(), moves[:, 3], zero, moves[:, 4].exp()], dim=1).reshape(-1, 2, 2)
    upper = stretch @ lower.mT
    new_geometry = torch.stack([upper[:, 0, 0], upper[:, 0, 1], upper[:, 1, 1], geometry[:, 3] + moves[:, 5]], dim=1)
    slopes = (lower[:, None] @ moves[:, 6 + channels :].reshape(len(f0), -1, 2, 1)).flatten(1)
    return new_centres, new_geometry, experts + torch.cat([moves[:, 6 : 6 + channels], slopes], dim=1)


FREE = {"sharpest": 1e3, "widest": 1e-6, "left": -1e6, "top": -1e6, "right": 1e6, "bottom": 1e6}
BOUNDS = {"sharpest": 5.0, "widest": 0.01, "left": -5.0, "top": -6.0, "right": 45.0, "bottom": 46.0}


def step(parameters, slope, rates=0.1, means=None, *, begin=0, end=None, count=1, channels=3, decay2=0.8, **bounds):
    centres, geometry, experts = parameters
    first, second = means or (np.zeros_like(slope), np.zeros_like(slope))
    descent.step(
        begin=begin,
        end=len(centres) if end is None else end,
        centres=centres,
        geometry=geometry,
        experts=experts,
        slope=slope,
        first=first,
        second=second,
        rates=np.broadcast_to(np.float32(rates), slope.shape[1:]).copy(),
        decay1=0.9,
        decay2=decay2,
        count=count,
        channels=channels,
        **(bounds or BOUNDS),
    )


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_equals_adam_in_the_whitened_frame(channels, order):
    kernels, steps = 5, 6
    centres, geometry, experts = start(kernels, channels, order)
    width = 6 + experts.shape[1]
    random = np.random.default_rng(1)
    rates = random.uniform(0.01, 0.3, width).astype(np.float32)
    first, second = np.zeros((kernels, width), np.float32), np.zeros((kernels, width), np.float32)
    parameters = tuple(torch.tensor(a, dtype=torch.float64) for a in (centres, geometry, experts))
    columns = [torch.zeros(kernels, 1, dtype=torch.float64, requires_grad=True) for _ in range(width)]
    adam = torch.optim.Adam(
        [{"params": [c], "lr": float(r)} for c, r in zip(columns, rates, strict=True)], betas=(0.9, 0.8), eps=1e-10
    )
    for count in range(1, steps + 1):
        slope = random.normal(size=(kernels, width)).astype(np.float32)
        adam.zero_grad()
        now = torch.cat(moved(parameters, torch.cat(columns, dim=1), channels), dim=1)
        (now * torch.tensor(slope, dtype=torch.float64)).sum().backward()
        adam.step()
        with torch.no_grad():
            parameters = moved(parameters, torch.cat(columns, dim=1), channels)
            for column in columns:
                column.zero_()
        step((centres, geometry, experts), slope, rates, (first, second), count=count, channels=channels, **FREE)
    for found, expected in zip((centres, geometry, experts), parameters, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_first_step_is_one_rate_against_the_gradient():
    parameters = start(4, 3, 0)
    before = parameters[2].copy()
    slope = np.ones((4, 9), np.float32)
    slope[:, 7] = -1e-4  # a small gradient makes the same step
    step(parameters, slope)
    np.testing.assert_allclose(parameters[2] - before, [[-0.1, 0.1, -0.1]] * 4, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.1, 10.0, 60.0])
def test_factors_stay_cholesky_factors_within_their_bounds(rate):
    for seed in range(5):
        parameters = start(50, 3, 0, seed)
        slope = np.random.default_rng(seed).normal(size=(50, 9)).astype(np.float32)
        step(parameters, slope, rate)
        diagonal = parameters[1][:, [0, 2]]
        assert np.all(diagonal >= np.float32(0.01))
        assert np.all(diagonal <= 5.0)
        assert np.all((parameters[0] >= [-5, -6]) & (parameters[0] <= [45, 46]))
        assert all(np.all(np.isfinite(a)) for a in parameters)


def test_moves_only_the_kernels_it_is_given():
    parameters, untouched = start(6, 3, 1), start(6, 3, 1)
    step(parameters, np.ones((6, 15), np.float32), begin=2, end=4)
    for a, b in zip(parameters, untouched, strict=True):
        changed = np.any(a != b, axis=1)
        assert changed.tolist() == [False, False, True, True, False, False]


def test_a_gradient_of_zero_moves_nothing():
    parameters, untouched = start(6, 3, 1), start(6, 3, 1)
    step(parameters, np.zeros((6, 15), np.float32))
    for a, b in zip(parameters, untouched, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
