"""The recipe of a restoration run: what it refuses, and its form as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from moesaic.errors import ArgumentError
from moesaic.restore.recipe import RestoreRecipe

SOME = RestoreRecipe(steps=10, options={"width": 8}, mix={"noise": 1}, late_crop=192)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": None}, "network None must be a text"),
        ({"options": [1]}, "options .* must be a table"),
        ({"options": {"a": object()}}, "options .* must hold numbers"),
        ({"mix": {"noise": -1}}, "the share of 'noise' is 0 or a number from 1e-06 to 1e\\+06, not -1"),
        ({"mix": {"noise": 1e-9}}, "not 1e-09"),
        ({"mix": {"noise": "1"}}, "not '1'"),
        ({"mix": {"noise": 0}}, "no sort a share above 0"),
        ({"mix": {}}, "no sort a share above 0"),
        ({"mix": {"noise": math.nan}}, "mix"),
        ({"crop": 4}, "crop 4 must be at least 8"),
        ({"late_crop": 7}, "late_crop 7"),
        ({"batch": 0}, "batch 0 must be at least 1"),
        ({"steps": 0}, "steps 0"),
        ({"minutes": 0}, "minutes 0 must be a number above 0"),
        ({"rate": math.nan}, "rate nan"),
        ({"warm_up": 1.5}, "warm_up 1.5"),
        ({"clip": math.inf}, "clip inf"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": 0.9}, "betas"),
        ({"pixel_loss": "l2"}, "pixel_loss 'l2' is unknown; choose one of charbonnier, l1"),
        ({"precision": "half"}, "precision"),
        ({"floor_begin": 2e-5}, "floor_begin 2e-05 must be a mean squared error from 3e-05 to 1"),
        ({"floor_begin": 1.5}, "floor_begin 1.5"),
        ({"floor_begin": math.nan}, "floor_begin nan"),
        ({"floor_begin": None}, "floor_begin None"),
        ({"fourier": -1}, "fourier -1"),
        ({"explore": 1.1}, "explore 1.1 must be from 0 to 1"),
        ({"shrink": True}, "shrink True"),
        ({"average": 1}, "average 1 must be from 0 to below 1"),
        ({"held_out": 1.0}, "held_out"),
        ({"trials": 0}, "trials 0"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_recipes_that_cannot_be(change, says):
    with pytest.raises(ArgumentError, match=says):
        replace(SOME, **change)


def test_there_and_back_as_json():
    assert RestoreRecipe.from_json(json.loads(json.dumps(SOME.to_json()))) == SOME
    with pytest.raises(ArgumentError, match="no recipe of restoration"):
        RestoreRecipe.from_json({"epochs": 3})
    with pytest.raises(ArgumentError, match="no recipe of restoration"):
        RestoreRecipe.from_json([])


def test_late_batches_have_as_many_pixels():
    assert (SOME.late_batch, SOME.largest_crop) == (4, 192)
    assert (replace(SOME, late_crop=None).late_batch, replace(SOME, late_crop=None).largest_crop) == (16, 96)
    assert replace(SOME, late_crop=960).late_batch == 1
