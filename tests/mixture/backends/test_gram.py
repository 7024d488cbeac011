"""Products of gates: those of the definition, on every canvas, in steep and deep tiles, and for any threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.mixture import reference
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.gram import gram, room
from moesaic.mixture.backends.layout import DEEP, STEEP
from moesaic.mixture.backends.loops import depth
from moesaic.mixture.colours import pack

SIZES = [(1, 1), (40, 5), (16, 16), (37, 21), (50, 33)]  # px, width and height; tiles are 16 px wide
AROUND = (-15.0, -12.0, 60.0, 45.0)  # px: a box that reaches beyond every canvas


def gates_of(mixture):
    points = reference.pixel_points((mixture.width, mixture.height), (0, 0, mixture.width, mixture.height))
    return reference.gates(mixture, points).numpy()  # (P, N)


def found_of(mixture, *, channels=3, threads=1, seed=0):
    """The products, a target, and how deep the deepest tile is."""
    packed = pack(mixture.to(dtype=torch.float32))
    listed = cover(packed.centres, packed.geometry, mixture.width, mixture.height, exact_margin(len(mixture)), threads)
    target = np.random.default_rng(seed).random((channels, mixture.height, mixture.width), dtype=np.float32)
    deepest = max(depth(t, cpu.work(packed, listed)) for t in range(len(listed.bars)))
    return gram(packed, listed, target, threads), target, deepest


def check(mixture, *, channels=3):
    found, target, deepest = found_of(mixture, channels=channels)
    gates = gates_of(mixture)
    some = np.random.default_rng(1).standard_normal((len(mixture), channels)).astype(np.float32)
    for got, wanted in (
        (found.times(some, 1), gates.T @ (gates @ some)),
        (found.towards, gates.T @ target.reshape(channels, -1).T),
        (found.mass(1), np.repeat(gates.sum(axis=0)[:, None], channels, axis=1)),
    ):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
    return deepest


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_equals_the_definition(scatter, size, channels):
    check(scatter(30, *size, channels=channels, box=AROUND), channels=channels)


@pytest.mark.parametrize("kernels", [1, 2, 15, 16, 17, 130])
def test_any_number_of_kernels(scatter, kernels):
    check(scatter(kernels, 37, 21))


def test_kernels_that_are_far_from_here(scatter):
    mixture = scatter(9, 40, 30)
    mixture.centres[4] += 10_000.0
    check(mixture)
    assert not found_of(mixture)[0].mass(1)[4].any()


def test_steep_and_deep_tiles(scatter):
    deepest = [check(scatter(25, 50, 33, sigmas=(s, 2 * s), prior=4.0, box=(0, 0, 20, 33))) for s in (1.5, 0.6)]
    assert STEEP < deepest[0] < DEEP < deepest[1]


def test_one_kernel_owns_all(scatter):
    mixture = replace(scatter(1, 37, 21), log_priors=torch.tensor([80.0], dtype=torch.float64))
    found, target, _ = found_of(mixture)
    assert found.times(np.ones((1, 3), np.float32), 1) == pytest.approx(37 * 21)
    np.testing.assert_allclose(found.towards[0], target.sum(axis=(1, 2)), rtol=1e-5)


def test_threads_change_no_bit(scatter):
    mixture = scatter(200, 150, 90, seed=3)
    one, four = (found_of(mixture, threads=n)[0] for n in (1, 4))
    some = np.random.default_rng(2).random((200, 3), dtype=np.float32)
    assert np.array_equal(one.towards, four.towards)
    assert np.array_equal(one.shared, four.shared)
    assert np.array_equal(one.times(some, 1), four.times(some, 4))


def test_room_is_what_the_matrices_take(scatter):
    mixture = scatter(40, 37, 21)
    found, _, _ = found_of(mixture)
    assert room(found.listed) == found.shared.size >= 40 * 40
