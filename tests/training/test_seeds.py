"""Seeds by name: the same for the same moment, others for others."""

from __future__ import annotations

import torch

from moesaic.training.seeds import generator_for, order_of, seed_for


def test_seeds_differ_by_run_purpose_and_moment():
    seeds = {seed_for(run, what, when) for run in range(3) for what in ("order", "network") for when in range(50)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(1, "order", 2) == 1512032346046740884  # runs must go on after an upgrade


def test_orders_are_permutations_that_change_with_the_epoch():
    first, second = order_of(20, 0, 0), order_of(20, 0, 1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first == order_of(20, 0, 0)


def test_generators_do_not_touch_the_global_one():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    torch.rand(3, generator=generator_for(0, "order"))
    assert torch.equal(torch.get_rng_state(), state)
