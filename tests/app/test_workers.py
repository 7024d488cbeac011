"""Processes that do the work: whatever happens to one, there is a sentence, and the next job is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moesaic.app.limits import MIB, Limits
from moesaic.app.sentences import FULL
from moesaic.app.workers import Ended, Worker, _memory_of
from tests.app.doings import act

WAIT = 60  # s


def begun(**changes: Any) -> Worker:
    given: dict[str, Any] = {"memory": 1e12, "threads": 1, "seconds": WAIT, **changes}
    return Worker(act, Limits(), given.pop("memory"), given.pop("threads"), **given)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = begun()
    yield made
    made.end()


def run(worker: Worker, what: str, cancelled: Any = None) -> Ended:
    return worker.run(what, lambda _: None, lambda _: None, cancelled or (lambda: False))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_is_kept_warm(worker):
    first, second = run(worker, "pid"), run(worker, "pid")
    assert first.result is not None
    assert first == second
    assert first.result == {"pid": worker.pid, "threads": "1"}


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("refuse", "The picture is upside down."),
        ("break", "not by your doing"),
        ("cannot write", "not by your doing"),
        ("full", FULL),
        ("no memory", "more memory than there is"),
        ("damaged", "The picture is cut off."),
    ],
)
def test_errors_are_sentences_and_cost_no_process(worker, what, told):
    run(worker, "pid")
    pid = worker.pid
    ended = run(worker, what)
    assert ended.result is None
    assert ended.error is not None
    assert told in ended.error
    assert "secret" not in ended.error
    assert worker.pid == pid
    assert run(worker, "pid").error is None


def test_an_error_after_the_result_leaves_it(worker):
    assert run(worker, "break later") == Ended({"pid": worker.pid})


def test_cancelled(worker):
    run(worker, "pid")
    pid = worker.pid
    said: list[Any] = []
    began = time.monotonic()
    ended = worker.run("sleep", said.append, lambda _: None, lambda: bool(said))
    assert time.monotonic() - began < 5
    assert ended == Ended()
    assert not is_alive(pid)
    assert run(worker, "pid").result


def test_killed_from_outside_at_work_and_at_rest(worker):
    run(worker, "pid")
    told = worker.run("sleep", lambda _: os.kill(worker.pid or 0, signal.SIGKILL), lambda _: None, lambda: False)
    assert told.was_cut_off
    assert "cut off" in (told.error or "")
    assert run(worker, "pid").result
    os.kill(worker.pid or 0, signal.SIGKILL)
    time.sleep(0.2)
    assert run(worker, "pid").result  # nobody was served by it, so nothing is lost


def test_too_long():
    worker = begun(seconds=0.3)
    ended = run(worker, "sleep")
    assert "took longer than the 0.005 minutes" in (ended.error or "")
    assert ended.was_cut_off
    assert worker.pid is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what a process holds")
def test_too_much():
    worker = begun(memory=900 * MIB)
    assert run(worker, "pid").result
    ended = run(worker, "hold")
    assert "more memory than the server has" in (ended.error or "")
    assert worker.pid is None
    assert _memory_of(os.getpid()) > 10 * MIB
    assert _memory_of(None) == _memory_of(2**30) == 0


def test_the_time_of_a_job_begins_when_its_process_is_ready():
    worker = begun(seconds=1.0)  # less than it takes to read the library
    assert run(worker, "pid").result
    worker.end()
    worker.end()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_it_leaves_with_its_server_and_not_before():
    """A service's end reaches all processes at once, and a job that is cut off by that is no failure."""
    code = (
        "from tests.app.test_workers import begun, run\n"
        "if __name__ == '__main__':\n"
        "    worker = begun()\n"
        "    run(worker, 'pid')\n"
        "    print(worker.pid, flush=True)\n"
        "    run(worker, 'sleep')\n"
    )
    root = str(Path(__file__).parents[2])
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root, env=place
    ) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
        assert is_alive(pid)
        server.kill()
    end = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_that_is_told_to_end_does_so_without_its_server(worker):
    run(worker, "pid")
    threading.Timer(0.3, lambda: os.kill(worker.pid or 0, signal.SIGTERM)).start()
    began = time.monotonic()
    assert run(worker, "sleep").was_cut_off
    assert time.monotonic() - began < 10
