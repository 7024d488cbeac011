"""Killed in the middle of jobs, again and again: nothing is lost, half-written or wrong."""

from __future__ import annotations

import json
import random
import signal
import sys
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from moesaic.app.jobs import ID, RECORD
from tests.app.calls import png, send
from tests.app.served import Served, is_alive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

KILLS = 5


def test_killed_again_and_again_it_loses_nothing(tmp_path):
    chance = random.Random(0)
    wanted: dict[str, int] = {}
    for turn in range(KILLS):
        with Served("--folder", tmp_path, "--workers", "1") as served:
            for seed in (10 * turn, 10 * turn + 1):
                answer = send(served.calls, png((48, 36), seed), quality="quick")
                assert answer.status_code == 201
                wanted[answer.json()["id"]] = seed
            time.sleep(chance.uniform(0.0, 3.0))
            workers = served.workers
            served.end(signal.SIGKILL)
            _gone(workers)
        for path in (tmp_path / "jobs").iterdir():
            if ID.fullmatch(path.name):
                json.loads((path / RECORD).read_text())
    with Served("--folder", tmp_path, "--workers", "1") as served:
        assert not list((tmp_path / "jobs").glob(".new-*"))
        found = {identity: served.calls.get(f"/api/jobs/{identity}") for identity in wanted}
        assert {answer.status_code for answer in found.values()} == {200}  # none is unknown
        given_up = {identity for identity, answer in found.items() if answer.json()["state"] == "failed"}
        assert len(given_up) <= KILLS // 2  # each was at work in two kills
        for identity in given_up:
            assert "ended twice" in found[identity].json()["error"]
        results = {identity: served.result(identity) for identity in wanted if identity not in given_up}
        alone = {
            seed: served.result(send(served.calls, png((48, 36), seed), quality="quick").json()["id"])
            for seed in wanted.values()
        }
        assert all(data == alone[wanted[identity]] for identity, data in results.items())
        assert len(set(alone.values())) == len(wanted)
        assert not list((tmp_path / "jobs").glob("*/*.part"))


def _gone(workers: list[int]) -> None:
    end = time.monotonic() + 10
    while any(map(is_alive, workers)):
        assert time.monotonic() < end, "a worker outlives its server"
        time.sleep(0.05)
