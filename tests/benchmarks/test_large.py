"""The benchmark of large pictures runs, and its tables follow from its record."""

from __future__ import annotations

import numpy as np

from benchmarks import large, report_large
from benchmarks.record import ROOT, read
from moesaic import read_picture


def test_the_tables_of_the_docs_are_those_of_the_record():
    page = (ROOT / "docs" / "large.md").read_text("utf-8")
    records = {name: read(ROOT / "benchmarks" / "results" / f"{name}.json") for name in report_large.NAMES}
    for name, text in report_large.blocks(records).items():
        assert text in page, name


def test_without_records_it_says_so():
    assert all("Not measured" in text for text in report_large.blocks({}).values())


def test_the_picture_has_no_two_equal_places(tmp_path):
    large.synthesise(tmp_path / "a.png", 700, block=128)
    pixels = read_picture(tmp_path / "a.png").pixels
    assert pixels.shape == (700, 700, 3)
    assert not np.array_equal(pixels[:128, :128], pixels[256:384, :128])
    assert np.abs(pixels[:128, :128] - pixels[256:384, :128]).mean() < 8 / 255
    assert np.abs(pixels[:128] - pixels[128:256][::-1]).mean() < 8 / 255


def test_rows_of_two_ways_and_of_what_is_ended(tmp_path):
    words = ["--megapixels", "1", "--whole", "1", "--verbs", "decode", "--others", "0", "--results", str(tmp_path)]
    large.main(words)
    record = read(tmp_path / "large_pictures.json")
    one, other = record["results"]["streaming"].values()
    assert (one["way"], other["way"]) == ("bands", "whole")
    assert one["code"] == other["code"] == 0
    assert one["peak_mib"] > 50
    text = report_large.blocks({"large_pictures": record})
    assert f"| decode | 1 | {one['peak_mib']} |" in text["large streaming"]
    assert "Not measured" in text["large others"]
    ended = large.measure(tmp_path, large.STREAMING["decode"], 1, "bands", 0.01)
    assert ended == {"seconds": None, "peak_mib": None, "code": None}
