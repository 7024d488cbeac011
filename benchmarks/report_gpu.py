"""The marked blocks of docs/gpu.md, from the records alone: `python -m benchmarks.report_gpu` renews them."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import gpu_work
from benchmarks.pages import renew
from benchmarks.record import RESULTS, ROOT, Row, read, rows
from benchmarks.tables import origin, table

NAMES = ("gpu", "gpu_resources", "render")
DATASHEET = {"copy_gb_per_s": 4800.0, "fma_gflops": 67000.0}  # of an H200, by its maker: leads, not measurements
PIXELS, EXPERTS = 768 * 512, 10_000
UNMEASURED = "not measured yet"
Records = dict[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the records are")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where the pages are")
    asked = options.parse_args(arguments)
    paths = {name: asked.results / f"{name}.json" for name in NAMES}
    records = {name: read(path) if path.exists() else None for name, path in paths.items()}
    renew(asked.docs / "gpu.md", blocks(records))


def blocks(records: Records) -> dict[str, str]:
    """What stands between the marks, by name of the mark."""
    return {"gpu targets": _targets(records["gpu"]), "gpu work": _work(records), "gpu registers": _registers(records)}


def _targets(record: Row | None) -> str:
    found = _reached(record) if record else {}
    named = {
        "exactness against float64": "picture 1e-4, each gradient 1e-3 in relative norm",
        "render, 768x512, 10,000 experts": "at least 5,000 frames/s",
        "one gradient step, against compiled plain torch": "at least 5 times faster",
        "fit of a Kodak picture, 10,000 experts": "the CPU's quality in at most 1 s",
        "24 Kodak pictures fitted at once": "less than 5 s",
        "7680x4320, 500,000 experts, fitted and drawn": "within 16 GiB",
    }
    body = [[what, target, found.get(what, UNMEASURED)] for what, target in named.items()]
    said = table(["what", "target", "on a device"], body)
    return f"{said}\n\n{origin(record, 'gpu')}" if record else said


def _reached(record: Row) -> dict[str, str]:
    """What a run measured, by row of the table."""
    found = {}
    for row in rows(record, "exactness"):
        worst = max(row[name] for name in ("centres", "factors", "log_priors", "colours"))
        found["exactness against float64"] = f"{row['picture']:g}, {worst:g}"
    for row in rows(record, "render"):
        words = (
            f"{row['draw_frames_per_s']:,.0f} frames/s; with lists made anew {row['list_and_draw_frames_per_s']:,.0f}"
        )
        share = f"{100 * row['share_of_arithmetic']:.0f} % of arithmetic, {100 * row['share_of_bandwidth']:.0f} %"
        found["render, 768x512, 10,000 experts"] = f"{words}; {share} of bandwidth"
    for row in rows(record, "step"):
        share = f"{100 * row['share_of_arithmetic']:.0f} % of arithmetic, {100 * row['share_of_bandwidth']:.0f} %"
        words = f"{row['times_faster']:g} times ({row['step_ms']:.3f} ms); {share} of bandwidth"
        found["one gradient step, against compiled plain torch"] = words
    for row in rows(record, "fit"):
        if "pictures" in row and row["cpu_psnr"] is not None:
            words = f"{row['seconds']:.2f} s, {row['psnr_where_cpu']:.2f} dB (CPU {row['cpu_psnr']:.2f} dB)"
            found["fit of a Kodak picture, 10,000 experts"] = words
    for row in rows(record, "batch"):
        words = f"{row['pictures']} in {row['seconds']:.2f} s, {row['psnr']:.2f} dB, {row['peak_gib']:.1f} GiB"
        found["24 Kodak pictures fitted at once"] = words
    for row in rows(record, "large"):
        words = f"{row['peak_gib']:.1f} GiB, {row['seconds']:.1f} s, drawn in {row['render_ms']:.0f} ms"
        found["7680x4320, 500,000 experts, fitted and drawn"] = words
    return found


def _work(records: Records) -> str:
    pairs = [row["work"]["pairs"] for row in rows(records["render"], "speed") if row["experts"] == EXPERTS]
    if not pairs:
        return "No record of the number of pairs yet."
    count = round(sum(pairs) / len(pairs))
    limits, told = (
        DATASHEET,
        "by the datasheet of an H200 (4.8 TB/s, 67 TFLOP/s), which nobody has measured for this page",
    )
    for row in rows(records["gpu"], "ceilings"):
        limits, told = row, "by the ceilings measured in the same run"
    body = []
    kinds = {"a frame": gpu_work.frame(count, PIXELS), "a step of a fit": gpu_work.step(count, PIXELS, EXPERTS)}
    for what, work in kinds.items():
        floors = gpu_work.shares(work, 1.0, limits)
        times = (f"{1e3 * floors[name]:.1f}" for name in ("floor_by_bytes_ms", "floor_by_flops_ms"))
        body.append([what, f"{work['bytes'] / 1e6:.1f}", f"{work['flops'] / 1e9:.2f}", *times])
    head = ["768x512, 10,000 experts", "MB moved", "GFLOP", "floor by bytes, us", "floor by arithmetic, us"]
    words = f"{count:,} pairs of kernel and tile (exact lists of a fit of Kodak). Floors {told}."
    return f"{table(head, body)}\n\n{words}"


def _registers(records: Records) -> str:
    record = records["gpu_resources"]
    if record is None:
        return "No record yet."
    body = []
    for row in rows(record, "kernels"):
        kind = f"{row['C']} / {row['ORDER']}" if "C" in row else f"{row['K']} sums" if "K" in row else "-"
        name = row["kernel"] + (", comparing" if row.get("COMPARE") else "")
        held = min(65536 // (row["registers"] * 32 * row["warps"]), 64 // row["warps"], 32)
        spilled = row["stack"] + row["local"]
        body.append([name, kind, *(str(n) for n in (row["warps"], row["registers"], spilled, row["shared"], held))])
    head = [
        "kernel",
        "channels / order",
        "warps",
        "registers",
        "spilled bytes",
        "shared bytes",
        "programs at once on a multiprocessor",
    ]
    told = f"Compiled for {record['settings']['architecture']} by Triton {record['settings']['triton']}."
    return f"{table(head, body)}\n\n{told} {origin(record, 'gpu_resources')}"


if __name__ == "__main__":
    main()
