"""The learning rate: where it begins, how it falls, where it ends."""

from __future__ import annotations

import math

import pytest

from moesaic.errors import ArgumentError
from moesaic.training.schedule import SHAPES, Schedule


def test_warm_up_rises_in_equal_steps_to_the_full_rate():
    schedule = Schedule(steps=100, warm_up=4)
    assert [schedule.factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_shapes_by_their_formulas():
    t = 30 / 90
    at = {shape: Schedule(steps=100, warm_up=10, shape=shape).factor(40) for shape in SHAPES}
    assert at["cosine"] == pytest.approx((1 + math.cos(math.pi * t)) / 2)
    assert at["poly"] == pytest.approx((1 - t) ** 0.9)
    assert at["constant"] == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_step_of_a_run_has_a_rate(shape, steps):
    factors = [Schedule(steps=steps, warm_up=5, shape=shape).factor(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_falls_and_ends_near_nothing():
    factors = [Schedule(steps=50, shape="cosine").factor(step) for step in range(50)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] < 0.002


@pytest.mark.parametrize("change", [{"shape": "step"}, {"steps": 0}, {"warm_up": -1}])
def test_what_cannot_be(change):
    with pytest.raises(ArgumentError):
        Schedule(**({"steps": 5} | change))
