"""The tables of docs/large.md, from the record of large pictures: `python -m benchmarks.report_large`."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.pages import asked_for, renew
from benchmarks.record import Row, rows
from benchmarks.tables import figure, origin, table

NAMES = ("large_pictures",)

Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "large.md", blocks(records))


def blocks(records: Records) -> dict[str, str]:
    """Texts by the names of their marks."""
    record = records.get("large_pictures")
    return {"large streaming": _streaming(record), "large others": _others(record)}


def _streaming(record: Row | None) -> str:
    found: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows(record, "streaming"):
        found.setdefault((row["verb"], row["megapixels"]), {})[row["way"]] = row
    body = [
        [verb, f"{size}", *_told(ways.get("bands")), *_told(ways.get("whole"))] for (verb, size), ways in found.items()
    ]
    head = ["verb", "megapixels", "in bands, MiB", "s", "as a whole, MiB", "s"]
    if not body:
        return _origin(record, "streaming")
    return f"{_origin(record)}\n\n{table(head, body)}"


def _others(record: Row | None) -> str:
    body = [[row["verb"], f"{row['megapixels']}", *_told(row)] for row in rows(record, "others")]
    return table(["verb", "megapixels", "MiB", "s"], body) if body else _origin(record, "others")


def _told(row: Row | None) -> tuple[str, str]:
    """Memory and seconds; why there are none, in their place."""
    if row is None:
        return "-", "-"
    if row["seconds"] is None:
        return "-", f"more than {row['limit_s']:.0f}"
    if row["code"] != 0:
        return "-", "failed"
    return figure(row["peak_mib"], 0), figure(row["seconds"], 0)


def _origin(record: Row | None, section: str | None = None) -> str:
    told = origin(record, "large_pictures", section)
    return told.replace("python -m benchmarks.large_pictures", "python -m benchmarks.large")


if __name__ == "__main__":
    main()
