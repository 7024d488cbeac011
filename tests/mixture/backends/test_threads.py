from __future__ import annotations

import threading

import pytest

from moesaic.mixture.backends.threads import default_threads, run


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_come_back_in_order(threads):
    assert run([lambda k=k: k * k for k in range(20)], threads) == [k * k for k in range(20)]
    assert run([], threads) == []


def test_tasks_run_beside_each_other():
    meeting = threading.Barrier(2, timeout=10)
    assert run([lambda: meeting.wait() >= 0, lambda: meeting.wait() >= 0], 2) == [True, True]


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_come_through(threads):
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run([lambda: 1, fail], threads)


def test_there_is_at_least_one_thread():
    assert default_threads() >= 1
