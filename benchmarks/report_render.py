"""The section on rendering in docs/benchmarks.md."""

from __future__ import annotations

import statistics

from benchmarks.floors import ratio, right, speed_rows
from benchmarks.record import Row, rows
from benchmarks.tables import figure, image, origin, table


def section(record: Row | None, images: dict[str, str]) -> list[str]:
    parts = ["## Rendering", origin(record, "render", "speed")]
    found = rows(record, "speed")
    if not found:
        return parts
    parts.append(_RENDER)
    body = []
    for row in found:
        ours = row["moesaic"]
        cells = [_both(ours), *(_both(rival) for rival in row["rivals"])]
        body.append([f"{row['picture']}, {row['experts']:,}, {row['threads']}", *cells])
    head = ["picture, kernels, threads", "moesaic", *(f"{r['arithmetic']}, {r['lists']}" for r in found[0]["rivals"])]
    parts.append(table(head, body))
    parts.append(image(images, "render", "milliseconds of moesaic and of plain torch, 10,000 kernels"))
    chosen = sorted({(r["experts"], r["threads"]) for r in found}, reverse=True)
    body = []
    for experts, threads in chosen:
        mine = [r for r in found if (r["experts"], r["threads"]) == (experts, threads)]
        body.append(
            [f"{experts:,} kernels, {threads} threads", *(_ratios(mine, what, exact) for what, exact in _KINDS)]
        )
    parts.append("How many times as fast as the fastest plain form (median over pictures):")
    parts.append(table(["", "render, exact lists", "render, any", "gradient, exact lists", "gradient, any"], body))
    forms = [
        [f"{r['picture']}, {r['experts']:,}, {r['threads']}", rival["render_form"], rival["gradient_form"]]
        for r in speed_rows(record, max(r["experts"] for r in found))[:1]
        for rival in r["rivals"]
    ]
    parts.append("The fastest of each family, by search over chunks and threads, for the first picture:")
    parts.append(table(["picture, kernels, threads", "render", "render + gradient"], forms))
    return [*parts, *_exactness(found), *_peak(record, found)]


_KINDS = (("render", True), ("render", False), ("gradient", True), ("gradient", False))
_RENDER = """Milliseconds, `render / render + gradient`, medians of turns taken alternately. Mixtures are real fits.
Everyone lists the kernels of each tile anew in every turn; moesaic is called as a user calls it, its gradient by
autograd. The rivals are `benchmarks/plain_torch.py`: the formula by broadcasting (direct) or as matrix products
(matrix), with boxes of 3.3 standard deviations or with moesaic's exact lists, in the fastest of several chunk sizes
and ways to use threads. Boxes leave out kernels that matter: see the errors below."""


def _both(row: Row) -> str:
    return f"{row['render']['median_ms']:.1f} / {row['gradient']['median_ms']:.1f}"


def _ratios(found: list[Row], what: str, exact: bool) -> str:
    return figure(statistics.median(ratio(r, what, right(r) if exact else r["rivals"]) for r in found), 1)


def _exactness(found: list[Row]) -> list[str]:
    families = [("moesaic", [r["moesaic"] for r in found])]
    for k, rival in enumerate(found[0]["rivals"]):
        families.append((f"{rival['arithmetic']}, {rival['lists']}", [r["rivals"][k] for r in found]))
    body = []
    for name, mine in families:
        worst = max(max(r["gradient_error"].values()) for r in mine)
        body.append([name, f"{max(r['error'] for r in mine):.1e}", f"{worst:.1e}"])
    words = (
        "Largest difference from the float64 reference on 1,500 pixels, and of any gradient in relative norm (of a "
        "loss on 200 pixels), worst of all rows:"
    )
    return ["### Exactness", words, table(["", "picture", "gradient"], body)]


def _peak(record: Row | None, found: list[Row]) -> list[str]:
    peaks = {r["threads"]: r["gflops"] for r in rows(record, "peak")}
    body = []
    for row in found:
        work, peak = row["work"], peaks.get(row["threads"])
        evaluations = work["kernel_pixels"]
        there, back = (work["parts"][part]["median_ms"] for part in ("forward", "backward"))
        whole = row["moesaic"]["render"]["median_ms"]
        body.append(
            [
                f"{row['picture']}, {row['experts']:,}, {row['threads']}",
                f"{work['pairs']:,}",
                figure(evaluations / 1e6, 1),
                *(figure(work["parts"][part]["median_ms"]) for part in ("lists", "forward", "backward")),
                figure(evaluations / there / 1e6),
                _share(evaluations * work["flops_forward"] / there, peak),
                _share(evaluations * work["flops_backward"] / back, peak),
                _share(evaluations * work["flops_forward"] / whole, peak),
            ]
        )
    head = ["picture, kernels, threads", "pairs", "M kernel-pixels", "lists ms", "forward ms", "backward ms"]
    head += ["G kernel-pixels/s", "forward", "backward", "whole render"]
    measured = ", ".join(f"{gflops:.0f} GFLOP/s on {n} thread{'s' * (n > 1)}" for n, gflops in sorted(peaks.items()))
    first = found[0]["work"]
    words = (
        f"Peak of fused multiply-adds in float32, by a Numba loop in the same run: {measured}. A kernel-pixel is one "
        "kernel evaluated at one pixel of a row that it reaches in a tile. Counted from the source of the inner loops: "
        f"{first['flops_forward']} operations forward and {first['flops_backward']} backward a kernel-pixel "
        "(`benchmarks/arithmetic.py` lists them; a fused multiply-add is two; integer operations and the work by row, "
        "pair and pixel are left out). The last three columns are these operations as a share of the peak."
    )
    return ["### Against the arithmetic peak", words, table(head, body)]


def _share(per_millisecond: float, peak: float | None) -> str:
    return f"{100 * per_millisecond / 1e6 / peak:.0f} %" if peak else "-"
