"""The tables of docs/restoration.md, and its two plots, from the records of restoration alone.

`python -m benchmarks.report_restore` renews them, and makes the page with its marks where there is none. The strips of
pictures come from `python -m benchmarks.restore_pictures`, which needs the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.pages import asked_for, renew
from benchmarks.record import Row, rows
from benchmarks.report_restore_plots import draw_all
from benchmarks.report_restore_routing import blocks as routing_blocks
from benchmarks.report_restore_routing import skipped, told, verdict
from benchmarks.restore_pictures import STRIPS
from benchmarks.restore_scores import FEW as ENOUGH
from benchmarks.restore_scores import OURS
from benchmarks.restore_sets import NEVER_DRAWN
from benchmarks.tables import figure, origin, table

NAMES = ("restore", "restore_routing", "restore_arms", "restore_speed", "denoise")
HEADINGS = {
    "pictures": "## Before and after",
    "verdict": "## What is reached",
    "noise": "### Noise",
    "noise, others": "",
    "frozen": "### Every kind of damage",
    "real": "### Real pairs, and damage by others",
    "controls": "## Does the choice of experts matter?",
    "kinds": "",
    "usage": "### Who acts on what",
    "swaps": "",
    "prices": "### The price of compute",
    "arms": "### Control arms, trained alike",
    "speed": "## Time and memory",
}
"""What stands between marks on the page, "restoration NAME", and the heading before it on a new page."""

LEGEND = (
    "In the tables below a pair such as `20.32 / 0.4146` is the PSNR in dB and the SSIM, means over the pictures whose"
    " number stands in parentheses behind their name; ± is the standard deviation of the PSNR over them. Behind a"
    f" difference, [ ] hold its 95 % interval, and ( ) the least and the greatest where there are fewer than {ENOUGH}"
    " pictures. *Ahead of the best* is by how much moesaic is ahead of the classic remedy with the best PSNR. *Scored"
    " further* are the PSNR of input / moesaic / that remedy once the brightness is fitted, or after the best shift."
)
"""How to read the tables, once for all of them."""

Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    images = draw_all(records["restore_routing"], docs / "images")
    page = docs / "restoration.md"
    if not page.exists():
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(new_page(), encoding="utf-8")
    renew(page, blocks(records, images, docs / "images"))


def new_page() -> str:
    """Headings and marks, for prose to be written between."""
    parts = ["# Restoration"]
    for name, heading in HEADINGS.items():
        parts += [heading, f"<!-- restoration {name} -->\n<!-- end of restoration {name} -->"]
    return "\n\n".join(part for part in parts if part) + "\n"


def blocks(records: Records, images: dict[str, str], folder: Path) -> dict[str, str]:
    """Texts by the names of their marks."""
    measured, routing = records.get("restore"), records.get("restore_routing")
    texts = {
        "verdict": _verdict(measured, routing),
        "noise": _conditions(measured, "noise"),
        "noise, others": _others(measured, records.get("denoise")),
        "frozen": _conditions(measured, "frozen"),
        "real": _conditions(measured, "real"),
        "pictures": _pictures(folder),
        "speed": _speed(records.get("restore_speed")),
    }
    texts |= routing_blocks(routing, records.get("restore_arms"), images)
    return {f"restoration {name}": text for name, text in texts.items()}


def _verdict(measured: Row | None, routing: Row | None) -> str:
    lines = []
    for section, words in (("noise", "noise"), ("frozen", "frozen sets"), ("real", "real pairs")):
        found = rows(measured, section)
        stands: dict[str, list[str]] = {}
        for row in found:
            gains = {name: one["ahead"] for name, one in row["methods"].items() if name != OURS}
            worst = min(gains, key=lambda name: gains[name]["mean"])
            stands.setdefault(verdict(gains[worst]), []).append(f"{row['set']} ({told(gains[worst])} on {worst})")
        for stand, names in stands.items():
            listed = ": " + ", ".join(names) if stand != "ahead" else ""
            lines.append(f"- {words}: {stand} in {len(names)}{listed}")
    head = ["Against the better of the input and the best classic remedy, in dB of PSNR:", ""] if lines else []
    return "\n".join([origin(measured, "restore"), "", *head, *lines, *skipped(routing), "", LEGEND])


def _conditions(record: Row | None, section: str) -> str:
    found = rows(record, section)
    if not found:
        return origin(record, "restore", section)
    body = []
    for row in found:
        methods = row["methods"]
        others = {name: one for name, one in methods.items() if name not in ("input", OURS)}
        best = max(others, key=lambda name: others[name]["psnr"]) if others else None
        star = " *" if row["set"] in NEVER_DRAWN else ""
        cells = [f"{row['set']}{star} ({len(row['pictures'].split())})", _pair(methods["input"])]
        cells += [f"{_pair(methods[OURS])} ± {figure(methods[OURS]['deviation'], 1)}", told(methods["input"]["ahead"])]
        told_all = "; ".join(f"{name}: {_pair(score)}" for name, score in others.items()) or "-"
        cells += [told_all, told(others[best]["ahead"]) if best else "-"]
        body.append([*cells, *_further(methods, best)])
    names = ["pictures", "input", "moesaic ± deviation", "gain, dB", "classic remedies", "ahead of the best, dB"]
    marked = any(row["set"] in NEVER_DRAWN for row in found)
    note = "\\* a way of damage that training never draws." if marked else ""
    return "\n\n".join(p for p in (origin(record, "restore"), table([*names, "scored further"], body), note) if p)


def _pair(score: Row) -> str:
    return f"{score['psnr']:.2f} / {score['ssim']:.4f}"


def _further(methods: Row, best: str | None) -> list[str]:
    """PSNR after a fit of the exposure or the best shift: of the input, of ours, of the best remedy."""
    words = {"gain": "after a fit of the gain", "shift": "after the best shift"}
    for key, what in words.items():
        if key in methods[OURS]:
            shown = [methods[name][key] for name in ("input", OURS, best) if name is not None]
            return [f"{what}: " + " / ".join(f"{value:.2f}" for value in shown)]
    return ["-"]


def _others(record: Row | None, denoise: Row | None) -> str:
    """Beside `moesaic denoise` and BM3D, on the pictures that both records hold, from the values of each picture."""
    theirs = {f"{row['set']}/{row['noise']}/{row['sigma']}": row for row in rows(denoise, "synthetic")}
    body = []
    for row in rows(record, "noise"):
        other = theirs.get(row["set"])
        if other is None:
            continue
        mine = dict(zip(map(int, row["pictures"].split()), _each(row["methods"][OURS]), strict=True))
        for part, method in (("all", "moesaic"), ("few", "BM3D")):
            if method not in other[part]:
                continue
            values = dict(zip(_numbers(row["set"], part, other), _each(other[part][method]), strict=True))
            shared = sorted(mine.keys() & values.keys())
            if shared:
                ours, rival = (sum(one[n] for n in shared) / len(shared) for one in (mine, values))
                name = "`moesaic denoise`" if method == "moesaic" else method
                body.append(
                    [f"{row['set']} ({len(shared)})", name, f"{ours:.2f}", f"{rival:.2f}", f"{ours - rival:+.2f}"]
                )
    if not body:
        return "Nothing to compare: `benchmarks/results/restore.json` and `denoise.json` share no pictures."
    head = ["pictures, noise, sigma", "against, which is told sigma", "restoration, told nothing", "it", "difference"]
    return "\n\n".join([origin(denoise, "denoise"), table(head, body)])


def _each(score: Row) -> list[float]:
    return [float(value) for value in score["each"].split()]


def _numbers(key: str, part: str, other: Row) -> list[int]:
    """Which pictures a row of the record of denoising holds, from 1, as `benchmarks.denoise` chose them."""
    from benchmarks.denoise import EVERY, FEW

    name, noise, _ = key.split("/")
    count = len(_each(other[part]["noisy"]))
    step = EVERY.get(name, {}).get(noise, 1)
    every = [1 + step * i for i in range(68)]
    return ([n for n in every if n in FEW.get(name, (1,))] if part == "few" else every)[:count]


def _pictures(folder: Path) -> str:
    found = {name: strip for name, strip in STRIPS.items() if (folder / f"restore_{name}.jpg").exists()}
    if not found:
        return "Not drawn: run `python -m benchmarks.restore_pictures`."
    note = "Input, restored, clean, from left to right; crops of Kodak pictures, damaged by `moesaic degrade`."
    shown = [
        f"{strip.caption} (Kodak {strip.picture}, severity {strip.severity:g}, seed {strip.seed}):\n\n"
        f"![{strip.caption}: input, restored, clean](images/restore_{name}.jpg)"
        for name, strip in found.items()
    ]
    return "\n\n".join([note, *shown])


def _speed(record: Row | None) -> str:
    small, large = rows(record, "small"), rows(record, "large")
    if not small:
        return origin(record, "restore_speed", "small")
    names = list(small[0]["milliseconds"])
    peaks = small[0].get("peak_mib", {})
    body = [
        [
            f"{row['size']}, {row['threads']}",
            *(f"{row['milliseconds'][n]:.0f} ({row['times_nlm'][n]:.2f})" for n in names),
        ]
        for row in small
    ]
    parts = [origin(record, "restore_speed"), table(["ms (times NLM); threads", *names], body)]
    if peaks:
        parts.append(
            "Peak of the whole process: " + ", ".join(f"{name} {mib} MiB" for name, mib in peaks.items()) + "."
        )
    if large:
        rival = next((row["seconds"] for row in large if row["method"] == "NLM"), None)
        cells = [
            [
                f"{row['size']}, {row['method']}, {row['threads']}",
                f"{row['seconds']:.1f}",
                figure(row["seconds"] / rival if rival else None),
                f"{row['peak_mib']} ({row['before_mib']})",
            ]
            for row in large
        ]
        parts.append(table(["picture, method, threads", "seconds", "times NLM", "peak, MiB (before)"], cells))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
