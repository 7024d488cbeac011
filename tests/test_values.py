"""What a value is, whatever its annotation says."""

from __future__ import annotations

import math

import pytest

from moesaic.values import is_a, is_number, is_pair, is_table, is_whole


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [
        (3, True, True),
        (0, False, True),
        (9, False, True),
        (3.0, False, True),
        (math.nan, False, True),
        (True, False, False),
        ("3", False, False),
        (None, False, False),
        ([3], False, False),
    ],
)
def test_numbers(value, whole, number):
    assert (is_whole(value, 1, 8), is_number(value)) == (whole, number)


def test_whole_numbers_have_no_end_unless_told():
    assert is_whole(10**400, 1)


@pytest.mark.parametrize(
    ("value", "table"), [({}, True), ({"a": 1}, True), ({1: 2}, False), ([("a", 1)], False), (5, False)]
)
def test_tables(value, table):
    assert is_table(value) is table


def test_kinds():
    assert is_a(5, str, int)
    assert not is_a(5, str)


@pytest.mark.parametrize(
    ("value", "pair"), [((1, 2), True), ([1, "a"], True), ((1,), False), ("ab", False), (5, False)]
)
def test_pairs(value, pair):
    assert is_pair(value) is pair
