"""The tables of docs/denoising.md on the noise estimate and on where kernels begin, from their records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from benchmarks.record import Row, rows
from benchmarks.starts import chosen
from benchmarks.tables import figure, origin, table

NAMES = ("noise_estimate", "starts", "starts_pruned")


def blocks(records: dict[str, Row | None]) -> dict[str, str]:
    """What stands between the marks of the page, by name of the mark."""
    texts = {
        "noise estimate": _estimates(records["noise_estimate"]),
        "starts regression": _regression(records["starts"]),
        "starts denoising": [*_denoising(records["starts"]), *_pruned(records["starts_pruned"])],
    }
    return {name: "\n\n".join(parts) for name, parts in texts.items()}


def _estimates(record: Row | None) -> list[str]:
    found = rows(record, "ratios")
    methods = _values(found, "method")
    body = []
    for name, noise, sigma in dict.fromkeys((r["set"], r["noise"], r["sigma"]) for r in found):
        mine = {r["method"]: r for r in found if (r["set"], r["noise"], r["sigma"]) == (name, noise, sigma)}
        cells = []
        for row in (mine[method] for method in methods):
            cells += [f"{row['mean']:.3f}", f"{row['least']:.3f} to {row['most']:.3f}", str(row["beyond"])]
        body.append([f"{name} ({mine[methods[0]]['pictures']}), {noise}, {sigma}", *cells])
    head = ["pictures, noise, sigma", *(f"{m}: {what}" for m in methods for what in ("mean", "range", "beyond 10 %"))]
    return [origin(record, "noise_estimate", "ratios"), *([table(head, body)] if body else [])]


def _regression(record: Row | None) -> list[str]:
    found = rows(record, "regression")
    steps = sorted(_values(found, "steps"))
    body = []
    for experts in _values(found, "experts"):
        for how in _values(found, "start"):
            mine = [r for r in found if (r["experts"], r["start"]) == (experts, how)]
            cells = [_mean(r["psnr"] for r in mine if r["steps"] == s) for s in steps]
            longest = _mean((r["seconds"] for r in mine if r["steps"] == steps[-1]), 1)
            body.append([f"{experts:,} kernels, {how}", *cells, longest])
    if not body:
        return [origin(record, "starts", "regression")]
    seeds = f"seeds {', '.join(map(str, _values(found, 'seed')))}, one thread"
    words = f"Mean PSNR in dB over {', '.join(_values(found, 'picture'))} and {seeds}, by steps:"
    head = ["start", *(f"{s} steps" for s in steps), f"s for {steps[-1]} steps"]
    return [origin(record, "starts", "regression"), words, table(head, body)]


def _denoising(record: Row | None) -> list[str]:
    choice, found = rows(record, "choice"), rows(record, "denoising")
    body = []
    for sigma in _values(found, "sigma"):
        for how in _values(found, "start"):
            cells = []
            for what in ("single", "mean"):
                share, steps = chosen(choice, what, sigma, how)
                wanted = {"sigma": sigma, "start": how, "share": share, "steps": steps}
                pair = [[r[what] for r in part if wanted.items() <= r.items()] for part in (choice, found)]
                cells += [f"{share} px, {steps} steps", *(_mean(values) for values in pair)]
            body.append([f"sigma {sigma}, {how}", *cells])
    if not body:
        return [origin(record, "starts", "denoising")]
    test = ", ".join(_values(found, "picture"))
    train = ", ".join(_values(choice, "picture"))
    words = "dB against the clean picture; one expert for so many px, and steps, as best on training pictures "
    words += f"({train}), tested on {test}:"
    head = ["start", "one fit", "trained on", "tested on", "mean of 3", "trained on", "tested on"]
    return [origin(record, "starts", "denoising"), words, table(head, body)]


def _pruned(record: Row | None) -> list[str]:
    found = rows(record, "pruned")
    body = []
    for sigma in _values(found, "sigma"):
        for how in _values(found, "start"):
            mine = [r for r in found if (r["sigma"], r["start"]) == (sigma, how)]
            cells = [_mean((r[field] for r in mine), digits) for field, digits in _PRUNED]
            body.append([f"sigma {sigma}, {how}", *cells])
    words = f"The fits of `moesaic.denoise` from each start, on {', '.join(_values(found, 'picture'))}:"
    head = ["start", "experts left", "one fit, dB", "mean of 3, dB", "s a fit"]
    return [origin(record, "starts_pruned", "pruned"), *([words, table(head, body)] if body else [])]


_PRUNED = (("experts", 0), ("single", 2), ("mean", 2), ("seconds", 1))


def _values(found: list[Row], field: str) -> list:
    return list(dict.fromkeys(r[field] for r in found))


def _mean(values: Iterable[float], digits: int = 2) -> str:
    held = list(values)
    return figure(statistics.fmean(held) if held else None, digits)
