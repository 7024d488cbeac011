"""What ranks do with pictures, counted by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.adapters import MixOfRanks, mix_of_ranks
from moesaic.upscale.rank_audit import RankAudit


def mix(**options) -> MixOfRanks:
    """Two layers with three experts and a zero one, which the first score alone decides about in the first layer."""
    torch.manual_seed(0)
    made = mix_of_ranks(
        nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval(),
        "*",
        **{"shared": 2, "routed": 3, "active": 2, "zero": 1, "scores": 2, **options},
    )
    with torch.no_grad():
        for layer in made.layers.values():
            layer.router.last.zero_()
        #   score 0 and 1, constant: expert 0 always, then the zero expert below 1/2, expert 1 above
        made.layers["0"].router.last.copy_(
            torch.tensor([[0.0, 0, 9], [4, 0, 0], [0, 0, -9], [0, 0, 2]]),
        )
        made.layers["1"].router.last[:, -1] = torch.tensor([3.0, 2, 1, 0])
    return made


def counted(made: MixOfRanks, severity: torch.Tensor) -> RankAudit:
    audit = RankAudit(made)
    for part in severity.split(2):
        with made.given(torch.stack([part, torch.zeros_like(part)], 1)):
            audit.add(part)
    return audit


SEVERITY = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])


def test_figures():
    audit = counted(mix(), SEVERITY)
    first, second = audit.layers.values()
    assert audit.pictures == 5
    assert (first.shared, first.routed, first.zero, first.k) == (2, 3, 1, 2)
    assert first.zero_share == pytest.approx(3 / 10)
    assert first.usage == pytest.approx((1, 2 / 5, 0))
    assert first.zero_usage == pytest.approx((3 / 5,))
    assert first.sets == 2
    assert first.dead == (2,)
    # zero choices 1 1 1 0 0 against ranks 1 to 5
    assert first.zero_correlation == pytest.approx(-3 / (math.sqrt(1.2) * math.sqrt(10)))
    assert (first.active, first.least, first.most) == (pytest.approx(3.4), 3, 4)
    assert second.usage == (1, 1, 0)
    assert (second.zero_share, second.sets, second.zero_correlation) == (0, 1, 0)
    p = torch.tensor([3.0, 2, 1, 0]).softmax(0)
    assert second.entropy == pytest.approx(float(-(p * p.log()).sum()) / math.log(4))
    assert audit.active.tolist() == [7, 7, 7, 8, 8]
    assert audit.active_correlation == pytest.approx(-first.zero_correlation)


def test_warnings_and_json():
    audit = counted(mix(), SEVERITY)
    constant, dead = audit.warnings()
    assert constant == "1 of 2 layers use the same ranks for every picture, such as 1."
    assert dead == "2 ranks never act, in 2 of 2 layers; most in 0, 1 of 3."
    figures = json.loads(json.dumps(audit.figures(), allow_nan=False))
    assert figures["layers"]["0"]["usage"] == pytest.approx([1, 0.4, 0])
    assert figures["layers"]["0"]["dead"] == [2]
    assert figures["warnings"] == [constant, dead]
    fresh = mix_of_ranks(nn.Linear(256, 256), "", scores=2)
    with fresh.given(torch.rand(4, 2)):
        audit = RankAudit(fresh)
        audit.add(torch.rand(4))
    assert any("hardly prefer any rank, such as  with" in line for line in audit.warnings())


def test_experts_of_several_ranks_and_plain_layers():
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    mix_of_ranks(model, "0", shared=5, routed=0, scores=2)
    made = mix_of_ranks(model, "1", shared=1, routed=2, active=2, zero=0, expert_rank=3, scores=2)
    audit = counted(made, SEVERITY)
    assert list(audit.layers) == ["1"]
    assert audit.layers["1"].active == 7
    assert audit.layers["1"].zero_usage == ()
    assert audit.active.tolist() == [12] * 5
    one = mix_of_ranks(nn.Linear(64, 64), "", shared=1, routed=1, active=1, zero=0, scores=2)
    assert math.isnan(counted(one, SEVERITY).layers[""].entropy)
    assert counted(one, SEVERITY).figures()["layers"][""]["entropy"] is None


def test_refusals():
    made = mix()
    audit = RankAudit(made)
    with pytest.raises(ArgumentError, match="no picture was counted"):
        _ = audit.layers
    with pytest.raises(ArgumentError, match="nothing was decided"):
        audit.add(SEVERITY)
    with made.given(torch.zeros(2, 2)), pytest.raises(ShapeError, match="each of 2 rows"):
        audit.add(SEVERITY)
    with pytest.raises(ArgumentError, match="plain LoRA"):
        RankAudit(mix_of_ranks(nn.Linear(8, 8), "", shared=2, routed=0))
