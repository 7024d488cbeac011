"""The tables of docs/serve.md, from the records of the page alone: `python -m benchmarks.report_page`."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.pages import asked_for, renew
from benchmarks.record import Row, rows
from benchmarks.tables import figure, origin, table

NAMES = ("serve", "zoom")

Records = Mapping[str, Row | None]


def main(arguments: list[str] | None = None) -> None:
    records, docs = asked_for(__doc__, NAMES, arguments)
    renew(docs / "serve.md", blocks(records))


def blocks(records: Records) -> dict[str, str]:
    """Texts by the names of their marks."""
    return {"serve load": _load(records.get("serve")), "serve zoom": _zoom(records.get("zoom"))}


def _load(record: Row | None) -> str:
    body = [
        [
            f"{row['people']}",
            f"{row['done']}",
            figure(row["taken"]["median_ms"] / 1e3),
            figure(row["taken"]["most_ms"] / 1e3),
            figure(row["all_done_s"], 1),
            figure(row["server_mib"], 0),
        ]
        for row in rows(record, "load")
    ]
    head = ["at once", "done", "taken after, s, median", "the last, s", "all done after, s", "server's memory, MiB"]
    return f"{origin(record, 'serve')}\n\n{table(head, body)}" if body else origin(record, "serve", "load")


def _zoom(record: Row | None) -> str:
    resting = [
        [
            row["made"],
            f"x{row['scale']:.3g}",
            figure(row["kernels_per_pixel"], 1),
            figure(max(row["estimate"].values()), 1),
            figure(row["software_ms"], 0),
        ]
        for row in rows(record, "resting")
    ]
    moving = [
        [
            row["made"],
            row["kind"],
            figure(row["script"]["median_ms"], 1),
            figure(row["script"]["most_ms"], 1),
            figure(row["software_frames_per_s"], 1),
        ]
        for row in rows(record, "moving")
    ]
    still = ["kernels", "scale", "kernels for a pixel", "estimate for a GPU, ms", "in software, ms"]
    going = ["kernels", "movement", "script for a frame, ms, median", "the most, ms", "frames a second in software"]
    if not resting:
        return origin(record, "zoom", "resting")
    return f"{origin(record, 'zoom')}\n\n{table(still, resting)}\n\n{table(going, moving)}"


if __name__ == "__main__":
    main()
