"""The log: a line is on the disk at once, and a resumed run leaves none of a future that did not happen."""

from __future__ import annotations

import math

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
