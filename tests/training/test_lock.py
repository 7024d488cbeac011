"""One run in a folder at a time, whatever became of the one before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from moesaic.errors import ArgumentError, TrainingError
from moesaic.training.lock import alone_in

_HOLDS = """
import sys, time
from pathlib import Path
from moesaic.training.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_is_refused(tmp_path):
    with alone_in(tmp_path):
        told = rf"another run is training in this folder \(process {os.getpid()}\)"
        with pytest.raises(TrainingError, match=told), alone_in(tmp_path):
            pytest.fail("two at once")
        (tmp_path / "log.jsonl").write_text("")
    with alone_in(tmp_path):  # free again
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_the_refusal_is_the_caller_s(tmp_path):
    def refusal(folder, holder):
        return ArgumentError(f"{folder} is taken{holder}")

    taken = pytest.raises(ArgumentError, match=rf"taken \(process {os.getpid()}\)")
    with alone_in(tmp_path), taken, alone_in(tmp_path, refusal):
        pytest.fail("two at once")


def test_a_killed_process_leaves_no_lock(tmp_path):
    with subprocess.Popen([sys.executable, "-c", _HOLDS, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(TrainingError, match=rf"process {child.pid}\)"), alone_in(tmp_path):
            pytest.fail("two at once")
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (tmp_path / ".lock").exists()  # a file without a holder
    with alone_in(tmp_path):
        pass


def test_a_folder_in_which_nothing_came_to_be_goes_again(tmp_path):
    with pytest.raises(KeyError), alone_in(tmp_path / "run"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path / "run"):
        (tmp_path / "run" / "log.jsonl").write_text("")
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_what_lies_in_the_file_does_not_matter(tmp_path):
    (tmp_path / ".lock").write_bytes(b"\xff" * 100)
    with alone_in(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_file_removed_by_its_last_holder_is_no_lock(tmp_path, monkeypatch):
    """Between opening and locking, the holder before ends and takes the file with it."""
    from moesaic.training import lock

    real, calls = lock._lock, []

    def slow(file):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        return real(file)

    monkeypatch.setattr(lock, "_lock", slow)
    with alone_in(tmp_path), pytest.raises(TrainingError), alone_in(tmp_path):
        pytest.fail("two at once")
    assert len(calls) == 3


@pytest.mark.parametrize("name", ["a file", "a\0b", "x" * 300, "a file/below"])
def test_folders_that_cannot_be(tmp_path, name):
    (tmp_path / "a file").write_text("")
    with pytest.raises(ArgumentError, match="cannot write into"), alone_in(tmp_path / name):
        pytest.fail("no such folder")


def test_a_folder_in_the_place_of_the_lock(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ArgumentError, match="cannot write into"), alone_in(tmp_path):
        pytest.fail("no lock")
