"""Curvatures by moments, in lanes: those of the plain formula, pixel by pixel, for the same lists of kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.codec import sensitivity
from moesaic.codec.sensitivity import curvatures
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.backends.layout import DEEP, STEEP, TILE
from moesaic.mixture.backends.loops import depth
from moesaic.mixture.colours import pack

SIZES = [(1, 1), (5, 40), (16, 16), (33, 20), (70, 49)]  # px, width and height; tiles are 16 px wide
SPREAD = [0.0, 1.0, 30.0, 300.0, 3000.0]  # nats, about twice the priors' standard deviation
NOTICED = 1e-4  # of a colour from the picture's, below which float32 does not know it well enough


def listing(mixture):
    packed = pack(mixture)
    listed = cover(packed.centres, packed.geometry, mixture.width, mixture.height, sensitivity._MARGIN, 1)
    work = cpu.work(packed, listed)
    return packed, listed, np.array([depth(t, work) for t in range(len(listed.bars))])


def plain(mixture):
    """H, what colours make up for, and the size of H's numbers, in float64; deep tiles have nothing."""
    packed, listed, spans = listing(mixture)
    n, c = len(mixture), mixture.channels
    full, shared, mass = np.zeros((n, 6, 6)), np.zeros((n, c, 6)), np.zeros(n)
    size = np.zeros((n, 6))
    geometry, experts = packed.geometry.astype(np.float64), packed.experts.astype(np.float64)
    for t in np.flatnonzero(spans <= DEEP):
        up, left = t // listed.columns * TILE, t % listed.columns * TILE
        y, x = np.mgrid[up : min(up + TILE, mixture.height), left : min(left + TILE, mixture.width)]
        x, y = x.reshape(-1, 1), y.reshape(-1, 1)
        pairs = slice(listed.tile_start[t], listed.tile_start[t + 1])
        js, rows = listed.tile_kernel[pairs], listed.tile_rows[pairs].astype(int)
        d = np.stack([x + 0.5 - packed.centres[js, 0], y + 0.5 - packed.centres[js, 1]], -1)  # (P, K, 2)
        f0, f1, f2, prior = geometry[js].T
        u, v = f0 * d[..., 0] + f1 * d[..., 1], f2 * d[..., 1]
        reached = (rows[:, 0] <= y - up) & (y - up < rows[:, 1])
        logits = np.where(reached, prior - (u * u + v * v) / 2, -np.inf)
        gates = np.exp(logits - logits.max(1, keepdims=True))
        gates /= gates.sum(1, keepdims=True)
        m = np.broadcast_to(experts[js, :c], (*gates.shape, c))
        if mixture.order:
            m = m + np.einsum("kcd,pkd->pkc", experts[js, c:].reshape(-1, c, 2), d)
        gaps = m - np.einsum("pk,pkc->pc", gates, m)[:, None]
        phi = np.stack([np.ones_like(u), -(u * u + v * v), (v * v - u * u) / 2, -u * v, v, u], -1)
        squares = gates * gates
        far = (gaps * gaps).sum(-1)
        full[js] += np.einsum("pk,pki,pkj->kij", squares * far, phi, phi)
        size[js] += np.einsum("pk,pki->ki", squares * (far + NOTICED**2), phi * phi)
        shared[js] += np.einsum("pk,pkc,pki->kci", squares, gaps, phi)
        mass[js] += squares.sum(0)
    made_up = np.einsum("nci,ncj->nij", shared, shared) / (mass[:, None, None] + sensitivity._DAMPING)
    return full, made_up, np.sqrt(size)


def check(mixture, share=2e-5):
    """Equal to a share of the size of each two numbers, or to less of that of a kernel's largest."""
    found, (full, made_up, size) = curvatures(mixture, threads=1), plain(mixture)
    assert np.isfinite(found).all()
    assert np.array_equal(found, found.transpose(0, 2, 1))
    size = np.maximum(size, 0.1 * size.max(1, keepdims=True))
    allowed = share * size[:, :, None] * size[:, None, :] + 1e-20  # weights that small are zero in float32
    off = np.abs(found - (full - made_up))
    assert np.all(off <= allowed), (off / allowed).max()


def slender(mixture, seed=0):
    """The same with needles and blankets in every direction."""
    random = np.random.default_rng(seed)
    angle = random.uniform(0, np.pi, len(mixture))
    sharp = np.exp(-random.uniform(np.log(0.2), np.log(40.0), (len(mixture), 2)))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(-1, 2, 2)
    lower = np.linalg.cholesky(turn @ (sharp[:, :, None] ** 2 * np.eye(2)) @ turn.transpose(0, 2, 1))
    factors = np.stack([lower[:, 0, 0], lower[:, 1, 0], lower[:, 1, 1]], 1)
    return replace(mixture, factors=torch.from_numpy(factors.astype(np.float32)))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_they_are_those_of_the_plain_formula(make_mixture, size, channels, order):
    width, height = size
    check(make_mixture(25, width=width, height=height, channels=channels, order=order, seed=channels))


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("spread", SPREAD)
@pytest.mark.parametrize("seed", range(3))
def test_so_they_are_for_wild_kernels(make_mixture, seed, spread, order):
    """Needles and blankets, with priors that rule whole regions."""
    mixture = slender(make_mixture(40, width=70, height=49, order=order, seed=seed), seed)
    check(replace(mixture, log_priors=spread * mixture.log_priors))


def test_wild_kernels_make_tiles_of_every_kind(make_mixture):
    spans = []
    for spread in SPREAD:
        mixture = slender(make_mixture(40, width=70, height=49))
        spans += [*listing(replace(mixture, log_priors=spread * mixture.log_priors))[2]]
    assert min(spans) <= STEEP < np.median([s for s in spans if STEEP < s <= DEEP]) <= DEEP < max(spans)


def test_where_one_kernel_rules_far_off_there_is_no_curvature(make_mixture):
    mixture = make_mixture(2, width=64, height=16)
    mixture = replace(
        mixture,
        centres=torch.tensor([[4.0, 8.0], [8.0, 8.0]]),
        factors=torch.tensor([[5.0, 0.0, 5.0], [4.0, 1.0, 5.0]]),
        log_priors=torch.tensor([900.0, 2000.0]),
    )
    assert (listing(mixture)[2] > DEEP).all()
    assert not curvatures(mixture).any()


def test_kernels_that_no_pixel_sees_have_none(make_mixture):
    mixture = make_mixture(20)
    mixture.centres[3] += 10_000.0
    found = curvatures(mixture)
    assert not found[3].any()
    assert found[4].any()


@pytest.mark.parametrize("scale", [1e-5, 1e5, 1e12])
def test_extreme_sizes_stay_finite(make_mixture, scale):
    """Between pixels, and at the middle of one, where a kernel reaches its row however small it is."""
    mixture = make_mixture(12, order=1)
    mixture.factors[::2] *= scale
    mixture.centres[::4] = mixture.centres[::4].floor() + 0.5
    assert np.isfinite(curvatures(mixture)).all()


@pytest.mark.parametrize("threads", [2, 5, 70])
def test_threads_do_not_change_a_bit(make_mixture, threads):
    mixture = slender(make_mixture(60, order=1))
    assert np.array_equal(curvatures(mixture, threads=threads), curvatures(mixture, threads=1))


def test_one_kernel_does_not_bend_the_picture(make_mixture):
    assert np.abs(curvatures(make_mixture(1))).max() < 1e-6
