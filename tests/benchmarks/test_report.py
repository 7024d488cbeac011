import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import report
from benchmarks.floors import all_floors
from benchmarks.record import Record


def _times(milliseconds: float) -> dict[str, Any]:
    return {"median_ms": milliseconds, "lower_ms": 1.0, "upper_ms": 1.0, "least_ms": 1.0, "turns": 3}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", ["x"])
    folder = tmp_path / "results"
    fit = Record("fit", settings={}, folder=folder)
    for picture, psnr in (("one", 35.0), ("two", 34.0)):
        row = {
            "picture": picture,
            "experts": 10_000,
            "order": 0,
            "seed": 0,
            "steps": 800,
            "seconds": 11.5,
            "peak_mib": 700,
        }
        row |= {"psnr": psnr, "psnr_unrounded": psnr, "ssim": 0.9}
        fit.put("pictures", picture, row)
        fit.put("curve", picture, row)
        fit.put("seeds", picture, row)
    rates = Record(
        "rate_distortion", settings={"codecs": {"JPEG": {"options": "4:2:0", "library": "x"}}}, folder=folder
    )
    for codec, quality in (("JPEG", (20.0, 40.0)), ("moesaic", (28.0, 32.0))):
        files = [
            {"bytes": 1, "bpp": bpp, "psnr": q, "ssim": q / 50, "encode_ms": 1.0, "decode_ms": 1.0}
            for bpp, q in zip((0.1, 1.6), quality, strict=True)
        ]
        rates.put("curves", codec, {"picture": "one", "codec": codec, "files": files})
    return folder


def _page(results: Path, tmp_path: Path) -> str:
    report.main(["--results", str(results), "--docs", str(tmp_path / "docs")])
    return (tmp_path / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_tables_hold_the_figures_of_the_records_and_name_their_source(results: Path, tmp_path: Path) -> None:
    page = _page(results, tmp_path)
    assert "| fit, 10,000 kernels: PSNR | >= 34.8 dB | 34.50 dB | mean of 2 pictures | **no** |" in page
    assert "| fit, 10,000 kernels: longest | <= 12 s | 11.50 s | worst of 2 pictures | yes |" in page
    assert "From `benchmarks/results/fit.json`: `python -m benchmarks.fit`; commit" in page
    assert "| JPEG (1) | - | 20.00 |" in page


def test_what_was_not_measured_is_said(results: Path, tmp_path: Path) -> None:
    page = _page(results, tmp_path)
    assert "Not measured: `benchmarks/results/render.json` is not there. Run `python -m benchmarks.render`." in page
    assert "`benchmarks/results/rate_distortion.json` has no section `targets`" in page
    empty = tmp_path / "empty"
    assert _page(empty, tmp_path).count("Not measured") >= 5


def test_where_a_classic_codec_wins_is_computed(results: Path, tmp_path: Path) -> None:
    crossed = "- JPEG: moesaic is ahead from 0.10 to 0.40 bpp, JPEG is ahead from 0.40 to 1.60 bpp"
    assert crossed in _page(results, tmp_path)
    path = results / "rate_distortion.json"
    content = json.loads(path.read_text())
    for file in content["results"]["curves"]["moesaic"]["files"]:
        file["psnr"] += 20.0
    path.write_text(json.dumps(content))
    assert "- JPEG: moesaic is ahead from 0.10 to 1.60 bpp (" in _page(results, tmp_path)


def test_plots_are_small_and_go_away_with_their_record(results: Path, tmp_path: Path) -> None:
    page = _page(results, tmp_path)
    images = tmp_path / "docs" / "images"
    assert sorted(p.name for p in images.iterdir()) == [
        "bench_fit_time.png",
        "bench_rate_psnr.png",
        "bench_rate_ssim.png",
    ]
    for path in images.iterdir():
        assert f"](images/{path.name})" in page
        assert path.stat().st_size < 60_000
        with Image.open(path) as image:
            assert image.mode == "P"
    (results / "fit.json").unlink()
    assert "fit_time" not in _page(results, tmp_path)
    assert not (images / "bench_fit_time.png").exists()


def test_the_ratio_leaves_out_rivals_that_draw_another_picture() -> None:
    def rival(milliseconds: float, error: float) -> dict[str, Any]:
        return {
            "render": _times(milliseconds),
            "gradient": _times(milliseconds),
            "error": error,
            "gradient_error": {"x": 0.0},
        }

    row = {"picture": "one", "experts": 10_000, "threads": 2, "same_picture": 0.01}
    row |= {"moesaic": rival(4.0, 1e-6), "rivals": [rival(40.0, 0.5), rival(80.0, 1e-5)]}
    found = {f.what: f for f in all_floors({"render": {"results": {"speed": {"one": row}}}})}
    assert found["render, times as fast as plain torch (exact lists)"].reached == pytest.approx(20.0)
    assert found["render, times as fast as plain torch (exact lists)"].met is True
    assert found["render, times as fast as plain torch (any form)"].reached == pytest.approx(10.0)
    assert found["render, times as fast as plain torch (any form)"].met is False
    assert found["render, 768x512, 10,000 kernels"].reached == 4.0
    assert found["fit, 10,000 kernels: PSNR"].met is None
