"""What all sections of docs/benchmarks.md are written with: tables, figures, and where they come from."""

from __future__ import annotations

import math

from benchmarks.record import Row, rows


def table(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the rest are figures."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin(record: Row | None, name: str, section: str | None = None) -> str:
    """The line that says where a table comes from, or that it cannot be made."""
    if record is None:
        return f"Not measured: `benchmarks/results/{name}.json` is not there. Run `python -m benchmarks.{name}`."
    if section and not rows(record, section):
        return f"Not measured: `benchmarks/results/{name}.json` has no section `{section}`."
    machine = record["machine"]
    state = f"commit {record['commit'][:10]}" + (" with uncommitted changes" if record["dirty"] else "")
    commands = ", ".join(f"`{c}`" for c in dict.fromkeys(record["commands"]))
    words = f"{machine['processor']} ({machine['vectors']}), {machine['cores']} cores, {machine['memory_gib']} GiB"
    return (
        f"From `benchmarks/results/{name}.json`: {commands}; {state}; {record['date']}; {words}, {machine['system']}."
    )


def figure(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def short(value: float | None, unit: str) -> str:
    """A number with its unit, as many digits as mean something."""
    if value is None or math.isnan(value):
        return "not measured"
    words = f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
    return f"{words} {unit}".strip()


def image(images: dict[str, str], name: str, words: str) -> str:
    """A plot, if it was drawn."""
    return f"![{words}](images/{images[name]})" if name in images else ""
