"""The arms of a comparison differ in what they name, and in nothing else."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from moesaic.errors import ArgumentError
from moesaic.routing.collect import collect
from moesaic.segment.arms import ARMS, TOLERANCE, arm
from moesaic.segment.build import build, parameters
from moesaic.segment.recipe import SegmentRecipe

MOE = SegmentRecipe(width=0.5, experts=8, k=2, grid=3, epochs=2, seed=5)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_runs(name):
    recipe = arm(MOE, name)
    model = build(recipe, 11).train()
    x = torch.rand(2, 3, 48, 64)
    model(x)
    routed = collect(model)
    assert len(routed) == (0 if name in ("dense", "widened") else 1)
    for routing in routed.values():
        torch.testing.assert_close(routing.weights.sum(-1), torch.ones(2, 9))


def test_only_what_the_arm_names_differs():
    allowed = {"experts", "k", "gate", "gate_options", "balance", "width", "place"}
    for name in ARMS:
        kept, made = asdict(MOE), asdict(arm(MOE, name))
        assert {key for key in kept if kept[key] != made[key]} <= allowed, name


def test_widened_has_as_many_parameters():
    wanted = parameters(build(MOE, 11))
    assert parameters(build(arm(MOE, "dense"), 11)) < wanted * (1 - TOLERANCE)
    assert abs(parameters(build(arm(MOE, "widened"), 11)) - wanted) <= TOLERANCE * wanted


def test_position_gives_each_place_its_own_expert():
    model = build(arm(MOE, "position"), 11).train()
    model(torch.rand(2, 3, 48, 64))
    (routing,) = collect(model).values()
    assert routing.chosen[..., 0].tolist() == [list(range(9))] * 2


def test_what_cannot_be():
    with pytest.raises(ArgumentError, match="arm 'best' is unknown; choose one of moe, dense"):
        arm(MOE, "best")
    with pytest.raises(ArgumentError, match="set experts"):
        arm(SegmentRecipe(), "moe")
