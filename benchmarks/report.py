"""docs/benchmarks.md, its tables and plots, and the marked blocks of other pages, from the records alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    pages,
    plots,
    report_denoise,
    report_enlarge,
    report_fit,
    report_gpu,
    report_rates,
    report_render,
    report_segment,
    report_starts,
)
from benchmarks.floors import Floor, all_floors
from benchmarks.record import RESULTS, ROOT, Row, read
from benchmarks.tables import short, table

NAMES = (
    *("fit", "rate_distortion", "render", "gpu", "gpu_resources"),
    *(*report_segment.NAMES, *report_denoise.NAMES, *report_starts.NAMES, *report_enlarge.NAMES),
)
OPENING = """# Benchmarks

Made by `make report` from the records in `benchmarks/results/`; do not edit by hand. `make bench` measures fits,
rates and rendering anew (about two hours on two cores). Each table names the record, the command and the commit that it
comes from.

Conventions: RGB PSNR over all pixels and channels, one mean square error a picture, on arrays clipped and rounded to
8 bits; a set's value is the mean of its pictures' dB. SSIM with a Gaussian window of sigma 1.5. Bits per pixel (bpp)
are those of the whole file. Times are wall-clock times.
"""


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the records are")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where benchmarks.md goes")
    asked = options.parse_args(arguments)
    records: dict[str, Row | None] = {}
    for name in NAMES:
        path = asked.results / f"{name}.json"
        records[name] = read(path) if path.exists() else None
    images = plots.draw_all(records, asked.docs / "images")
    asked.docs.mkdir(parents=True, exist_ok=True)
    (asked.docs / "benchmarks.md").write_text(text(records, images), encoding="utf-8")
    pages.renew(asked.docs / "enlarging.md", report_enlarge.blocks(records))
    pages.renew(asked.docs / "segmentation.md", report_segment.blocks(records))
    pages.renew(asked.docs / "gpu.md", report_gpu.blocks(records))
    pages.renew(asked.docs / "denoising.md", report_denoise.blocks(records) | report_starts.blocks(records))


def text(records: dict[str, Row | None], images: dict[str, str]) -> str:
    """The whole page."""
    parts = [
        OPENING,
        _floors(all_floors(records)),
        *report_fit.section(records.get("fit"), images),
        *report_render.section(records.get("render"), images),
        *report_rates.section(records.get("rate_distortion"), images),
        *report_rates.classics(records.get("rate_distortion")),
        *report_segment.section(records),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _floors(floors: list[Floor]) -> str:
    body = []
    for floor in floors:
        met = {True: "yes", False: "**no**", None: "-"}[floor.met]
        asked = f"{'<=' if floor.at_most else '>='} {floor.asked:g} {floor.unit}".strip()
        body.append(
            [floor.what, asked + (" (aim)" if floor.aim else ""), short(floor.reached, floor.unit), floor.on, met]
        )
    return "## What was asked and what is reached\n\n" + table(["what", "asked", "reached", "over", "met"], body)


if __name__ == "__main__":
    main()
