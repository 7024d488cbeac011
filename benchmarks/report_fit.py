"""The section on fitting in docs/benchmarks.md."""

from __future__ import annotations

import statistics

from benchmarks.record import Row, rows
from benchmarks.tables import figure, image, origin, table


def section(record: Row | None, images: dict[str, str]) -> list[str]:
    parts = ["## Fitting", origin(record, "fit", "pictures")]
    found = rows(record, "pictures")
    counts = sorted({r["experts"] for r in found}, reverse=True)
    body = []
    for experts in counts:
        mine = [r for r in found if r["experts"] == experts]
        memory = [r["peak_mib"] for r in mine if r["peak_mib"] is not None]
        body.append(
            [
                f"{experts:,}",
                str(len(mine)),
                *(figure(statistics.fmean(r[f] for r in mine), d) for f, d in _QUALITY),
                figure(statistics.fmean(r["seconds"] for r in mine), 1),
                figure(max(r["seconds"] for r in mine), 1),
                str(max(memory)) if memory else "-",
            ]
        )
    if body:
        head = ["kernels", "pictures", "PSNR (dB)", "unrounded", "SSIM", "mean s", "longest s", "MiB at most"]
        parts.append(table(head, body))
        names = list(dict.fromkeys(r["picture"] for r in found))
        cells = {(r["picture"], r["experts"]): r for r in found}
        body = [[name, *(_cell(cells.get((name, n))) for n in counts)] for name in names]
        parts.append("PSNR / SSIM / seconds of each picture:")
        parts.append(table(["picture", *(f"{n:,} kernels" for n in counts)], body))
    return [*parts, *_fit_curve(record, images), *_fit_more(record)]


_QUALITY = (("psnr", 2), ("psnr_unrounded", 2), ("ssim", 4))


def _cell(row: Row | None) -> str:
    return f"{row['psnr']:.2f} / {row['ssim']:.4f} / {row['seconds']:.1f}" if row else "-"


def _fit_curve(record: Row | None, images: dict[str, str]) -> list[str]:
    parts = ["### Against time", origin(record, "fit", "curve")]
    found = rows(record, "curve")
    if not found:
        return parts
    steps = sorted({r["steps"] for r in found})
    body = []
    for experts in sorted({r["experts"] for r in found}, reverse=True):
        cells = []
        for s in steps:
            mine = [r for r in found if r["experts"] == experts and r["steps"] == s]
            means = [statistics.fmean(r[f] for r in mine) for f in ("psnr", "seconds")] if mine else []
            cells.append(f"{means[0]:.2f} dB, {means[1]:.1f} s" if means else "-")
        body.append([f"{experts:,} kernels", *cells])
    names = ", ".join(sorted({r["picture"] for r in found}))
    parts.append(f"Means over {names}, by steps of gradient descent:")
    parts.append(table(["steps", *map(str, steps)], body))
    return [*parts, image(images, "fit_time", "PSNR against seconds of fitting, by number of kernels")]


def _fit_more(record: Row | None) -> list[str]:
    parts = ["### Seeds, linear experts, a large picture", origin(record, "fit", "seeds")]
    groups: dict[tuple[int, str], list[float]] = {}
    for row in rows(record, "seeds"):
        groups.setdefault((row["experts"], row["picture"]), []).append(row["psnr"])
    body = [
        [f"{n:,} kernels, {name}", str(len(v)), figure(min(v)), figure(max(v)), figure(max(v) - min(v), 3)]
        for (n, name), v in groups.items()
    ]
    if body:
        parts.append(table(["fit", "seeds", "least dB", "most dB", "spread dB"], body))
    constant = {(r["picture"], r["experts"]): r for r in rows(record, "pictures")}
    body = []
    for row in rows(record, "orders"):
        twin = constant.get((row["picture"], round(row["experts"] * 15 / 9)))
        body.append(
            [row["picture"], f"{row['experts']:,}", _cell(row), f"{twin['experts']:,}" if twin else "-", _cell(twin)]
        )
    if body:
        parts.append(
            "Linear experts (order 1, 15 numbers each) against constant ones (9) at equal numbers of parameters:"
        )
        parts.append(table(["picture", "linear", "dB / SSIM / s", "constant", "dB / SSIM / s"], body))
    return [*parts, *(_large(row) for row in rows(record, "large"))]


def _large(row: Row) -> str:
    what = f"{row['width']}x{row['height']} ({row['picture']}), {row['experts']:,} kernels, {row['steps']} steps"
    found = f"{row['peak_mib']} MiB of memory at most, {row['seconds']:.1f} s, {row['psnr']:.2f} dB"
    return f"{what}, in a process of its own: {found}."
