"""Recipes as JSON values: what is refused, and there and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pytest

from moesaic.errors import ArgumentError
from moesaic.training.recipe_json import check_table, plain, read_recipe


@dataclass(frozen=True)
class Some:
    sides: tuple[int, int] = (1, 2)
    options: dict[str, Any] = field(default_factory=dict)


def test_plain_values_are_what_json_gives_back():
    value = MappingProxyType({"a": (1, ("b", None)), "c": [{"d": (2.5,)}]})
    assert plain(value) == {"a": [1, ["b", None]], "c": [{"d": [2.5]}]}


def test_there_and_back():
    assert read_recipe(Some, {"sides": [3, 4], "options": {"a": [1]}}, "pictures") == Some((3, 4), {"a": [1]})


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ([1], "no recipe of pictures: a JSON object is, not list"),
        ({"breadth": 1}, "no recipe of pictures: .*breadth"),
        ({1: 2}, "no recipe of pictures"),
    ],
)
def test_what_is_no_recipe(held, says):
    with pytest.raises(ArgumentError, match=says):
        read_recipe(Some, held, "pictures")


def endless() -> dict[str, Any]:
    table: dict[str, Any] = {}
    table["again"] = table
    return table


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1], r"options \[1\] must be a table"),
        ({1: 2}, "must be a table"),
        ({"a": object()}, "must hold numbers"),
        ({"a": math.nan}, "must hold numbers"),
        (endless(), "must hold numbers"),
    ],
)
def test_what_is_no_table(value, says):
    check_table("options", {"a": (1, None, "b")})
    with pytest.raises(ArgumentError, match=says):
        check_table("options", value)
