"""The tables of upscaling say what the records say, and what is missing."""

from __future__ import annotations

import pytest

from benchmarks import report_upscale
from benchmarks.upscale_sets import SORTS

METHODS = {"bicubic": 25.0, "lanczos": 25.2, "moesaic": 26.0}


def record(**results):
    machine = {"processor": "a processor", "vectors": "AVX", "cores": 2, "memory_gib": 24, "system": "Linux"}
    told = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-01-01", "commands": ["python -m x"]}
    return {"machine": machine, "settings": {}, "results": results} | told


def scores(psnr):
    return {"psnr_y": psnr, "psnr_rgb": psnr - 2, "ssim_y": 0.8, "haar_psi": 0.9, "seconds": 1.0}


def picture(name, sort, *, ranks, severity, **further):
    methods = {method: scores(value) for method, value in (METHODS | further).items()}
    told = {"ranks": ranks, "severity": severity, "scores": {"noise": severity, "blur": 0.1}}
    return {"set": "Set5", "sort": sort, "scale": 4, "picture": name, "methods": methods} | told


@pytest.fixture
def pictures():
    rows = {f"{i}": picture(f"p{i}", "bicubic", ranks=90 + i, severity=0.1 * i) for i in range(4)}
    return rows | {"s": picture("s", "severe", ranks=100, severity=0.9, moesaic=24.0, mixtures=25.5)}


def test_without_records_each_block_says_what_to_run(tmp_path):
    for text in report_upscale.blocks({}, tmp_path).values():
        assert text.startswith(("Not measured: ", "Not drawn: "))
        assert "python -m benchmarks.upscale" in text


def test_the_verdict_is_by_sort_and_counts_pictures(pictures, tmp_path):
    lines = report_upscale.blocks({"upscale": record(pictures=pictures)}, tmp_path)["upscaling verdict"].splitlines()
    assert any(line.startswith("| bicubic x4 (4) | +1.00") and "| 4 of 4 |" in line for line in lines)
    assert any(line.startswith("| severe x4 (1) | -1.00") and "| 0 of 1 |" in line for line in lines)


def test_tables_of_sets_mixtures_and_ranks(pictures, tmp_path):
    found = report_upscale.blocks({"upscale": record(pictures=pictures)}, tmp_path)
    assert "| Set5, bicubic x4 (4) | 25.00 / 0.8000 / 0.9000 | 25.20" in found["upscaling sets"]
    assert "| Set5, severe x4 (1) | 25.50 / 0.8000 / 0.9000 | 24.00" in found["upscaling mixtures"]
    assert "bicubic x4" not in found["upscaling mixtures"]
    assert "rank correlation of active ranks and severity is +1.00" in found["upscaling ranks"]
    assert "| severe x4 (1) | 0.90 | 0.10 | 0.90 | 100.0 | 100 to 100 |" in found["upscaling ranks"]


def arm(ahead, seeds=3):
    row = {"psnr_y": 25.0 + ahead["mean"], "spread": 0.01, "ahead": ahead, "ranks": 7.0}
    return dict.fromkeys((*SORTS, "all"), row) | {"seeds": seeds, "told": "estimator", "parameters": 700_000}


def test_arms_are_said_to_be_ahead_behind_or_neither(tmp_path):
    def interval(low, high):
        return {"mean": (low + high) / 2, "low": low, "high": high, "least": low, "most": high}

    arms = {"mor": arm(interval(0, 0)), "oracle": arm(interval(0.1, 0.3)), "constant": arm(interval(-0.3, -0.1))}
    arms["shuffled"] = arm(interval(-0.1, 0.1))
    found = report_upscale.blocks({"upscale_arms": record(arms=arms)}, tmp_path)
    lines = found["upscaling scores matter"].splitlines()
    assert [line for line in lines if "true scores: **better**; bicubic +0.20 [+0.10, +0.30]" in line]
    assert [line for line in lines if "told 0.5 of every picture: **worse**" in line]
    assert [line for line in lines if "another picture: no difference" in line]
    assert "| `oracle` (3) | 0.700 | 25.200 ± 0.010" in found["upscaling arms"]


def test_what_a_severity_does(tmp_path):
    psnr = {"bicubic": 27.0, "estimated": 26.0, "severity 1": 27.5}
    record_ = record(
        by_hand={"0": {"severity": 0.0, "ranks": 0}, "0.5": {"severity": 0.5, "ranks": 119}},
        worst={"a": {"picture": "Kodak/medium/a", "psnr_y": psnr}},
        jpeg={"40": {"quality": 40, "pictures": 6, "psnr_y": psnr, "ranks": 27.3}},
    )
    text = report_upscale.blocks({"upscale_severity": record_}, tmp_path)["upscaling severity"]
    assert "by the severity that is set: 0: 0, 0.5: 119." in text
    assert "| Kodak/medium/a | 27.00 | 26.00 | 27.50 |" in text
    assert "| quality 40 (6) | 27.00 | 26.00 | 27.50 | 27.3 |" in text


def test_speed_and_diffusion(tmp_path):
    small = {"a": {"size": "256x256", "scale": 4, "threads": 2, "seconds": {"mixtures": 8.0, "moesaic": 1.0}}}
    large = {"x4": {"size": "4000x3000", "scale": 4, "threads": 2, "seconds": 200, "peak_mib": 900, "before_mib": 300}}
    seams = {"192": {"tile": 192, "difference": 1 / 255}}
    speed = record(small=small, large=large, seams=seams)
    text = report_upscale.blocks({"upscale_speed": speed}, tmp_path)["upscaling speed"]
    assert "| 256x256 x4, 2 | 8.00 | 1.00 |" in text
    assert "| 4000x3000 x4, 2 | 200 | 900 (300) |" in text
    assert "at most 1.0000 of 255 levels" in text
    tiny = record(
        training={"tiny": {"seconds": 120, "parameters": {"unet": 1000, "vae": 500}, "ranks": 30}},
        pictures={"a": {"sort": "severe", "picture": "a", "psnr_y": {"bicubic": 20.0, "with ranks": 21.0}}},
        seams={"96": {"tile": 96, "meeting": 0.0, "apart": 10 / 255}},
    )
    tiny["settings"] = {"steps": {"autoencoder": 5, "ranks": 2}}
    text = report_upscale.blocks({"upscale_diffusion": tiny}, tmp_path)["upscaling diffusion"]
    assert "| severe x4 (1) | 20.00 | 21.00 |" in text
    assert "Trained for 7 steps on a CPU: 1,500 parameters and 30 of ranks" in text
    assert "in tiles that each go through alone, 10.0" in text
    assert "images/" not in text
