from __future__ import annotations

import pytest
import torch

from moesaic.errors import ArgumentError
from moesaic.restore.complexity_balance import ComplexityBalance
from moesaic.routing import Balance, Routing
from moesaic.routing.balance import cost_weighted, importance, load

COSTS = (0.25, 0.5, 1.0)


def made(logits: torch.Tensor) -> Routing:
    p = logits.softmax(-1)
    return Routing(
        weights=torch.ones(logits.shape[0], 1, 1), chosen=p.argmax(-1)[..., None], probabilities=p, logits=logits,
        grid=(1, 1),
    )  # fmt: skip


@pytest.fixture
def routing() -> Routing:
    return made(torch.randn(16, 1, 3, generator=torch.Generator().manual_seed(0)))


def test_is_half_importance_and_half_load(routing):
    want = 0.2 * (0.5 * cost_weighted(routing, COSTS) + 0.5 * load(routing))
    torch.testing.assert_close(ComplexityBalance(weight=0.2, costs=COSTS)(routing), want)
    want = 0.2 * (0.5 * importance(routing) + 0.5 * load(routing))
    torch.testing.assert_close(ComplexityBalance("importance", 0.2)(routing), want)
    assert isinstance(ComplexityBalance(costs=COSTS), Balance)


def test_leans_towards_cheap_experts():
    to_cheap, to_dear = (made(torch.tensor([tilt, 0.0, -tilt]).expand(8, 1, 3)) for tilt in (0.3, -0.3))
    weighted, plain = ComplexityBalance(costs=COSTS), ComplexityBalance("importance")
    assert weighted(to_cheap) < weighted(to_dear)
    torch.testing.assert_close(plain(to_cheap), plain(to_dear))


@pytest.mark.parametrize("options", [{"name": "switch"}, {"costs": None}, {"name": "importance", "costs": COSTS}])
def test_bad_options(options):
    with pytest.raises(ArgumentError):
        ComplexityBalance(**options)
