"""The tables of docs/predict.md follow from the records, and say so where there is none."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks.record import ROOT
from benchmarks.report_predict import at_clock, blocks


def point(way, seconds, psnr):
    return {"way": way, "seconds": seconds, "psnr": psnr, "ssim": 0.9, "psnr_unrounded": psnr, "experts": 100}


def record(results, name="predict"):
    machine = {"processor": "p", "vectors": "v", "architecture": "a", "cores": 2, "memory_gib": 1, "system": "s"}
    return {
        "schema": 1, "name": name, "commit": "0" * 40, "dirty": False, "date": "2026-01-01", "machine": machine,
        "commands": ["c"], "versions": {}, "settings": {}, "results": results,
    }  # fmt: skip


@pytest.fixture
def measured():
    points = [
        point("fit/1", 0.05, 20.0),
        point("fit/50", 0.4, 28.0),
        point("segments/10", 0.3, 25.0),
        point("even/10", 0.3, 19.0),
        point("predict/8", 0.2, 29.0),
        point("refine/50", 0.6, 31.0),
        point("early/1+8", 0.15, 28.5),
        point("bent/8", 0.4, 28.8),
    ]
    files = [{"experts": 10000, "refine": n, "seconds": 0.5, "bytes": 1, "bpp": b, "psnr": 30.0, "ssim": 0.9}
             for n in (0, 50) for b in (0.2, 2.0)]  # fmt: skip
    plain = [one for one in points if one["way"].split("/")[0] in ("fit", "predict", "refine")]
    picture = {"picture": "a", "width": 10, "height": 10, "experts": 5}
    return record(
        {
            "curve": {"a": {"picture": "a", "points": points}, "b": {"picture": "b", "points": points}},
            "long": {"a": {"picture": "a", "points": [point("fit/5 s", 5, 33.0), point("refine/5 s", 5, 34.0)]}},
            "rates": {"a": {"picture": "a", "files": files}},
            "kinds": {"a": picture | {"points": plain}},
            "large": {"a": picture | {"points": plain}},
        }
    )


def test_the_best_point_that_is_there_by_then_counts():
    points = [point("x", 0.1, 20.0), point("x", 0.2, 25.0), point("x", 0.3, 24.0)]
    assert math.isnan(at_clock(points, 0.05))
    assert [at_clock(points, seconds) for seconds in (0.1, 0.25, 9.0)] == [20.0, 25.0, 25.0]


def test_methods_are_compared_at_the_same_clock(measured, tmp_path):
    text = blocks({"predict": measured}, tmp_path)["predict clock"]
    assert "| 0.3 s | 29.00 | 25.00 | +4.00 ± 0.00 | 2 of 2 | - | - | - |" in text
    assert "| 0.5 s | 29.00 | 28.00 | +1.00 ± 0.00 | 2 of 2 | 28.80 | +0.20 ± 0.00 | 2 of 2 |" in text
    assert "| 0.1 s |" not in text  # nothing predicted is there yet
    assert (tmp_path / "predict_time.png").stat().st_size > 1000


def test_all_other_tables(measured, tmp_path):
    made = blocks({"predict": measured}, tmp_path)
    assert "34.00 / 33.00" in made["predict long"]
    assert "30.00" in made["predict files"]
    assert "a, 10x10, 5 kernels" in made["predict kinds"]
    assert "a, 10x10, 5 kernels" in made["predict large"]


def test_arms_are_told_with_their_spread(tmp_path):
    rows = {
        name: {"arm": name, "seeds": [{}, {}], "mean": [20.0 + k for k in range(8)], "spread": [0.01] * 8}
        for name in ("shipped", "blind")
    }
    text = blocks({"predict_arms": record({"arms": rows}, "predict_arms")}, tmp_path)["predict arms"]
    assert "27.00 ± 0.010" in text
    assert "+0.00" in text


def test_without_records_the_page_says_what_to_run(tmp_path):
    for text in blocks({}, tmp_path).values():
        assert "Not measured" in text


def test_the_page_has_a_place_for_every_block(measured, tmp_path):
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    marks = set(re.findall(r"<!-- (predict \w+) -->", page))
    assert marks == set(blocks({"predict": measured}, tmp_path))
