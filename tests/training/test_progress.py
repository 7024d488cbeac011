"""The time left, by the mean speed of the call or by its minutes."""

from __future__ import annotations

import pytest

from moesaic.training import progress
from moesaic.training.progress import Pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_follows_the_speed_after_the_first_step(clock):
    pace = Pace(None, 10)
    clock[0] += 50  # the first step compiles and allocates
    pace.seconds_left(11, 31)
    clock[0] += 20
    assert pace.seconds_left(21, 31) == pytest.approx(20)
    assert pace.seconds == 70
    assert not pace.over


def test_minutes_end_a_call(clock):
    pace = Pace(1.0, 0)
    pace.seconds_left(1, 1000)
    clock[0] += 40
    assert pace.seconds_left(41, 1000) == pytest.approx(20)
    assert not pace.over
    clock[0] += 20
    assert pace.over
    assert pace.seconds_left(61, 1000) == 0
