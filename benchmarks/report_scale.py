"""The tables of docs/scale.md, from the record of batches alone: `python -m benchmarks.report_scale`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from benchmarks.pages import asked_for, renew
from benchmarks.record import Row, rows
from benchmarks.tables import figure, origin, table

NAMES = ("batch",)
DOLLARS = 0.04
"""For an hour of one processor: an assumption, near what clouds ask on demand for one of the common kind."""

FLEETS = (2, 64, 1024)  # processors

Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "scale.md", blocks(records))


def blocks(records: Records) -> dict[str, str]:
    """Texts by the names of their marks."""
    record = records.get("batch")
    if not rows(record, "throughput") or not rows(record, "overhead"):
        return dict.fromkeys(("scale throughput", "scale overhead", "scale million"), origin(record, "batch"))
    return {
        "scale throughput": f"{origin(record, 'batch')}\n\n{_throughput(record)}",
        "scale overhead": _overhead(record),
        "scale million": _million(record),
    }


def _throughput(record: Row | None) -> str:
    found = rows(record, "throughput")
    body = []
    for verb in _names(row["verb"] for row in found):
        alone = _median(found, "rate", verb=verb, arm="one worker")
        body += [
            [
                verb,
                arm,
                figure(_median(found, "first_s", verb=verb, arm=arm), 1),
                figure(rate := _median(found, "rate", verb=verb, arm=arm), 2),
                f"x{rate / alone:.2f}",
            ]
            for arm in _names(row["arm"] for row in found if row["verb"] == verb)
        ]
    return table(["verb", "arm", "first picture after, s", "pictures a second, then", "to one worker"], body)


def _overhead(record: Row | None) -> str:
    found = rows(record, "overhead")
    body = [
        [
            arm,
            figure(_median(found, "first_s", arm=arm), 1),
            figure(_median(found, "each_ms", arm=arm), 2),
            figure(_median(found, "kept_each_ms", arm=arm), 2),
        ]
        for arm in _names(row["arm"] for row in found)
    ]
    return table(["arm", "first file after, s", "for each file, ms", "for each that is kept, ms"], body)


def _million(record: Row | None) -> str:
    """From the rate of two workers, each on one processor, and nothing else."""
    found = rows(record, "throughput")
    body = []
    for verb in _names(row["verb"] for row in found):
        hours = 2 * 1e6 / _median(found, "rate", verb=verb, arm="two workers") / 3600
        body.append([verb, f"{hours:,.0f}", *(_long(hours / fleet) for fleet in FLEETS), f"${hours * DOLLARS:,.2f}"])
    head = ["verb", "hours of one processor", *(f"on {fleet:,}" for fleet in FLEETS), f"at ${DOLLARS:.2f} an hour"]
    return table(head, body)


def _long(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


def _median(found: Iterable[Row], figure: str, **where: str) -> float:
    return statistics.median(row[figure] for row in found if all(row[key] == value for key, value in where.items()))


def _names(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


if __name__ == "__main__":
    main()
