"""The benchmarks of the page run, and their tables follow from their records."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import report_page, zoom
from benchmarks.record import ROOT, read


def test_the_tables_of_the_docs_are_those_of_the_records():
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    records = {name: read(ROOT / "benchmarks" / "results" / f"{name}.json") for name in report_page.NAMES}
    for name, text in report_page.blocks(records).items():
        assert text in page, name


def test_without_records_it_says_so():
    assert all("Not measured" in text for text in report_page.blocks({}).values())


def test_a_burst_of_uploads(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from benchmarks import serve

    serve.main(["--people", "3", "--workers", "1", "--turns", "1", "--results", str(tmp_path)])
    (row,) = read(tmp_path / "serve.json")["results"]["load"].values()
    assert row["done"] == 3
    assert 0 < row["taken"]["least_ms"] <= row["taken"]["most_ms"] <= 1e3 * row["all_done_s"]
    text = report_page.blocks({"serve": read(tmp_path / "serve.json")})["serve load"]
    assert "| 3 | 3 |" in text


def test_the_zoom(tmp_path):
    pytest.importorskip("playwright")
    if not any(map(shutil.which, zoom.CHROMIUMS)):
        pytest.skip("there is no Chromium")
    zoom.main(["--quick", "--results", str(tmp_path)])
    record = read(tmp_path / "zoom.json")
    assert {row["made"] for row in record["results"]["resting"].values()} == set(zoom.MADE)
    for row in record["results"]["resting"].values():
        assert row["kernels_per_pixel"] >= 1
    assert "| predicted | zoom, adaptive |" in report_page.blocks({"zoom": record})["serve zoom"]


def test_estimates_follow_from_counts():
    found = zoom.estimate(3e9 / zoom.TEXELS, {"texels_per_s": 3e9, "fma_per_s": 1e30})
    assert found == {"by_texels_ms": 1000.0, "by_operations_ms": 0.0}
