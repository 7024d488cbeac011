"""The blocks of docs/gpu.md: from records where they are, and plain about what was not measured."""

from __future__ import annotations

from benchmarks import report_gpu
from benchmarks.record import RESULTS, ROOT, read

RECORDS = dict.fromkeys(report_gpu.NAMES)
MACHINE = {"processor": "x", "vectors": "y", "cores": 1, "memory_gib": 1, "system": "z"}


def record(**results):
    """What a record holds, as far as a report reads it."""
    settings = {"architecture": "sm_90", "triton": "3"}
    head = {"machine": MACHINE, "commit": "0" * 40, "dirty": False, "commands": ["c"], "date": "d"}
    return head | {"settings": settings, "results": results}


def test_without_records_nothing_is_claimed():
    found = report_gpu.blocks(RECORDS)
    assert found["gpu targets"].count("not measured yet") == 6
    assert "No record" in found["gpu work"]
    assert "No record" in found["gpu registers"]


def test_a_run_fills_the_targets():
    shares = {"share_of_arithmetic": 0.5, "share_of_bandwidth": 0.25}
    run = record(
        ceilings={"device": {"copy_gb_per_s": 4000.0, "fma_gflops": 50000.0}},
        exactness={"a": {"picture": 1e-6, "centres": 1e-5, "factors": 2e-5, "log_priors": 0.0, "colours": 0.0}},
        render={"a": {"draw_frames_per_s": 9000.0, "list_and_draw_frames_per_s": 6000.0, **shares}},
        step={"a": {"times_faster": 7.5, "step_ms": 0.1, **shares}},
        fit={"mean": {"pictures": 2, "seconds": 0.5, "psnr_where_cpu": 36.0, "cpu_psnr": 36.1}},
        batch={"all": {"pictures": 24, "seconds": 3.0, "psnr": 36.0, "peak_gib": 1.5}},
        large={"a": {"peak_gib": 9.0, "seconds": 20.0, "render_ms": 5.0}},
    )
    drawn = record(speed={"a": {"experts": 10_000, "work": {"pairs": 80_000}}})
    found = report_gpu.blocks(RECORDS | {"gpu": run, "render": drawn})
    assert "not measured yet" not in found["gpu targets"]
    for words in ("1e-06, 2e-05", "9,000 frames/s", "7.5 times", "50 % of arithmetic", "36.00 dB (CPU 36.10 dB)"):
        assert words in found["gpu targets"]
    assert "80,000 pairs" in found["gpu work"]
    assert "measured in the same run" in found["gpu work"]


def test_registers_are_listed_by_kernel():
    row = {"kernel": "forward", "C": 3, "ORDER": 0, "COMPARE": 1, "warps": 2, "registers": 64, "stack": 0, "local": 0}
    summed = {"kernel": "gather", "K": 9, "warps": 1, "registers": 72, "stack": 8, "local": 0, "shared": 256}
    kernels = {"a": row | {"shared": 0}, "b": summed}
    found = report_gpu.blocks(RECORDS | {"gpu_resources": record(kernels=kernels)})["gpu registers"]
    assert "| forward, comparing | 3 / 0 | 2 | 64 | 0 | 0 | 16 |" in found
    assert "| gather | 9 sums | 1 | 72 | 8 | 256 | 28 |" in found


def test_the_page_says_what_the_records_say():
    records = {name: read(p) if (p := RESULTS / f"{name}.json").exists() else None for name in report_gpu.NAMES}
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    for name, text in report_gpu.blocks(records).items():
        assert f"<!-- {name} -->\n{text}\n<!-- end of {name} -->" in page
