"""The tables of docs/upscaling.md, from the records of upscaling alone.

`python -m benchmarks.report_upscale` renews them. The strips of pictures come from `python -m
benchmarks.upscale_pictures`, which needs the weights.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.pages import asked_for, renew
from benchmarks.record import Row, rows
from benchmarks.report_restore_routing import told, verdict
from benchmarks.restore_scores import gain
from benchmarks.super_resolution import SETS
from benchmarks.tables import figure, origin, table
from benchmarks.upscale import CLASSIC
from benchmarks.upscale_pictures import DIFFUSION, STRIPS
from benchmarks.upscale_sets import CAMERA, SORTS
from moesaic.upscale.rank_correlation import rank_correlation

NAMES = ("upscale", "upscale_arms", "upscale_severity", "upscale_speed", "upscale_diffusion")
OURS = "moesaic"
MIXTURES = "mixtures"
METHODS = {"bicubic": "bicubic", "lanczos": "Lanczos", MIXTURES: "`moesaic enlarge`", OURS: "**moesaic upscale**"}
MEASURES = {"psnr_y": 2, "ssim_y": 4, "haar_psi": 4}
_ALL = (*((name, sort, 4) for name in SETS for sort in SORTS), *((name, "bicubic", 2) for name in SETS))
GROUPS = (*_ALL, (CAMERA, "camera", 2), (CAMERA, "camera", 4))

Records = Mapping[str, Row | None]
Group = tuple[str, str, int]  # set, sort, scale


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "upscaling.md", blocks(records, docs / "images"))


def blocks(records: Records, folder: Path) -> dict[str, str]:
    """Texts by the names of their marks.

    Args:
        records: by name.
        folder: where the strips of pictures are.
    """
    measured, arms = records.get("upscale"), records.get("upscale_arms")
    texts = {
        "verdict": _verdict(measured),
        "pictures": _pictures(folder),
        "sets": _sets(measured),
        "mixtures": _mixtures(measured),
        "scores matter": _matter(arms),
        "arms": _arms(arms),
        "ranks": _ranks(measured),
        "severity": _severity(records.get("upscale_severity")),
        "speed": _speed(records.get("upscale_speed")),
        "diffusion": _diffusion(records.get("upscale_diffusion"), folder),
    }
    return {f"upscaling {name}": text for name, text in texts.items()}


def _groups(record: Row | None) -> dict[Group, list[Row]]:
    """The rows of each set, sort and scale that were run."""
    every = rows(record, "pictures")
    found = {group: [row for row in every if _group(row) == group] for group in GROUPS}
    return {group: mine for group, mine in found.items() if mine}


def _group(row: Row) -> Group:
    return row["set"], row["sort"], row["scale"]


def _verdict(record: Row | None) -> str:
    """By how much ahead of the classic kernels, by sort, over all pictures of all sets."""
    groups = _groups(record)
    if not groups:
        return origin(record, "upscale", "pictures")
    body = []
    for sort, scale in dict.fromkeys((sort, scale) for _, sort, scale in groups):
        mine = [row for (_, s, x), found in groups.items() for row in found if (s, x) == (sort, scale)]
        cells = []
        for kernel in CLASSIC:
            ahead = _ahead(mine, kernel)
            cells += [told(ahead), f"{sum(value > 0 for value in _differences(mine, kernel))} of {len(mine)}"]
        body.append([f"{sort} x{scale} ({len(mine)})", *cells])
    head = ["pictures", "over bicubic, dB", "better on", "over Lanczos, dB", "better on"]
    return "\n\n".join([origin(record, "upscale"), table(head, body)])


def _differences(mine: Sequence[Row], other: str) -> list[float]:
    return [row["methods"][OURS]["psnr_y"] - row["methods"][other]["psnr_y"] for row in mine]


def _ahead(mine: Sequence[Row], other: str) -> Row:
    return gain(_differences(mine, other), [f"{row['set']}/{row['picture']}" for row in mine])


def _sets(record: Row | None) -> str:
    groups = _groups(record)
    if not groups:
        return origin(record, "upscale", "pictures")
    names = (*CLASSIC, OURS)
    body = []
    for (name, sort, scale), mine in groups.items():
        body.append([f"{name}, {sort} x{scale} ({len(mine)})", *(_cell(mine, method) for method in names)])
    return table(["set", *(METHODS[method] for method in names)], body)


def _cell(mine: Sequence[Row], method: str) -> str:
    """The means of all measures."""
    return " / ".join(
        figure(statistics.fmean(row["methods"][method][what] for row in mine), digits)
        for what, digits in MEASURES.items()
    )


def _mixtures(record: Row | None) -> str:
    """Beside enlarging by a fitted mixture, on the pictures that it was given."""
    body = []
    for (name, sort, scale), found in _groups(record).items():
        mine = [row for row in found if MIXTURES in row["methods"]]
        if mine:
            spent = [statistics.fmean(row["methods"][m]["seconds"] for row in mine) for m in (MIXTURES, OURS)]
            cells = [_cell(mine, MIXTURES), _cell(mine, OURS), told(_ahead(mine, MIXTURES))]
            body.append([f"{name}, {sort} x{scale} ({len(mine)})", *cells, f"{spent[0] / spent[1]:.1f}"])
    if not body:
        return "Not measured: run `python -m benchmarks.upscale --mixtures 4`."
    head = ["set", METHODS[MIXTURES], METHODS[OURS], "ahead, dB", "times as fast"]
    return table(head, body)


def _matter(record: Row | None) -> str:
    """One sentence for each way to tell ranks something else, and for each kind of adapter."""
    found = (record or {}).get("results", {}).get("arms", {})
    if not found:
        return _unmeasured()
    first = next(iter(found))
    lines = []
    for name, row in found.items():
        if name != first:
            each = ", ".join(f"{sort} {told(row[sort]['ahead'])}" for sort in SORTS)
            lines.append(f"- {_ARMS.get(name, name)}: {_said(verdict(row['all']['ahead']))}; {each} dB")
    return "\n".join([f"Against {_ARMS.get(first, first)}, alike in all else:", "", *lines])


def _said(stands: str) -> str:
    return {"ahead": "**better**", "behind": "**worse**"}.get(stands, stands)


_ARMS = {
    "free": "the mixture of ranks as it ships, in which no rank is always on",
    "mor": "`mor`, as in the paper in proportion: 3 ranks always on, 4 of 13 chosen and of 2 empty slots",
    "base": "the base alone, without any adapter",
    "lora_active": "plain LoRA of as many ranks as act (7)",
    "lora_total": "plain LoRA of as many ranks as there are (16)",
    "whole": "whole LoRAs as experts, 2 of 4 chosen",
    "no_zero": "as `mor`, without empty slots",
    "plain": "as `mor`, with a balance that counts empty slots like others",
    "constant": "as `mor`, told 0.5 of every picture",
    "shuffled": "as `mor`, told the scores of another picture",
    "oracle": "as `mor`, told the true scores",
}


def _unmeasured() -> str:
    return (
        "Not measured: `benchmarks/results/upscale_arms.json` is not there. Train arms by "
        "`recipes/upscale_arms_cpu.sh`, then run `python -m benchmarks.upscale_arms`."
    )


def _arms(record: Row | None) -> str:
    found = (record or {}).get("results", {}).get("arms", {})
    if not found:
        return _unmeasured()
    body = []
    for name, row in found.items():
        cells = [_plus_minus(row[sort]) for sort in (*SORTS, "all")]
        millions = "-" if row["parameters"] is None else f"{row['parameters'] / 1e6:.3f}"
        body.append([f"`{name}` ({row['seeds']})", millions, *cells, figure(row["all"].get("ranks"), 1)])
    head = ["arm (seeds)", "million parameters", *(f"{sort}, dB" for sort in SORTS), "all, dB", "ranks that act"]
    return "\n\n".join([origin(record, "upscale_arms"), table(head, body)])


def _plus_minus(found: Row) -> str:
    return f"{found['psnr_y']:.3f}" + ("" if found["spread"] is None else f" ± {found['spread']:.3f}")


def _ranks(record: Row | None) -> str:
    """Active ranks and what was said of the pictures, by sort."""
    every = [row for row in rows(record, "pictures") if "ranks" in row]
    if not every:
        return origin(record, "upscale", "pictures")
    names = list(every[0]["scores"])
    body = []
    for sort, scale in dict.fromkeys((row["sort"], row["scale"]) for row in every):
        mine = [row for row in every if (row["sort"], row["scale"]) == (sort, scale)]
        scores = [figure(statistics.fmean(row["scores"][name] for row in mine)) for name in names]
        severity = figure(statistics.fmean(row["severity"] for row in mine))
        ranks = [row["ranks"] for row in mine]
        told_ranks = (f"{statistics.fmean(ranks):.1f}", f"{min(ranks)} to {max(ranks)}")
        body.append([f"{sort} x{scale} ({len(mine)})", *scores, severity, *told_ranks])
    rho = rank_correlation([row["ranks"] for row in every], [row["severity"] for row in every])
    head = ["pictures", *names, "severity", "ranks that act, of all layers", "least to most"]
    words = f"Over all of these pictures, Spearman's rank correlation of active ranks and severity is {rho:+.2f}."
    return "\n\n".join([table(head, body), words])


def _pictures(folder: Path) -> str:
    found = {name: strip for name, strip in STRIPS.items() if (folder / f"upscale_{name}.jpg").exists()}
    if not found:
        return "Not drawn: run `python -m benchmarks.upscale_pictures`."
    note = "Bicubic, `moesaic enlarge`, `moesaic upscale`, and the picture before it was small, from left to right."
    shown = [
        f"{strip.caption}:\n\n![{strip.caption}: bicubic, enlarged, upscaled, true](images/upscale_{name}.jpg)"
        for name, strip in found.items()
    ]
    return "\n\n".join([note, *shown])


def _severity(record: Row | None) -> str:
    """What a severity by hand does, where it helps, and what becomes of JPEG alone."""
    by_hand, worst, jpeg = (rows(record, name) for name in ("by_hand", "worst", "jpeg"))
    if not by_hand or not worst or not jpeg:
        return origin(record, "upscale_severity", "by_hand")
    told = ", ".join(f"{row['severity']:g}: {row['ranks']}" for row in by_hand)
    parts = [origin(record, "upscale_severity"), f"Ranks that act, of all layers, by the severity that is set: {told}."]
    methods = list(worst[0]["psnr_y"])
    parts.append("The pictures of all these tables that are farthest below bicubic:")
    parts.append(_by_method("PSNR-Y, dB", methods, [(row["picture"], row["psnr_y"], "") for row in worst]))
    methods = list(jpeg[0]["psnr_y"])
    lines = [(f"quality {row['quality']} ({row['pictures']})", row["psnr_y"], f"{row['ranks']:.1f}") for row in jpeg]
    parts.append("Kodak pictures from clean shrinks, x4, through JPEG alone:")
    parts.append(_by_method("PSNR-Y, dB", methods, lines, further="ranks that act, estimated"))
    return "\n\n".join(parts)


def _by_method(title: str, methods: list[str], lines: Sequence[tuple[str, Row, str]], further: str = "") -> str:
    head = [title, *methods, *([further] if further else [])]
    body = [[name, *(figure(values[m]) for m in methods), *([last] if further else [])] for name, values, last in lines]
    return table(head, body)


def _diffusion(record: Row | None, folder: Path) -> str:
    """What the tiny model reached, and how far its tiles are from one piece."""
    every, seams = rows(record, "pictures"), rows(record, "seams")
    if not every or not seams:
        return origin(record, "upscale_diffusion", "pictures")
    methods = list(every[0]["psnr_y"])
    body = []
    for sort in dict.fromkeys(row["sort"] for row in every):
        mine = [row["psnr_y"] for row in every if row["sort"] == sort]
        means = (figure(statistics.fmean(row[method] for row in mine)) for method in methods)
        body.append([f"{sort} x4 ({len(mine)})", *means])
    trained, seam = rows(record, "training")[0], seams[0]
    steps = sum((record or {})["settings"]["steps"].values())
    words = (
        f"Trained for {steps} steps on a CPU: {sum(trained['parameters'].values()):,} parameters"
        f" and {trained['ranks']:,} of ranks. In tiles of {seam['tile']} px that meet at every layer the result is at"
        f" most {seam['meeting'] * 255:.3f} of 255 levels from one piece; in tiles that each go through alone,"
        f" {seam['apart'] * 255:.1f}."
    )
    parts = [origin(record, "upscale_diffusion"), table(["Set5, PSNR-Y in dB", *methods], body), words]
    if (folder / DIFFUSION).exists():
        told = "Bicubic, without ranks, with ranks, true"
        parts.append(f"{told}, from left to right (`butterfly`, medium damage):\n\n![{told}](images/{DIFFUSION})")
    return "\n\n".join(parts)


def _speed(record: Row | None) -> str:
    small, large = rows(record, "small"), rows(record, "large")
    if not small:
        return origin(record, "upscale_speed", "small")
    parts = [origin(record, "upscale_speed")]
    names = list(small[0]["seconds"])
    body = [
        [f"{row['size']} x{row['scale']}, {row['threads']}", *(f"{row['seconds'][n]:.2f}" for n in names)]
        for row in small
    ]
    parts.append(table(["seconds, medians; picture, threads", *(METHODS.get(n, n) for n in names)], body))
    if large:
        cells = [
            [
                f"{row['size']} x{row['scale']}, {row['threads']}",
                f"{row['seconds']:.0f}",
                f"{row['peak_mib']} ({row['before_mib']})",
            ]
            for row in large
        ]
        parts.append(table(["picture, threads", "seconds", "peak, MiB (before)"], cells))
    seams = rows(record, "seams")
    if seams:
        worst = max(row["difference"] for row in seams)
        tiles = ", ".join(str(row["tile"]) for row in seams)
        parts.append(f"Tiles of {tiles} px are at most {worst * 255:.4f} of 255 levels from one piece.")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
