"""The recipe: there and back as JSON, and one clear error for each wrong value."""

from __future__ import annotations

import json

import pytest

from moesaic.errors import ArgumentError
from moesaic.upscale.recipe import UpscaleRecipe


def test_there_and_back():
    recipe = UpscaleRecipe(options={"ranks": {"scores": 4}}, scales={4: 1, 2: 0.5}, steps=3, told="oracle")
    assert UpscaleRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_crops_are_as_large_as_the_largest_scale_that_is_drawn():
    assert UpscaleRecipe(crop=48, scales={4: 1, 2: 1}).largest_crop == 192
    assert UpscaleRecipe(crop=48, scales={4: 0, 2: 1}).largest_crop == 96


@pytest.mark.parametrize(
    "wrong",
    [
        {"told": "nothing"},
        {"balance": "even"},
        {"precision": "int8"},
        {"mix": {"rain": 1.0}},
        {"mix": 3},
        {"scales": {}},
        {"scales": {"two": 1}},
        {"scales": {2: -1}},
        {"scales": {-2: 1}},
        {"scales": {2.5: 1}},
        {"scales": {float("inf"): 1}},
        {"scales": {2: 1, "2": 1}},
        {"scales": {2: 1e-9}},
        {"scales": {2: "1"}},
        {"mix": {"mild": "1"}},
        {"options": [1]},
        {"crop": 4},
        {"batch": 0},
        {"steps": 1.5},
        {"rate": 0},
        {"router_rate": float("inf")},
        {"minutes": -1},
        {"shrink": 2},
        {"average": 1},
        {"held_out": -0.1},
        {"betas": (0.9,)},
        {"start": 3},
    ],
)
def test_wrong_values(wrong):
    name = next(iter(wrong))
    with pytest.raises(ArgumentError, match=name):
        UpscaleRecipe(**wrong)


def test_what_is_no_recipe():
    with pytest.raises(ArgumentError, match="this is no recipe of upscaling"):
        UpscaleRecipe.from_json({"colour": "red"})
