"""The queue: what is accepted is done, and what is not is told when to come again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from moesaic.app.jobs import RECORD, Job, Store
from moesaic.app.limits import Limits
from moesaic.app.server import create_app
from tests.app.test_server import done, png, send


def job_of(identity: str, **changes: object) -> Job:
    seen = {"bytes": 3, "width": 1, "height": 1, "kind": "picture"}
    made = {"id": identity, "verb": "encode", "options": {}, "name": "a", "input": seen, "made": 0.0}
    return Job(**{**made, **changes})  # type: ignore[arg-type]


def kept(store: Store, **changes: object) -> Job:
    identity, new = store.begin()
    (new / "input").write_bytes(b"abc")
    job = job_of(identity, **changes)
    store.settle(job)
    return job


def test_a_store_gives_back_what_it_holds(tmp_path):
    store = Store(tmp_path / "jobs")
    waiting, working = kept(store), kept(store, state="running", tries=1, made=2.0)
    hopeless = kept(store, state="running", tries=2, made=3.0)
    over = kept(store, state="done", made=4.0, ended=5.0, result={"name": "a.moe"})
    (store.path(over) / "explain.part").write_bytes(b"half")
    (store.folder / ".new-half-sent").mkdir()
    (store.folder / "notes.txt").write_text("not ours")
    found = {job.id: job for job in Store(tmp_path / "jobs").load()}
    assert [found[one.id].state for one in (waiting, working, hopeless, over)] == ["queued", "queued", "failed", "done"]
    assert "Try a smaller one" in found[hopeless.id].error
    assert found[over.id].result == {"name": "a.moe"}
    assert not (store.path(over) / "explain.part").exists()
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([*found, "notes.txt"])


def test_damaged_records_are_no_jobs(tmp_path):
    store = Store(tmp_path)
    for text in ("", "{}", "[]", '{"id": 3}', json.dumps({"id": "x"})):
        job = kept(store)
        (store.path(job) / RECORD).write_text(text)
    assert store.load() == []
    assert list(tmp_path.iterdir()) == []


def test_jobs_that_are_gone_stay_gone(tmp_path):
    store = Store(tmp_path)
    job = kept(store)
    store.remove(job)
    store.remove(job)
    store.save(job)
    assert store.load() == []
    assert store.bytes() == 0


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
        worker._limits, worker._memory = Limits(), 1.0
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
        assert done(again, again.get(f"/api/jobs/{identity}") and _Answer(again, identity))["state"] == "done"


class _Answer:
    """A job as `done` takes it."""

    status_code = 201

    def __init__(self, client: TestClient, identity: str) -> None:
        self.json = lambda: client.get(f"/api/jobs/{identity}").json()
