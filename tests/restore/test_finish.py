"""What is done after the last step: how much time it may take, and whom it concerns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from moesaic.restore import finish
from moesaic.restore.finish import dearest, learns_last, steps_left, teach_gates
from moesaic.restore.network import MoceLite
from moesaic.restore.recipe import RestoreRecipe
from moesaic.training.bank import list_pictures, read_bank
from tests.restore.stand_in import MIX, StandIn, parts

RECIPE = RestoreRecipe(steps=100, crop=16, batch=4, trials=30, precision="bfloat16")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MoceLite(width=4, encoder=(0, 0, 1), middle=0, decoder=0).eval()


def test_time_is_set_aside_only_for_gates_that_learn_last(network):
    assert (learns_last(network), learns_last(StandIn())) == (True, False)
    assert steps_left(StandIn(), RECIPE, 1000.9) == 1000
    assert steps_left(network, RECIPE, 1000.0) == 1000 - 38  # 30 / 4 batches through 15 experts, 3 passes a step
    assert steps_left(network, replace(RECIPE, trials=10**6), 1000.0) == 750
    assert steps_left(network, RECIPE, 0.1) == 1


@pytest.mark.parametrize(
    ("change", "batches"),
    [({}, 8), ({"minutes": 5.0}, 7), ({"minutes": 5.0, "steps": 1000}, 8), ({"minutes": 5.0, "steps": 1}, 1)],
)
def test_a_planned_run_has_as_many_trials_as_its_time_allows(pictures, network, monkeypatch, change, batches):
    seen = []

    def tried(model, given, *, generator, precision):
        assert precision == "bfloat16"
        seen.extend(len(damaged) for damaged, _ in given)

    monkeypatch.setattr(finish, "try_experts", tried)
    monkeypatch.setattr(finish, "fit_gates", lambda model, trials, *, seed: {"level_0": 0.5})
    monkeypatch.setattr(finish, "highest_price", lambda model, trials, tolerance: 2.5)
    bank, network = read_bank(list_pictures(pictures)), network.train()
    told = teach_gates(network, bank, parts(), replace(RECIPE, **change), MIX, torch.device("cpu"))
    assert seen == [4] * batches
    assert (told, network.price, network.training) == ({"level_0": 0.5, "price": 2.5}, 2.5, True)


def test_a_single_trial_teaches_something(pictures, network, monkeypatch):
    monkeypatch.setattr(finish, "fit_gates", partial(finish.fit_gates, steps=60))
    bank, recipe = read_bank(list_pictures(pictures)), replace(RECIPE, trials=1, batch=1, precision="float32")
    told = teach_gates(network, bank, parts(), recipe, MIX, torch.device("cpu"))
    assert told == {"level_0": 0.0, "level_1": 0.0, "level_2": 0.0, "price": network.price}
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_before_its_gates_have_learned_a_network_is_seen_with_its_dearest_experts(network):
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        everything = network.decoded(network.encoded(x), [torch.full((2,), 4)] * 3)
        assert torch.equal(dearest(network, x), everything)
        plain = StandIn(dropout=0.0)
        assert torch.equal(dearest(plain, x), plain(x))
