"""The tables and plots of docs/predict.md, from the records of prediction alone: `python -m benchmarks.report_predict`.

The strips of pictures come from `python -m benchmarks.predict_pictures`, which needs the weights.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.floors import Curves, curves
from benchmarks.pages import asked_for, renew
from benchmarks.plots import MARKS, SERIES, _finish, _save, plt
from benchmarks.rates import GRID, mean_at
from benchmarks.record import Row, rows
from benchmarks.tables import figure, image, origin, table

NAMES = ("predict", "predict_arms", "rate_distortion", "fresh")
WAYS = {
    "predict": "network, more and more stages",
    "refine": "network, then steps of a fit",
    "early": "one or two stages, then steps of a fit",
    "fit": "fit from its own start",
    "bent": "the same steps without a network",
    "segments": "fit from superpixels",
    "even": "fit from an even grid",
}
UNITS = {"predict": "stages", "early": "stages and steps"}
OURS, FITS = ("predict", "refine", "early"), ("fit", "segments", "even")
DRAWN = {
    "network, more and more stages": ("predict",),
    "network, then steps of a fit": ("early", "refine"),
    "the same steps without a network": ("bent",),
    "fit from its own start": ("fit",),
    "fit from superpixels": ("segments",),
    "fit from an even grid": ("even",),
}
CLOCK = (0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # s
ARMS = {
    "shipped": "as shipped",
    "separate": "each stage has weights of its own",
    "blind": "no windows on the picture and on what is missing",
    "plain": "slopes, but no steps of Newton's method",
    "staged": "40 % of the kernels come in the third stage, where the most is missing",
    "alone": "each stage is taught by what it draws itself alone",
    "optimise": "taught by 20 steps of a fit (predict, optimise, distil)",
    "fixed": "no network: fixed parts of the same steps",
}
FIXED = "fixed"

Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "predict.md", blocks(records, docs / "images"))


def blocks(records: Records, folder: Path) -> dict[str, str]:
    """Texts by the names of their marks; plots are drawn into the folder."""
    measured = records.get("predict")
    texts = {
        "clock": _clock(measured, folder),
        "points": _table(measured),
        "long": _long(measured),
        "files": _files(measured, records.get("rate_distortion"), folder),
        "fresh": _fresh(records.get("fresh")),
        "arms": _arms(records.get("predict_arms")),
        "kinds": _pictures(measured, "kinds"),
        "large": _pictures(measured, "large"),
    }
    return {f"predict {name}": text for name, text in texts.items()}


def _points(record: Row | None, section: str = "curve") -> dict[str, dict[str, list[Row]]]:
    """By way, by picture: the points in the order of their seconds."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows(record, section):
        for point in row["points"]:
            found.setdefault(point["way"].split("/")[0], {}).setdefault(row["picture"], []).append(point)
    for by_picture in found.values():
        for points in by_picture.values():
            points.sort(key=lambda point: point["seconds"])
    return found


def at_clock(points: Sequence[Row], seconds: float) -> float:
    """The best dB of a picture's points that are there by then; nan before the first of them."""
    there = [point["psnr"] for point in points if point["seconds"] <= seconds]
    return max(there, default=math.nan)


def _best_of(found: Mapping[str, dict[str, list[Row]]], made: Sequence[str]) -> dict[str, list[Row]]:
    """Of several ways: the best of them counts at every time."""
    return {name: [point for way in made for point in found.get(way, {}).get(name, [])] for name in found["predict"]}


def _clock(record: Row | None, folder: Path) -> str:
    found = _points(record)
    if not found:
        return origin(record, "predict", "curve")
    ours, fits, bent = (_best_of(found, ways) for ways in (OURS, FITS, ("bent",)))
    body = []
    for seconds in CLOCK:
        mine, theirs, strong = ({n: at_clock(points[n], seconds) for n in ours} for points in (ours, fits, bent))
        names = [name for name in ours if not math.isnan(mine[name] + theirs[name])]
        if names:
            cells = [f"{seconds:g} s", figure(statistics.fmean(mine[name] for name in names))]
            body.append([*cells, *_beside(mine, theirs, names), *_beside(mine, strong, names)])
    head = ["by the clock", "predicted, dB", "fitted, dB", "ahead, dB", "no worse on"]
    head += ["steps by curvature without a network, dB", "ahead of them, dB", "no worse on"]
    plot = _draw_clock(found, folder)
    return "\n\n".join([origin(record, "predict"), table(head, body), image(plot, "time", "Quality against time")])


def _beside(mine: Mapping[str, float], theirs: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Their dB, how far we are ahead, and on how many pictures we are no worse."""
    if any(math.isnan(theirs[name]) for name in names):
        return ["-", "-", "-"]
    ahead = [mine[name] - theirs[name] for name in names]
    spread = statistics.stdev(ahead) / math.sqrt(len(ahead)) if len(ahead) > 1 else math.nan
    told = f"{statistics.fmean(ahead):+.2f} ± {figure(1.96 * spread)}"
    return [figure(statistics.fmean(theirs[n] for n in names)), told, f"{sum(a >= 0 for a in ahead)} of {len(ahead)}"]


def _draw_clock(found: Mapping[str, dict[str, list[Row]]], folder: Path) -> dict[str, str]:
    drawing, axes = plt.subplots(figsize=(6.8, 4.2))
    for i, (words, ways) in enumerate(DRAWN.items()):
        by_picture = _best_of(found, ways)
        names = dict.fromkeys(point["way"] for points in by_picture.values() for point in points)
        line = sorted((_mean(by_picture, one, "seconds"), _mean(by_picture, one, "psnr")) for one in names)
        if len(ways) > 1:  # of settings that differ in two numbers, only those that no quicker one beats
            line = [(x, y) for i, (x, y) in enumerate(line) if all(y > before for _, before in line[:i])]
        if line:
            x, y = zip(*line, strict=True)
            axes.plot(x, y, color=SERIES[i], marker=MARKS[i], markersize=4, label=words)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.set_xticks([0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    axes.minorticks_off()
    _finish(axes, "seconds a picture", "RGB PSNR (dB)")
    path = folder / "predict_time.png"
    _save(drawing, path)
    return {"time": path.name}


def _mean(by_picture: Mapping[str, Sequence[Row]], way: str, value: str) -> float:
    return statistics.fmean(p[value] for points in by_picture.values() for p in points if p["way"] == way)


def _table(record: Row | None) -> str:
    found = _points(record)
    if not found:
        return origin(record, "predict", "curve")
    body = []
    for way, told in WAYS.items():
        by_picture = found.get(way, {})
        for one in dict.fromkeys(p["way"] for points in by_picture.values() for p in points):
            unit = UNITS.get(way, "steps")
            seconds, psnr, ssim = (_mean(by_picture, one, value) for value in ("seconds", "psnr", "ssim"))
            words = [f"{told}: {one.split('/')[1]} {unit}", figure(seconds, 3), figure(psnr), figure(ssim, 4)]
            body.append((seconds, words))
    head = ["way", "seconds", "PSNR, dB", "SSIM"]
    return table(head, [words for _, words in sorted(body, key=lambda pair: pair[0])])


def _long(record: Row | None) -> str:
    found = rows(record, "long")
    if not found:
        return origin(record, "predict", "long")
    body = []
    for one in dict.fromkeys(p["way"].split("/")[1] for row in found for p in row["points"]):
        cells = []
        for row in found:
            by_way = {p["way"]: p["psnr"] for p in row["points"]}
            cells.append(f"{by_way[f'refine/{one}']:.2f} / {by_way[f'fit/{one}']:.2f}")
        body.append([one, *cells])
    return table(["time in all", *(f"{row['picture']}: predicted / fresh, dB" for row in found)], body)


def _files(record: Row | None, others: Row | None, folder: Path) -> str:
    found = rows(record, "rates")
    if not found:
        return origin(record, "predict", "rates")
    lines: dict[str, Curves] = {}
    for refine in sorted({f["refine"] for row in found for f in row["files"]}):
        name = f"predicted, {refine} steps of a fit" if refine else "predicted, network alone"
        for row in found:
            mine = [f for f in row["files"] if f["refine"] == refine]
            lines.setdefault(name, {})[row["picture"]] = ([f["bpp"] for f in mine], [f["psnr"] for f in mine])
    plain = "network alone, default steps"
    for row in found:
        mine = row.get("default_steps", [])
        lines.setdefault(plain, {})[row["picture"]] = ([f["bpp"] for f in mine], [f["psnr"] for f in mine])
    measured = {row["picture"] for row in found}
    for codec, by_picture in curves(others).items():
        if codec in ("moesaic", "JPEG"):
            name = "fitted (400 steps)" if codec == "moesaic" else codec
            lines[name] = {k: v for k, v in by_picture.items() if k in measured}
    body = [
        [f"{rate:g}", *(_mean_of_all(by_picture, rate) for by_picture in lines.values())]
        for rate in GRID
        if 0.2 <= rate <= 2.0
    ]
    plot = _draw_files(lines, folder)
    shown = image(plot, "rates", "Quality against the size of the file")
    return "\n\n".join([table(["bpp", *(f"{name}, dB" for name in lines)], body), shown, _seconds(found)])


def _mean_of_all(by_picture: Curves, rate: float) -> str:
    """The mean dB at a rate, where every picture reaches it: the few that do are not like the rest."""
    mean = mean_at(by_picture, rate)
    return figure(mean.value) if mean.count == len(by_picture) else "-"


def _seconds(found: Sequence[Row]) -> str:
    """From pixels that have been read to the bytes of a file: medians over pictures."""
    spent: dict[int, dict[int, list[float]]] = {}
    for row in found:
        for file in row["files"]:
            spent.setdefault(file["experts"], {}).setdefault(file["refine"], []).append(file["seconds"])
    kinds = sorted({refine for by_refine in spent.values() for refine in by_refine})
    body = [
        [f"{experts:,}", *(figure(statistics.median(by_refine[refine])) for refine in kinds)]
        for experts, by_refine in sorted(spent.items())
        if len(by_refine) == len(kinds)
    ]
    return table(["kernels", *(f"{n} steps of a fit, s" if n else "network alone, s" for n in kinds)], body)


def _draw_files(lines: Mapping[str, Curves], folder: Path) -> dict[str, str]:
    drawing, axes = plt.subplots(figsize=(6.8, 4.0))
    rates = np.geomspace(0.15, 2.5, 25)
    for i, (name, by_picture) in enumerate(lines.items()):
        means = [mean_at(by_picture, float(rate)) for rate in rates]
        whole = [(rate, m.value) for rate, m in zip(rates, means, strict=True) if m.count == len(by_picture)]
        if whole:
            x, y = zip(*whole, strict=True)
            axes.plot(x, y, color=SERIES[i % 6], marker=MARKS[i % 6], markersize=3, label=name)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.set_xticks([0.2, 0.3, 0.5, 0.75, 1, 1.5, 2])
    axes.minorticks_off()
    _finish(axes, "bits per pixel", "RGB PSNR (dB)")
    path = folder / "predict_rates.png"
    _save(drawing, path)
    return {"rates": path.name}


def _fresh(record: Row | None) -> str:
    """Commands in processes of their own, and a prediction in a running one."""
    names = [name for name in ("before", "now") if all(name in row for row in rows(record, "fresh"))]
    body = [
        [f"`{row['verb']}`", *(figure(row[name]["median_ms"] / 1e3) for name in (*names, "torch"))]
        for row in rows(record, "fresh")
    ]
    running = [
        [f"{row['kernels']:,} kernels", *(figure(row[name]["median_ms"] / 1e3) for name in names)]
        for row in rows(record, "running")
    ]
    if not body:
        return origin(record, "fresh", "fresh")
    earlier = f" Before: commit {record['settings']['before'][:10]}." if record and "before" in names else ""
    parts = [origin(record, "fresh") + earlier]
    parts.append(table(["a fresh process", *(f"{name}, s" for name in names), "`import torch` alone, s"], body))
    parts.append(table(["a running program", *(f"{name}, s" for name in names)], running))
    return "\n\n".join(parts)


def _arms(record: Row | None) -> str:
    found = {row["arm"]: row for row in rows(record, "arms")}
    if not found or "shipped" not in found:
        return origin(record, "predict_arms", "arms")
    base = found["shipped"]["mean"]
    body = []
    for arm, words in ARMS.items():
        if arm not in found:
            continue
        row = found[arm]
        cells = []
        for place in (0, 1, 3, 5, len(base) - 1):
            spread = f" ± {row['spread'][place]:.3f}" if len(row["seeds"]) > 1 else ""
            cells.append(f"{row['mean'][place]:.2f}{spread}")
        body.append([words, *cells, f"{row['mean'][-1] - base[-1]:+.2f}"])
    head = ["arm", *(f"stage {place}" for place in (1, 2, 4, 6, len(base))), "against shipped"]
    return "\n\n".join([origin(record, "predict_arms"), table(head, body)])


def _pictures(record: Row | None, section: str) -> str:
    found = rows(record, section)
    if not found:
        return origin(record, "predict", section)
    ways = list(dict.fromkeys(p["way"] for row in found for p in row["points"]))
    body = []
    for row in found:
        by_way = {p["way"]: p for p in row["points"]}
        cells = [f"{figure(by_way[way]['psnr'])} in {by_way[way]['seconds']:.2f} s" for way in ways]
        body.append([f"{row['picture']}, {row['width']}x{row['height']}, {row['experts']:,} kernels", *cells])
    names = {"predict": "predicted, {} stages", "refine": "and {} steps", "fit": "fit, {} steps"}
    return table(["picture", *(names[way.split("/")[0]].format(way.split("/")[1]) for way in ways)], body)


if __name__ == "__main__":
    main()
