"""The queue: what is accepted is done, and what is not is told when to come again."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from moesaic.app.jobs import Job
from moesaic.app.limits import Limits
from moesaic.app.server import create_app
from moesaic.app.workers import Ended
from tests.app.calls import done, ended, png, send


@pytest.fixture
def open_app(tmp_path):
    opened = []

    def start(**limits: float):
        app = create_app(folder=tmp_path, workers=1, limits=Limits(**limits))  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1")
        client.__enter__()
        opened.append(client)
        return client, app

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def test_a_full_queue_says_when_to_come_again(open_app):
    client, _ = open_app(queue=2)
    answers = [send(client, png(), quality="best") for _ in range(6)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    taken = [answer for answer in answers if answer.status_code == 201]
    assert all(done(client, answer)["state"] == "done" for answer in taken)


def test_a_disk_has_an_end(open_app):
    client, _ = open_app(disk_bytes=1000)
    assert send(client, png()).status_code == 429


def test_too_long_and_too_much(open_app):
    client, app = open_app(seconds=0)
    assert "Make it smaller" in done(client, send(client, png()))["error"]
    for worker in app.state.desk._workers:
        worker._seconds, worker._memory = 600, 1.0
    assert "memory" in done(client, send(client, png()))["error"]
    for worker in app.state.desk._workers:
        worker._memory = 1e12
    assert done(client, send(client, png(), quality="quick"))["state"] == "done"


def test_a_worker_that_dies_costs_one_job(open_app):
    client, app = open_app()
    job = send(client, png((200, 150)), quality="best").json()
    end = time.monotonic() + 60
    while client.get(f"/api/jobs/{job['id']}").json()["step"] in (None, "reading the picture"):
        assert time.monotonic() < end
        time.sleep(0.02)
    (pid,) = app.state.desk.pids
    os.kill(pid, signal.SIGKILL)
    while (told := client.get(f"/api/jobs/{job['id']}").json())["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    assert told["state"] == "failed"
    assert "cut off" in told["error"]
    assert done(client, send(client, png(), quality="quick"))["state"] == "done"


def test_a_disk_that_is_full_for_a_while_costs_no_worker(open_app, monkeypatch):
    client, app = open_app()
    store = app.state.desk.store

    def full(_: Job) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store, "save", full)
        assert done(client, send(client, png(), quality="quick"))["state"] == "done"
    assert done(client, send(client, png(), quality="quick"))["state"] == "done"


def test_what_is_over_expires(open_app):
    client, app = open_app(keep_seconds=1)
    job = done(client, send(client, png(), quality="quick"))
    path = Path(app.state.desk.store.folder) / job["id"]
    assert path.is_dir()
    time.sleep(1.1)
    app.state.desk.expire()
    assert not path.exists()
    assert client.get(f"/api/jobs/{job['id']}").status_code == 410


def test_a_server_that_ends_leaves_its_jobs_to_the_next(open_app):
    client, app = open_app()
    jobs = [send(client, png(seed=seed), quality="best").json()["id"] for seed in range(3)]
    client.__exit__(None, None, None)
    assert app.state.desk.pids == []
    again, _ = open_app()
    for identity in jobs:
        assert ended(again, identity)["state"] == "done"


def test_a_disk_that_is_full_says_so_and_keeps_nothing(open_app, monkeypatch, tmp_path):
    client, _ = open_app()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place in ("shutil.copyfileobj", "os.fsync"):  # the picture, and the job's record
        with monkeypatch.context() as patched:
            patched.setattr(place, full)
            answer = send(client, png())
        assert answer.status_code == 503
        assert "disk is full" in answer.json()["error"]
        assert answer.headers["retry-after"]
        assert list((tmp_path / "jobs").iterdir()) == []
    assert done(client, send(client, png(), quality="quick"))["state"] == "done"


def test_cancelled_at_every_moment(open_app, tmp_path):
    client, _ = open_app()
    for moment in range(5):
        job = send(client, png((64, 48)), quality="quick").json()
        time.sleep(0.2 * moment)
        assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
        answer = client.get(f"/api/jobs/{job['id']}")
        assert answer.status_code == 410 or answer.json()["state"] == "cancelled"
        client.delete(f"/api/jobs/{job['id']}")
        assert client.get(f"/api/jobs/{job['id']}").status_code == 410
    assert done(client, send(client, png(), quality="quick"))["state"] == "done"
    assert len(list((tmp_path / "jobs").iterdir())) == 1


def test_deleted_by_many_while_others_look_and_go_on(open_app, tmp_path):
    client, _ = open_app()
    for _ in range(3):
        job = done(client, send(client, png(), quality="quick"))
        at = f"/api/jobs/{job['id']}"
        given = {"verb": "decode", "from": json.dumps({"job": job["id"], "which": "result"})}
        calls = [("GET", f"{at}/result", {}), ("POST", "/api/jobs", given)] * 4
        calls[4:4] = [("DELETE", at, {})] * 3
        with ThreadPoolExecutor(len(calls)) as people:
            answers = list(people.map(lambda call: client.request(call[0], call[1], data=call[2]), calls))
        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404, 410}
        for answer in answers:
            if answer.status_code == 201:
                for _ in range(2):  # stopped, then removed
                    client.delete(f"/api/jobs/{answer.json()['id']}")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_going_on_takes_no_room_and_outlives_what_it_came_from(open_app, tmp_path):
    client, _ = open_app()
    first = done(client, send(client, png(), quality="quick"))
    given = {"verb": "restore", "from": json.dumps({"job": first["id"], "which": "input"})}
    second = done(client, client.post("/api/jobs", data=given))
    paths = [tmp_path / "jobs" / job["id"] / "input" for job in (first, second)]
    assert paths[0].samefile(paths[1])
    client.delete(f"/api/jobs/{first['id']}")
    assert paths[1].read_bytes() == png()


def test_what_nobody_waits_for_is_not_drawn(open_app, monkeypatch):
    """A job that is removed while its explanation is made frees its worker."""
    client, app = open_app()
    job = done(client, send(client, png(), quality="quick"))
    found = app.state.desk.find(job["id"])
    end = time.monotonic() + 60
    while found.explained is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    found.state, found.ended, found.explained = "queued", None, None
    with app.state.desk._lock:
        app.state.desk._waiting.append(found.id)
    asked: list[bool] = []

    def run(given, news, done, cancelled):
        done({"name": "a.moe", "views": ["explain"]})
        asked.append(cancelled())
        assert client.get(f"/api/jobs/{found.id}/view/explain").status_code == 202
        client.delete(f"/api/jobs/{found.id}")
        asked.append(cancelled())
        return Ended({})

    (worker,) = app.state.desk._workers
    (app.state.desk.store.path(found) / "explain").unlink(missing_ok=True)
    monkeypatch.setattr(worker, "run", run)
    with app.state.desk._lock:
        app.state.desk._lock.notify_all()
    while len(asked) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert asked == [False, True]


def test_maps_outlive_the_server_and_what_it_never_drew_is_told(open_app, tmp_path):
    client, _ = open_app()
    jobs = [done(client, send(client, png(seed=seed), quality="quick")) for seed in (0, 1)]
    views = ("overlay", "legend", "explain")
    end = time.monotonic() + 60
    while any(client.get(f"/api/jobs/{job['id']}/view/explain").status_code == 202 for job in jobs):
        assert time.monotonic() < end
        time.sleep(0.02)
    drawn = [client.get(f"/api/jobs/{jobs[0]['id']}/view/{view}").content for view in views]
    client.__exit__(None, None, None)
    folder = tmp_path / "jobs" / jobs[1]["id"]  # killed before it had drawn anything
    for view in views:
        (folder / view).unlink()
    (folder / "overlay.part").write_bytes(b"half")
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(record | {"explained": None}))
    again, _ = open_app()
    assert [again.get(f"/api/jobs/{jobs[0]['id']}/view/{view}").content for view in views] == drawn
    assert [again.get(f"/api/jobs/{jobs[1]['id']}/view/{view}").status_code for view in views] == [404] * 3
    assert not (folder / "overlay.part").exists()
