"""The log: a line is on the disk at once, and a resumed run leaves none of a future that did not happen."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from moesaic.errors import ArgumentError
from moesaic.training.log import Log, read_log


def test_lines_are_there_at_once(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.write("step", 1, loss=0.5, figures={"a": [math.inf, 1.0]})
    log.write("step", 2, loss=math.nan)
    assert read_log(tmp_path / "log.jsonl") == [
        {"event": "step", "step": 1, "loss": 0.5, "figures": {"a": [None, 1.0]}},
        {"event": "step", "step": 2, "loss": None},
    ]
    log.close()


def test_resuming_drops_later_and_torn_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    log = Log(path)
    for step in (1, 2, 3):
        log.write("step", step)
    log.close()
    with path.open("a") as file:
        file.write('{"event": "step", "st')
    log = Log(path, step=2)
    log.write("resumed", 2)
    log.close()
    assert [(line["event"], line["step"]) for line in read_log(path)] == [("step", 1), ("step", 2), ("resumed", 2)]


def test_lines_of_another_kind_are_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [b"\xff\xfe", b'{"step": null}', b'{"step": "x"}', b"[1]", b"[" * 100_000, b'{"event": "kept", "step": 1}']
    path.write_bytes(b"\n".join(lines))
    Log(path, step=2).close()
    assert [line["event"] for line in read_log(path)] == ["kept"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_full_disk_is_told(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log._file.close()
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        log._file = full
        with pytest.raises(ArgumentError, match=r"cannot write .*log\.jsonl: No space left"):
            log.write("step", 1)
        log.close()


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(ArgumentError, match="cannot write"):
        Log(tmp_path)
