"""The plots of docs/restoration.md: who acts on what, and quality by the share of the decoder that is spent."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib.ticker import FormatStrFormatter

from benchmarks.plots import SERIES, _finish, _save, plt
from benchmarks.record import Row, rows
from benchmarks.report_restore_routing import LEVELS


def draw_all(record: Row | None, folder: Path) -> dict[str, str]:
    """Draw what the record allows; by plot, the name of its file. One that it no longer allows goes away."""
    made = {}
    for name, draw in (("usage", usage), ("price", price)):
        path = folder / f"restore_{name}.png"
        if record is not None and draw(record, path):
            made[name] = path.name
        else:
            path.unlink(missing_ok=True)
    return made


def usage(record: Row, path: Path) -> bool:
    """A map of kinds by experts for each level, dark where an expert acts on most pictures of a kind."""
    found = record["results"].get("usage", {})
    if not found:
        return False
    kinds = list(next(iter(found.values()))["shares"])
    size = (2.2 + 2.1 * len(found), 1.0 + 0.24 * len(kinds))
    figure, places = plt.subplots(1, len(found), figsize=size, sharey=True, squeeze=False)
    for axes, level, row in zip(places[0], LEVELS, found.values(), strict=False):
        shares = np.array([row["shares"][kind] for kind in kinds])
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (y, x), share in np.ndenumerate(shares):
            if share:
                axes.text(x, y, f"{share:.0%}"[:-1], ha="center", va="center", fontsize=7, color=_ink(share))
        axes.set_xticks(range(shares.shape[1]))
        axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
        axes.set_title(f"level {level}", fontsize=9)
        axes.set_xlabel("expert", fontsize=8)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    _save(figure, path)
    return True


def price(record: Row, path: Path) -> bool:
    """Mean PSNR against the share of the dearest decoder: the sweep of prices, and routes that look at nothing."""
    sweep = rows(record, "prices")
    if not sweep:
        return False
    controls = {row["control"]: row for row in rows(record, "controls")}
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    x, y = [row["cost"] for row in sweep], [row["psnr"] for row in sweep]
    axes.plot(x, y, color=SERIES[0], marker="o", label="chosen, by the price of compute (dB)")
    seen: dict[tuple[float, float], list[str]] = {}
    for row in sweep:
        seen.setdefault((row["cost"], row["psnr"]), []).append(row["control"].removeprefix("price "))
    for place, names in seen.items():
        text = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        axes.annotate(text, place, textcoords="offset points", xytext=(5, -11), fontsize=8)
    forced = [row for name, row in controls.items() if re.fullmatch(r"expert \d+", name)]
    axes.plot(
        *([row[what] for row in forced] for what in ("cost", "psnr")),
        color=SERIES[1],
        marker="s",
        linestyle="--",
        label="one expert everywhere",
    )
    lots = [row for name, row in controls.items() if name.startswith(("random", "shuffled"))]
    axes.plot(
        *([row[what] for row in lots] for what in ("cost", "psnr")),
        color=SERIES[2],
        marker="^",
        linestyle="",
        label="random, or another picture's",
    )
    constant = sorted(
        (row["cost"], row["psnr"]) for name, row in controls.items() if name.startswith("constant within")
    )
    if constant:
        axes.plot(
            *zip(*constant, strict=True),
            color=SERIES[4],
            marker="v",
            linestyle=":",
            label="one route for all, the best",
        )
    if "best" in controls:
        best = controls["best"]
        axes.plot(best["cost"], best["psnr"], color=SERIES[3], marker="D", linestyle="", label="best, seen afterwards")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%.2f"))
    _finish(axes, "share of the dearest decoder's multiply-adds", "RGB PSNR (dB), mean of all sets")
    _save(figure, path)
    return True


def _ink(share: float) -> str:
    return "white" if share > 0.55 else "black"
