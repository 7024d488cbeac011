"""Checkpoints: there is always a whole one, and only that of the same recipe is taken."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
import torch

from moesaic.errors import ArgumentError, TrainingError
from moesaic.training.checkpoint import Checkpoints, check_same


def test_keeps_the_last_and_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() is None
    assert not checkpoints.exist()
    for step in (1, 2, 3):
        checkpoints.save({"step": step, "weights": {"a": torch.full((2,), float(step))}})
    assert checkpoints.load()["step"] == 3
    assert torch.load(checkpoints.previous, weights_only=True)["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", b"no checkpoint"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1})
    checkpoints.save({"step": 2})
    checkpoints.last.write_bytes(damage)
    assert checkpoints.load()["step"] == 1
    checkpoints.previous.write_bytes(damage)
    with pytest.raises(TrainingError, match="no checkpoint can be read"):
        checkpoints.load()


def test_a_crash_between_two_writes_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1})

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("moesaic.training.checkpoint.atomic_write", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save({"step": 2})
    assert checkpoints.exist()
    assert checkpoints.load()["step"] == 1


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ("a checkpoint ran code",))


def test_nothing_in_a_checkpoint_runs(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.last.write_bytes(pickle.dumps(_Trap(), protocol=2))
    with pytest.raises(TrainingError):
        checkpoints.load()
    torch.save({"step": _Trap()}, checkpoints.last)
    with pytest.raises(TrainingError):
        checkpoints.load()


def test_removing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1})
    checkpoints.save({"step": 2})
    checkpoints.remove()
    assert not checkpoints.exist()


def test_differences_are_named(tmp_path):
    check_same({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, tmp_path)
    with pytest.raises(TrainingError, match=r"a was 1 and is now 2; c was None and is now 'new'; repeat"):
        check_same({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 2, "c": "new"}, tmp_path)
    with pytest.raises(TrainingError, match=r"another recipe: data size was 1 and is now 2; repeat"):
        check_same({"data": {"size": 1, "hash": "a"}}, {"data": {"size": 2, "hash": "a"}}, tmp_path)


def test_other_objects_and_folders_are_no_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    torch.save(5, checkpoints.last)
    checkpoints.previous.mkdir()
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: int, checkpoint\.previous\.pt: IsADirectoryError"):
        checkpoints.load()
    with pytest.raises(ArgumentError, match=r"cannot remove .*checkpoint\.previous\.pt"):
        checkpoints.remove()


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for _ in range(2):
            with pytest.raises(ArgumentError, match=r"cannot write .*checkpoint\.pt: No space left"):
                checkpoints.save({"step": 2})
    assert checkpoints.load()["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.previous.pt"]


def test_what_killed_processes_left_half_written_goes(tmp_path):
    names = [".checkpoint.pt.0123456789ab.part", ".model.safetensors.ba9876543210.part", "mine.part", ".lock"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    Checkpoints(tmp_path).tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "mine.part"]
