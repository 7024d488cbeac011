"""Experts in place of a gate's choice: what is drawn, what a routing becomes, and that all is as before afterwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.restore.overruling import drawn, holding, imposed, replaced, spread, with_experts
from moesaic.routing.record import Routing


def routing(pictures: int, expert: int = 1) -> Routing:
    p = torch.tensor([0.2, 0.5, 0.3]).expand(pictures, 1, 3)
    chosen = torch.full((pictures, 1, 1), expert)
    return Routing(
        weights=0.5 * torch.ones(pictures, 1, 1), chosen=chosen, probabilities=p, logits=p.log(), grid=(1, 1)
    )


def layers(*controls):
    return [SimpleNamespace(control=control) for control in controls]


def test_what_is_held_is_let_go_even_after_an_error():
    owners = layers("a", "b")
    with holding(owners, "control", [1, 2]):
        assert [owner.control for owner in owners] == [1, 2]
        with holding(owners[:1], "control", [3]):
            assert owners[0].control == 3
        assert owners[0].control == 1
    with pytest.raises(ValueError, match="shorter"), holding(owners, "control", [1]):
        pass
    assert [owner.control for owner in owners] == ["a", "b"]


def test_a_decision_is_imposed_where_nothing_else_controls():
    audited, free = owners = layers("audit", None)
    with imposed(owners, [routing(1, 0), routing(1, 2)]):
        assert audited.control == "audit"
        assert free.control(routing(4)).chosen.flatten().tolist() == [2] * 4
    assert [owner.control for owner in owners] == ["audit", None]


def test_chosen_experts_replace_also_what_an_audit_controls():
    owners = layers("audit", None)
    with replaced(owners, [torch.tensor([0, -1]), torch.tensor([-1, 2])]):
        assert [owner.control(routing(2)).chosen.flatten().tolist() for owner in owners] == [[0, 1], [1, 2]]
    with replaced(owners, None):
        assert [owner.control for owner in owners] == ["audit", None]
    with pytest.raises(ArgumentError, match="experts are for 1 levels, the network has 2"):
        replaced(owners, [torch.tensor([0])])


def test_one_decision_is_spread_over_a_batch():
    held = routing(1)
    assert spread(held, 1) is held
    found = spread(held, 3)
    for name in ("weights", "chosen", "probabilities", "logits"):
        assert torch.equal(getattr(found, name), getattr(held, name).repeat(3, 1, 1))
    with pytest.raises(ShapeError, match="2 pictures, the batch holds 3"):
        spread(routing(2), 3)


def test_a_drawn_expert_weighs_1_and_the_gates_own_as_before():
    found = with_experts(routing(3), torch.tensor([-1, 0, 2]))
    assert found.chosen.flatten().tolist() == [1, 0, 2]
    assert found.weights.flatten().tolist() == [0.5, 1, 1]
    assert torch.equal(found.probabilities, routing(3).probabilities)


def test_what_is_drawn_follows_the_sandwich_rule():
    assert drawn([5, 3], 4, 0.0, None) is None
    first, second = drawn([5, 3], 20_000, 0.6, torch.Generator().manual_seed(0))
    assert torch.equal(first < 0, second < 0)
    explored = first >= 0
    assert float(explored.float().mean()) == pytest.approx(0.6, abs=0.02)
    a, b = first[explored], second[explored]
    # a third all dearest, a sixth all cheapest, in the other half each level by itself
    assert float(((a == 4) & (b == 2)).float().mean()) == pytest.approx(1 / 3 + 1 / 2 / 15, abs=0.02)
    assert float(((a == 0) & (b == 0)).float().mean()) == pytest.approx(1 / 6 + 1 / 2 / 15, abs=0.02)
    assert float((a == 2).float().mean()) == pytest.approx(1 / 10, abs=0.02)
    again = drawn([5, 3], 20_000, 0.6, torch.Generator().manual_seed(0))
    assert all(map(torch.equal, again, (first, second)))
