"""The tables of docs/denoising.md on results and on the parts of the denoiser, from their records."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.record import Row, rows
from benchmarks.tables import figure, origin, table

NAMES = ("denoise", "denoise_parts", "denoise_real")
_ORDER = ("noisy", "one mixture", "fusion of 8", "moesaic", "NLM", "TV", "wavelets", "BM3D")
_RIVALS = ("NLM", "TV", "wavelets", "BM3D")

Records = Mapping[str, Row | None]


def blocks(records: Records) -> dict[str, str]:
    """What stands between the marks of the page, by name of the mark."""
    record = records.get("denoise")
    return {
        "denoising verdict": _verdict(record),
        "denoising all": _conditions(record, "all"),
        "denoising few": _conditions(record, "few"),
        "denoising seconds": _seconds(record),
        "denoising real": _real(record),
        "denoising real, told": _told(records.get("denoise_real")),
        "denoising parts": _parts(records.get("denoise_parts")),
    }


def _verdict(record: Row | None) -> str:
    """By how much each rival is beaten or not, on the mean of each condition."""
    found = rows(record, "synthetic")
    if not found:
        return origin(record, "denoise", "synthetic")
    lines = []
    for rival in _RIVALS:
        part = "few" if rival == "BM3D" else "all"
        gains = {
            f"{row['set']}, {row['noise']}, sigma {row['sigma']}": row[part]["moesaic"]["psnr"]
            - row[part][rival]["psnr"]
            for row in found
            if rival in row[part]
        }
        if not gains:
            continue
        behind = [f"{name} ({gain:+.2f})" for name, gain in gains.items() if gain <= 0.0]
        told = f"{min(gains.values()):+.2f} to {max(gains.values()):+.2f} dB over {len(gains)} means"
        lines.append(
            f"- against {rival}: {told}; " + (f"behind on {', '.join(behind)}" if behind else "behind on none")
        )
    return "\n".join([origin(record, "denoise", "synthetic"), "", *lines])


def _conditions(record: Row | None, part: str) -> str:
    found = [row for row in rows(record, "synthetic") if row[part]]
    if not found:
        return origin(record, "denoise", "synthetic")
    names = [name for name in _ORDER if any(name in row[part] for row in found)]
    body = []
    for row in found:
        scores = row[part]
        count = max(score["pictures"] for score in scores.values())
        best = max(score["psnr"] for score in scores.values())
        cells = []
        for name in names:
            score = scores.get(name)
            psnr = figure(score["psnr"]) if score else "-"
            told = f"{psnr} / {score['ssim']:.4f}" if score else "-"
            cells.append(told.replace(psnr, f"**{psnr}**", 1) if score and score["psnr"] == best else told)
        body.append([f"{row['set']} ({count}), {row['noise']}, {row['sigma']}", *cells])
    return table(["pictures, noise, sigma", *names], body)


def _seconds(record: Row | None) -> str:
    found = rows(record, "synthetic")
    if not found:
        return origin(record, "denoise", "synthetic")
    body = []
    for name in dict.fromkeys(row["set"] for row in found):
        mine = [row for row in found if row["set"] == name]
        for kind, words in (("seconds", "by the clock"), ("core_seconds", "of all cores together")):
            cells = []
            for method in ("moesaic", *_RIVALS):
                values = [row["few"][method][kind] for row in mine if method in row["few"]]
                cells.append(f"{min(values):.2f} to {max(values):.2f}" if values else "-")
            body.append([f"{name}, {words}", *cells])
    return table(["seconds a picture", "moesaic", *_RIVALS], body)


def _real(record: Row | None) -> str:
    found = rows(record, "real")
    if not found:
        return origin(record, "denoise", "real")
    names = [name for name in _ORDER if any(name in row["all"] for row in found)]
    body = []
    for row in found:
        count = max(score["pictures"] for score in row["all"].values())
        least, median, most = row["sigma_least_median_most"]
        cells = [
            f"{figure(row['all'][name]['psnr'])} / {row['all'][name]['ssim']:.4f}" if name in row["all"] else "-"
            for name in names
        ]
        body.append([f"{row['set']} ({count})", f"{least:g} / {median:g} / {most:g}", *cells])
    return table(["pictures", "estimated sigma, least / median / most", *names], body)


def _told(record: Row | None) -> str:
    found = rows(record, "told")
    if not found:
        return origin(record, "denoise_real", "told")
    names = [name for name in _ORDER if any(name in row["all"] for row in found)]
    body = []
    for row in found:
        cells = [f"{figure(row['all'][name]['psnr'])} / {row['all'][name]['ssim']:.4f}" for name in names]
        body.append([f"{row['set']} ({row['all']['noisy']['pictures']})", str(row["sigma"]), *cells])
    return "\n\n".join([origin(record, "denoise_real", "told"), table(["pictures", "sigma told", *names], body)])


def _parts(record: Row | None) -> str:
    found = rows(record, "parts")
    if not found:
        return origin(record, "denoise_parts", "parts")
    sigmas = list(dict.fromkeys(row["sigma"] for row in found))
    cells = {(row["what"], row["sigma"]): row for row in found}
    body = [
        [what, *(f"{cells[what, s]['psnr']:.2f} ({cells[what, s]['experts']:,})" for s in sigmas if (what, s) in cells)]
        for what in dict.fromkeys(row["what"] for row in found)
    ]
    head = ["plain average unless it says otherwise", *(f"sigma {sigma}" for sigma in sigmas)]
    return "\n\n".join([origin(record, "denoise_parts", "parts"), table(head, body)])
