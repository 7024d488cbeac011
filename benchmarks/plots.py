"""The plots of docs/benchmarks.md, from the records alone."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from PIL import Image

from benchmarks.floors import Curves, curves, speed_rows
from benchmarks.rates import mean_at
from benchmarks.record import Row, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of the backend

# Okabe and Ito's colours, told apart with every kind of colour vision; marks differ as well
STYLE = {
    "moesaic": ("#D55E00", "o"),
    "JPEG": ("#0072B2", "s"),
    "WebP": ("#009E73", "^"),
    "AVIF": ("#CC79A7", "D"),
    "JPEG XL": ("#E69F00", "v"),
}
SERIES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "os^Dv<"


def draw_all(records: dict[str, Row | None], folder: Path) -> dict[str, str]:
    """Draw what the records allow; by plot, the name of its file."""
    made: dict[str, str] = {}
    drawings: dict[str, Callable[[Path], bool]] = {
        "rate_psnr": lambda path: _rates(records.get("rate_distortion"), "psnr", "RGB PSNR (dB)", path),
        "rate_ssim": lambda path: _rates(records.get("rate_distortion"), "ssim", "SSIM", path),
        "fit_time": lambda path: _fit_time(records.get("fit"), path),
        "render": lambda path: _render(records.get("render"), path),
    }
    for name, draw in drawings.items():
        path = folder / f"bench_{name}.png"
        if draw(path):
            made[name] = path.name
        else:
            path.unlink(missing_ok=True)
    return made


def mean_curve(by_picture: Curves) -> tuple[list[float], list[float]]:
    """The mean over all pictures of one codec, at the rates that every one of them reaches."""
    if not by_picture:
        return [], []
    lowest = max(min(bpp) for bpp, _ in by_picture.values())
    highest = min(max(bpp) for bpp, _ in by_picture.values())
    rates = [float(r) for r in np.geomspace(lowest, highest, 60)] if lowest < highest else []
    return rates, [mean_at(by_picture, rate).value for rate in rates]


def _rates(record: Row | None, value: str, label: str, path: Path) -> bool:
    found = curves(record, value)
    if not found:
        return False
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    for codec, by_picture in found.items():
        x, y = mean_curve(by_picture)
        colour, mark = STYLE.get(codec, ("#000000", "x"))
        axes.plot(x, y, color=colour, marker=mark, markevery=10, markersize=5, label=codec)
    axes.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.04, 2.5)
    pictures = len(next(iter(found.values())))
    _finish(axes, "bits per pixel of the file", f"{label}, mean of {pictures}")
    _save(figure, path)
    return True


def _fit_time(record: Row | None, path: Path) -> bool:
    found = rows(record, "curve")
    if not found:
        return False
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    for i, experts in enumerate(sorted({r["experts"] for r in found}, reverse=True)):
        mine = [r for r in found if r["experts"] == experts]
        steps = sorted({r["steps"] for r in mine})
        x = [statistics.fmean(r["seconds"] for r in mine if r["steps"] == s) for s in steps]
        y = [statistics.fmean(r["psnr"] for r in mine if r["steps"] == s) for s in steps]
        axes.plot(x, y, color=SERIES[i % 6], marker=MARKS[i % 6], label=f"{experts:,} kernels")
        for place in zip(x, y, steps, strict=True):
            axes.annotate(f"{place[2]}", place[:2], textcoords="offset points", xytext=(4, -10), fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axes.minorticks_off()
    _finish(axes, "seconds a picture (steps beside the marks)", "RGB PSNR (dB)")
    _save(figure, path)
    return True


def _render(record: Row | None, path: Path) -> bool:
    found = speed_rows(record, 10_000)
    if not found:
        return False
    names = ["moesaic", *(f"torch: {r['arithmetic']},\n{r['lists']} lists" for r in found[0]["rivals"])]
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    for i, (what, label) in enumerate((("render", "render"), ("gradient", "render + gradient"))):
        ours = statistics.median(r["moesaic"][what]["median_ms"] for r in found)
        others = [
            statistics.median(r["rivals"][k][what]["median_ms"] for r in found) for k in range(len(found[0]["rivals"]))
        ]
        places = np.arange(len(names)) + (i - 0.5) * 0.4
        bars = axes.bar(places, [ours, *others], 0.4, color=SERIES[i], label=label)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    _finish(axes, "", "milliseconds")
    _save(figure, path)
    return True


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _save(figure: plt.Figure, path: Path) -> None:
    """With a palette, since a plot needs few colours, and without metadata, so that equal plots are equal files."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(stream) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
