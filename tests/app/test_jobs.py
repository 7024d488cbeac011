"""Jobs on the disk: what an end of the server leaves, whatever it was at, and what a client is told."""

from __future__ import annotations

import json

import pytest

from moesaic.app.jobs import ID, RECORD, Job, Store


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


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "another"},
        {"state": "nonsense"},
        {"state": "done", "ended": 1.0},  # without a result
        {"state": "done", "result": {}},  # without an end: it would never expire
        {"state": "failed", "ended": float("inf")},
        {"made": "yesterday"},
        {"made": float("nan")},
        {"tries": "1"},
        {"name": None},
        {"options": []},
        {"input": {"bytes": 1}},
        {"input": []},
        {"more": 1},
    ],
)
def test_records_that_make_no_sense_are_no_jobs(tmp_path, changes):
    store = Store(tmp_path)
    sound, job = kept(store), kept(store)
    record = store.path(job) / RECORD
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))
    assert [found.id for found in store.load()] == [sound.id]
    assert [path.name for path in tmp_path.iterdir()] == [sound.id]


def test_a_record_nested_too_deep_is_no_job(tmp_path):
    store = Store(tmp_path)
    (store.path(kept(store)) / RECORD).write_text("[" * 200_000)
    assert store.load() == []


def test_links_are_never_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    store = Store(tmp_path / "jobs")
    instead, beside = kept(store), kept(store, state="done", ended=1.0, result={"name": "a.png"})
    (store.path(instead) / "input").unlink()
    (store.path(instead) / "input").symlink_to(secret)
    (store.path(beside) / "result").symlink_to(secret)
    (store.folder / ("x" * 22)).symlink_to(tmp_path, target_is_directory=True)
    assert [job.id for job in store.load()] == [beside.id]
    assert not (store.path(beside) / "result").exists()
    assert secret.read_text() == "secret"


def test_an_end_in_the_middle_of_writing_leaves_the_record_as_it_was(tmp_path, monkeypatch):
    store = Store(tmp_path)
    job = kept(store)
    job.state = "running"

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", cut_off)
        with pytest.raises(KeyboardInterrupt):
            store.save(job)
    assert json.loads((store.path(job) / RECORD).read_text())["state"] == "queued"


def test_ids_are_random_and_folders_closed_to_others(tmp_path):
    store = Store(tmp_path / "jobs")
    found = [store.begin() for _ in range(50)]
    assert len({identity for identity, _ in found}) == 50
    assert all(ID.fullmatch(identity) for identity, _ in found)
    assert {path.stat().st_mode & 0o077 for path in (store.folder, *(path for _, path in found))} <= {0}


def test_what_a_client_is_told():
    job = job_of("x" * 22, state="queued")
    job.done, job.left, job.step = 0.5, 3.0, "fitting"
    told = job.told(ahead=4, keep_seconds=60)
    assert (told["ahead"], told["done"], told["left"], told["step"], told["expires"]) == (4, None, None, None, None)
    job.state, job.began = "running", 1.0
    told = job.told(ahead=None, keep_seconds=60)
    assert (told["ahead"], told["done"], told["left"], told["step"]) == (None, 0.5, 3.0, "fitting")
    assert told["seconds"] > 1000
    job.state, job.ended = "done", 11.0
    told = job.told(ahead=None, keep_seconds=60)
    assert (told["done"], told["seconds"], told["expires"]) == (None, 10.0, 71.0)
    assert {"tries", "made", "ended"}.isdisjoint(told)
