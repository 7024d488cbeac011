"""The marked blocks of docs/enlarging.md, from the records of enlarging alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.enlarge_settings import CHANGES
from benchmarks.record import Row, rows
from benchmarks.super_resolution import RESIZES, SCALES, SETS
from benchmarks.tables import figure, origin, table
from moesaic.mixture.enlarge import SAMPLINGS

NAMES = ("enlarge", "enlarge_settings", "enlarge_samplings")
METHODS = {
    "nearest": "nearest",
    "bicubic": "bicubic",
    "lanczos": "Lanczos",
    "lanczos, back-projected": "Lanczos, back-projected",
    "mixtures as they are": '`sampling="point"`',
    "mixtures alone": "mixtures alone",
    "moesaic": "**moesaic**",
}
_DIGITS = {"psnr_y": 2, "psnr_rgb": 2, "ssim_y": 4}

Records = Mapping[str, Row | None]


def blocks(records: Records) -> dict[str, str]:
    """Texts by the names of their marks."""
    return {
        "enlarging verdict": _verdict(records.get("enlarge")),
        "enlarging sets": _sets(records.get("enlarge")),
        "enlarging seconds": _seconds(records.get("enlarge")),
        "enlarging settings": _settings(records.get("enlarge_settings")),
        "enlarging samplings": _samplings(records.get("enlarge_samplings")),
    }


def _mean(found: list[Row], method: str, what: str) -> float:
    return statistics.fmean(row["methods"][method][what] for row in found)


def _groups(record: Row | None) -> dict[tuple[str, int], list[Row]]:
    """The rows of each set and scale that were run."""
    every = rows(record, "pictures")
    groups = {(s, scale): [r for r in every if (r["set"], r["scale"]) == (s, scale)] for s in SETS for scale in SCALES}
    return {key: found for key, found in groups.items() if found}


def _verdict(record: Row | None) -> str:
    groups = _groups(record)
    if not groups:
        return origin(record, "enlarge", "pictures")
    lines = []
    for scale in SCALES:
        gains = {
            other: [
                _mean(found, "moesaic", "psnr_y") - _mean(found, other, "psnr_y")
                for (_, s), found in groups.items()
                if s == scale
            ]
            for other in ("lanczos", "lanczos, back-projected")
        }
        if gains["lanczos"]:
            told = [f"{_range(values)} dB over {METHODS[other]}" for other, values in gains.items()]
            lines.append(f"- x{scale}: {' and '.join(told)}")
    below = [
        f"{row['set']} {row['picture']} x{row['scale']}"
        for found in groups.values()
        for row in found
        if row["methods"]["moesaic"]["psnr_y"] <= row["methods"]["lanczos"]["psnr_y"]
    ]
    count = sum(map(len, groups.values()))
    lost = f"below Lanczos on {', '.join(below)}" if below else "above Lanczos on each of them"
    sets = ", ".join(dict.fromkeys(name for name, _ in groups))
    head = f"Gain in PSNR-Y, the means of the sets ({sets}), from the least to the most:"
    return "\n".join([head, "", *lines, "", f"Of {count} enlargements, moesaic is {lost}."])


def _range(values: list[float]) -> str:
    return f"{min(values):+.2f} to {max(values):+.2f}"


def _sets(record: Row | None) -> str:
    groups = _groups(record)
    parts = [origin(record, "enlarge", "pictures")]
    if groups:
        head = ["set", "scale", *METHODS.values()]
        body = []
        for (name, scale), found in groups.items():
            cells = [" / ".join(figure(_mean(found, m, what), d) for what, d in _DIGITS.items()) for m in METHODS]
            body.append([f"{name} ({len(found)})", f"x{scale}", *cells])
        parts.append(table(head, body))
    return "\n\n".join(parts)


def _seconds(record: Row | None) -> str:
    groups = _groups(record)
    if not groups:
        return origin(record, "enlarge", "pictures")
    head = ["set", "scale", "pixels of a large picture", "s a picture", "s for a million large pixels"]
    body = []
    for (name, scale), found in groups.items():
        pixels = statistics.fmean(row["width"] * row["height"] for row in found)
        seconds = _mean(found, "moesaic", "seconds")
        body.append([name, f"x{scale}", f"{pixels:,.0f}", figure(seconds, 1), figure(seconds / pixels * 1e6, 1)])
    return table(head, body)


def _settings(record: Row | None) -> str:
    found = {(row["what"], row["scale"]): row for row in rows(record, "settings")}
    parts = [origin(record, "enlarge_settings", "settings")]
    names = [name for name in ("lanczos", "lanczos, back-projected", *CHANGES) if (name, 2) in found]
    if names:
        body = []
        for name in names:
            cells = [figure(found[name, s]["psnr_y"]) if (name, s) in found else "-" for s in SCALES]
            body.append([METHODS.get(name, name), *cells, figure(found[name, 2]["seconds"])])
        parts.append(table(["change", *(f"x{s}" for s in SCALES), "s a crop at x2"], body))
    return "\n\n".join(parts)


def _samplings(record: Row | None) -> str:
    found = {row["what"]: row for row in rows(record, "samplings")}
    parts = [origin(record, "enlarge_samplings", "samplings")]
    if found:
        kinds = (*SAMPLINGS, "by lanczos")
        head = ["made small by", *(f"`{kind}`" if kind in SAMPLINGS else "Lanczos" for kind in kinds)]
        body = []
        for made in RESIZES:
            cells = [found.get(f"{made} as {kind}") for kind in kinds]
            body.append([_MADE[made], *(figure(cell["psnr_y"]) if cell else "-" for cell in cells)])
        parts.append(table(head, body))
    return "\n\n".join(parts)


_MADE = {
    "box": "the mean over 2x2 pixels",
    "bilinear": "bilinear, without aliases",
    "bicubic": "bicubic, without aliases",
    "lanczos": "Lanczos, without aliases",
    "nearest": "every second pixel",
}
