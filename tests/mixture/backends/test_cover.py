from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.backends.layout import TILE
from moesaic.mixture.colours import pack


def arrays(mixture):
    packed = pack(mixture.to(dtype=torch.float32))
    return packed.centres, packed.geometry


def all_logits(centres, geometry, width, height):
    """Every kernel's logit at every pixel, (H, W, N) in float64."""
    y, x = np.mgrid[:height, :width] + 0.5
    dx, dy = x[..., None] - centres[:, 0], y[..., None] - centres[:, 1]
    f0, f1, f2, prior = geometry.astype(np.float64).T
    return prior - ((f0 * dx + f1 * dy) ** 2 + (f2 * dy) ** 2) / 2


def check_lists(listed, kernels):
    """The two orders of the pairs agree, and everything lies within bounds."""
    columns, rows = -(-listed.width // TILE), -(-listed.height // TILE)
    pairs = len(listed.pair_kernel)
    assert listed.columns == columns
    assert listed.bars.shape == (columns * rows,)
    assert listed.pair_rows.shape == (pairs, 2)
    assert listed.kernel_start[0] == listed.tile_start[0] == 0
    assert listed.kernel_start[-1] == listed.tile_start[-1] == pairs
    assert np.array_equal(listed.pair_kernel, np.repeat(np.arange(kernels), np.diff(listed.kernel_start)))
    assert np.array_equal(np.sort(listed.tile_pairs), np.arange(pairs))
    for tile, (a, b) in enumerate(zip(listed.tile_start[:-1], listed.tile_start[1:], strict=True)):
        inside = listed.tile_pairs[a:b]
        assert np.all(np.diff(listed.pair_kernel[inside]) > 0)  # in order, each once
        tall = min(TILE, listed.height - tile // columns * TILE)
        first, last = listed.pair_rows[inside].T
        assert np.all(first < last)
        assert np.all(last <= tall)


def check_against_brute_force(listed, centres, geometry, margin):
    logits = all_logits(centres, geometry, listed.width, listed.height)
    best = logits.max(-1)
    needed = logits >= best[..., None] - margin
    for tile in range(len(listed.bars)):
        top, left = tile // listed.columns * TILE, tile % listed.columns * TILE
        part = (slice(top, top + TILE), slice(left, left + TILE))
        assert listed.bars[tile] <= best[part].min()
        here = np.zeros_like(needed[part])
        for pair in listed.tile_pairs[listed.tile_start[tile] : listed.tile_start[tile + 1]]:
            first, last = listed.pair_rows[pair]
            here[first:last, :, listed.pair_kernel[pair]] = True
        assert not np.any(needed[part] & ~here)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    kernels=st.integers(1, 60),
    width=st.integers(1, 70),
    height=st.integers(1, 50),
    margin=st.sampled_from([1.0, 8.0, None]),
    widest=st.sampled_from([1.0, 8.0, 200.0]),
    prior=st.sampled_from([0.1, 5.0, 100.0]),
    threads=st.integers(1, 3),
)
def test_nothing_needed_is_left_out(scatter, seed, kernels, width, height, margin, widest, prior, threads):
    mixture = scatter(kernels, width, height, seed=seed, sigmas=(0.3, widest), prior=prior)
    margin = exact_margin(kernels) if margin is None else margin
    centres, geometry = arrays(mixture)
    listed = cover(centres, geometry, width, height, margin, threads)
    check_lists(listed, kernels)
    check_against_brute_force(listed, centres, geometry, margin)


@pytest.mark.parametrize("box", [(-500, -300, -400, -200), (1000, 20, 1010, 25), (-200, -200, 300, 300)])
@pytest.mark.parametrize("sigmas", [(0.3, 3.0), (30.0, 90.0), (0.5, 100.0)])
def test_nothing_needed_is_left_out_far_away(scatter, box, sigmas):
    centres, geometry = arrays(scatter(50, 70, 50, box=box, sigmas=sigmas))
    listed = cover(centres, geometry, 70, 50, 12.0, 2)
    check_lists(listed, 50)
    check_against_brute_force(listed, centres, geometry, 12.0)


def test_lists_are_short_where_kernels_are_small(scatter):
    width, height, kernels = 128, 128, 500
    centres, geometry = arrays(scatter(kernels, width, height, sigmas=(1.5, 3.0)))
    listed = cover(centres, geometry, width, height, 8.0, 1)
    logits = all_logits(centres, geometry, width, height)
    needed = logits >= logits.max(-1, keepdims=True) - 8.0
    tiles = needed.reshape(8, TILE, 8, TILE, kernels).any(axis=(1, 3)).sum()
    assert len(listed.pair_kernel) < 3 * tiles


def test_threads_do_not_change_the_lists(scatter):
    centres, geometry = arrays(scatter(100, 70, 50))
    lists = [cover(centres, geometry, 70, 50, 12.0, threads) for threads in (1, 2, 5)]
    for other in lists[1:]:
        for name in ("bars", "pair_kernel", "pair_rows", "kernel_start", "tile_pairs", "tile_start"):
            assert np.array_equal(getattr(other, name), getattr(lists[0], name)), name


def test_far_away_mixtures_take_no_longer(scatter):
    near = arrays(scatter(500, 512, 512, sigmas=(10.0, 20.0)))
    far = arrays(scatter(500, 512, 512, box=(-1e4, -1e4, -9.9e3, -9.9e3), sigmas=(1.0, 2.0)))
    seconds = []
    for centres, geometry in (near, near, far):
        began = time.perf_counter()
        listed = cover(centres, geometry, 512, 512, exact_margin(500), 1)
        seconds.append(time.perf_counter() - began)
        assert len(listed.pair_kernel) < 0.25 * 500 * 1024
    assert seconds[2] < 20 * seconds[1] + 2.0


def test_exact_margin_bounds_what_is_left_out():
    for kernels in (1, 5, 10_000):
        assert kernels * math.exp(-exact_margin(kernels)) == pytest.approx(math.exp(-10))


def test_the_last_row_of_a_cut_tile_is_reached(scatter):
    for seed in range(10):
        centres, geometry = arrays(scatter(6, 21, 19, seed=seed, sigmas=(9.0, 30.0)))
        centres = centres / 3.0  # offsets that do not come out whole
        listed = cover(centres, geometry, 21, 19, 8.0, 1)
        check_against_brute_force(listed, centres, geometry, 8.0)
