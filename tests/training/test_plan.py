"""The time of a step, by a clock that a test sets."""

from __future__ import annotations

import pytest
import torch

from moesaic.training import plan


@pytest.mark.parametrize(("seconds", "steps"), [(10.0, plan.PROBE), (0.5, 8), (1e-4, 100)])
def test_the_first_steps_do_not_count(monkeypatch, seconds, steps):
    now, taken = [0.0], [0]
    monkeypatch.setattr(plan.time, "monotonic", lambda: now[0])

    def take_step():
        taken[0] += 1
        now[0] += 1000.0 if taken[0] <= plan.WARM else seconds

    assert plan.seconds_of_a_step(take_step, torch.device("cpu")) == pytest.approx(seconds)
    assert taken[0] == plan.WARM + steps
