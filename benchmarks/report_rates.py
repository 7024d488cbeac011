"""The sections on rate and distortion in docs/benchmarks.md, and on where classic codecs win."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

from benchmarks.floors import curves, file_near
from benchmarks.rates import GRID, crossing, lead_at, mean_at, rate_for
from benchmarks.record import Row, rows
from benchmarks.tables import figure, image, origin, table


def section(record: Row | None, images: dict[str, str]) -> list[str]:
    parts = ["## Rate and distortion", origin(record, "rate_distortion", "curves")]
    if record and rows(record, "curves"):
        codecs = [f"{name} ({c['options']}; {c['library']})" for name, c in record["settings"]["codecs"].items()]
        parts.append(
            f"Real files in the same run: moesaic, {', '.join(codecs)}. "
            "Interpolated in log(bpp) between a picture's files. `x*n`: only n pictures have files on both sides of "
            "that rate, so such cells do not compare."
        )
        for value, label, digits in (("psnr", "RGB PSNR (dB)", 2), ("ssim", "SSIM", 4)):
            parts.append(f"{label} at bpp, mean over pictures:")
            parts.append(_grid(curves(record, value), digits))
            parts.append(image(images, f"rate_{value}", f"{label} against bits per pixel, by codec"))
        parts += _times(record)
    return [*parts, *_close(record), *_targets(record)]


def _grid(by_codec: dict[str, Any], digits: int) -> str:
    body = []
    for codec, by_picture in by_codec.items():
        cells = []
        for rate in GRID:
            mean = mean_at(by_picture, rate)
            short_of = f"*{mean.count}" if 0 < mean.count < len(by_picture) else ""
            cells.append(figure(mean.value, digits) + short_of)
        body.append([f"{codec} ({len(by_picture)})", *cells])
    return table(["codec (pictures)", *(f"{r:g}" for r in GRID)], body).replace("*", r"\*")


def _times(record: Row) -> list[str]:
    body = []
    for codec in curves(record):
        near = [file_near(row, 0.5) for row in rows(record, "curves") if row["codec"] == codec]
        cells = [figure(statistics.median(f[k] for f in near), d) for k, d in _TIMES]
        body.append([codec, *cells])
    words = "Each picture's file nearest to 0.5 bpp, medians, on all threads where a codec uses them:"
    return [words, table(["codec", "bpp", "encode ms", "decode ms"], body)]


_TIMES = (("bpp", 2), ("encode_ms", 1), ("decode_ms", 1))


def _close(record: Row | None) -> list[str]:
    parts = ["### One file of 10,000 kernels", origin(record, "rate_distortion", "file")]
    found = rows(record, "file")
    if not found:
        return parts
    means = [
        "mean",
        *(figure(statistics.fmean(r[f] for r in found), d) for f, d in _FILE),
    ]
    body = [[r["picture"], *(figure(r[f], d) for f, d in _FILE)] for r in found]
    head = ["picture", "bits a kernel", "fit dB", "file dB", "loss dB", "encode s", "decode ms"]
    words = "The loss is the PSNR of an unquantised fit with the same experts and seed less that of the file's pixels."
    return [*parts, words, table(head, [*body, means])]


_FILE = (
    ("bits_per_kernel", 1), ("psnr_fit", 2), ("psnr_file", 2), ("loss", 3), ("encode_s", 1), ("decode_ms", 0),
)  # fmt: skip


def _targets(record: Row | None) -> list[str]:
    parts = ["### Asking for a rate or a PSNR", origin(record, "rate_distortion", "targets")]
    body = []
    for row in rows(record, "targets"):
        unit = "bpp" if row["kind"] == "bpp" else "dB"
        asked = f"{row['target']:g} {unit}"
        if "refused" in row:
            body.append([row["picture"], asked, "refused", "-", "-", figure(row["seconds"], 1)])
        else:
            miss = f"{100 * row['miss']:+.2f} %" if unit == "bpp" else f"{row['miss']:+.3f} dB"
            body.append(
                [row["picture"], asked, figure(row["bpp"], 3), figure(row["psnr"]), miss, figure(row["seconds"], 1)]
            )
    if body:
        parts.append(table(["picture", "asked", "bpp", "PSNR (dB)", "miss", "s"], body))
    return parts


def classics(record: Row | None) -> list[str]:
    parts = ["## Where classic codecs win", origin(record, "rate_distortion", "curves")]
    for value, label in (("psnr", "RGB PSNR"), ("ssim", "SSIM")):
        found = curves(record, value)
        ours = found.pop("moesaic", None)
        if not ours or not found:
            return (
                parts
                if record is None
                else [*parts, "Not computed: curves of moesaic and of another codec are needed."]
            )
        body = []
        for codec, theirs in found.items():
            leads = [lead_at(ours, theirs, rate) for rate in GRID]
            total = len(set(ours) & set(theirs))
            cells = [
                _signed(m.value, 2 if value == "psnr" else 4) + (rf"\*{m.count}" if 0 < m.count < total else "")
                for m in leads
            ]
            body.append([codec, *cells])
        parts.append(
            f"**{label}**, moesaic less the other, over the pictures that both reach; below zero the other wins:"
        )
        parts.append(table(["codec", *(f"{r:g}" for r in GRID)], body))
        parts.append("\n".join(f"- {_winner(codec, ours, theirs)}" for codec, theirs in found.items()))
    psnr = curves(record)
    body = [[codec, figure(rate_for(psnr[codec], 30.5), 3)] for codec in psnr]
    parts.append("Rate at which the mean over all pictures reaches 30.5 dB:")
    parts.append(table(["codec", "bpp"], body))
    return parts


def _signed(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:+.{digits}f}"


def _winner(codec: str, ours: Any, theirs: Any) -> str:
    """What the mean curves say, in words."""
    found = crossing(ours, theirs)
    if math.isnan(found.lowest):
        return f"{codec}: no rate is reached by every picture of both."
    edges = [found.lowest, *found.at, found.highest]
    spans = []
    ahead = found.first_ahead_at_lowest
    for a, b in itertools.pairwise(edges):
        spans.append(f"{'moesaic' if ahead else codec} is ahead from {a:.2f} to {b:.2f} bpp")
        ahead = not ahead
    return f"{codec}: {', '.join(spans)} (the rates that all pictures of both reach)."
