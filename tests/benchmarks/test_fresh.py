"""The benchmark of commands in processes of their own runs, and its tables follow from its record."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks import fresh
from benchmarks.record import ROOT, read
from benchmarks.report_predict import blocks


def test_two_checkouts_take_turns(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    monkeypatch.setattr(fresh, "KERNELS", (20,))
    places = ["--pictures", str(tmp_path), "--results", str(tmp_path / "out"), "--beside", str(ROOT)]
    fresh.main([*places, "--turns", "2", "--verbs", "info"])
    record = read(tmp_path / "out" / "fresh.json")
    (command,), (running,) = (record["results"][section].values() for section in ("fresh", "running"))
    for row, turns in ((command, 2), (running, 5)):
        assert row["now"]["turns"] == row["before"]["turns"] == turns
        assert row["now"]["median_ms"] > 0
    assert record["settings"]["before"] == record["commit"]
    text = blocks({"fresh": record}, tmp_path)["predict fresh"]
    assert "| `info` |" in text
    assert "| 20 kernels |" in text
    assert f"Before: commit {record['commit'][:10]}." in text


def test_without_a_record_it_says_so(tmp_path):
    assert "Not measured" in blocks({}, tmp_path)["predict fresh"]
