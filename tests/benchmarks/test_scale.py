"""The benchmark of batches runs, and the tables of docs/scale.md follow from its record."""

from __future__ import annotations

import sys

import pytest

from benchmarks import report_scale
from benchmarks.record import ROOT, read


def test_the_tables_of_the_docs_are_those_of_the_record():
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    record = read(ROOT / "benchmarks" / "results" / "batch.json")
    for name, text in report_scale.blocks({"batch": record}).items():
        assert text in page, name


def test_without_a_record_it_says_so():
    assert all("Not measured" in text for text in report_scale.blocks({}).values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray is in trial there")
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_all_arms(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from benchmarks import batch

    monkeypatch.setenv("RAY_ADDRESS", "local")
    batch.main(["--count", "8", "--small", "20", "--turns", "1", "--verbs", "restore", "--results", str(tmp_path)])
    record = read(tmp_path / "batch.json")
    assert {row["arm"] for row in record["results"]["throughput"].values()} == set(batch.ARMS)
    for row in record["results"]["throughput"].values():
        assert 0 < row["first_s"] < row["all_s"]
        assert row["rate"] > 0
    assert all(row["each_ms"] > 0 for row in record["results"]["overhead"].values())
    assert "| restore | two on Ray |" in report_scale.blocks({"batch": record})["scale throughput"]


def test_a_million_follows_from_the_rate():
    rates = {"a": 10.0, "b": 0.5}
    record = {
        "results": {
            "overhead": {"one worker/0": {"arm": "one worker", "first_s": 1.0, "each_ms": 2.0, "kept_each_ms": 0.1}},
            "throughput": {
                f"{verb}/{arm}": {"verb": verb, "arm": arm, "rate": rate, "first_s": 1.0}
                for verb, rate in rates.items()
                for arm in ("one worker", "two workers")
            },
        }
    }
    text = report_scale._million(record)
    assert "| a | 56 | 27.8 h | 52 min | 3 min | $2.22 |" in text
    assert "| b | 1,111 | 23.1 days | 17.4 h | 1.1 h | $44.44 |" in text
