"""An audit for people: the comparisons, what each routed layer does, and the verdict."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from moesaic.cli.endings import one_line

if TYPE_CHECKING:
    from rich.table import Table

    from moesaic.cli.report import Figures


def as_tables(figures: Figures) -> str:
    """The figures of `Audit.figures`, and the names of classes under "classes", as tables and sentences."""
    from rich.console import Console
    from rich.padding import Padding

    text = io.StringIO()
    width = min(120, shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=text, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    console.print(_comparisons(figures))  # its first line is empty
    for layer, usage in figures["usage"].items():
        console.print(Padding(_in_words(layer, usage), (0, 0, 0, 1)))
        console.print(_experts(usage, figures["classes"]))
    console.print(Padding(figures["verdict"], (0, 0, 0, 1)))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _comparisons(figures: Figures) -> Table:
    score = figures["score"]
    unit = one_line(score["unit"])
    table = _table("", one_line(score["name"]), f"gain, {unit}" if unit else "gain", "95 % interval", "routing")
    table.add_row("as it is", f"{score['value']:.2f}", "", _interval(score, ""), "")
    for one in figures["comparisons"]:
        name = one_line(one["name"]) + (" (trained apart)" if one["trained"] else "")
        table.add_row(name, f"{one['score']:.2f}", f"{one['gain']:+.2f}", _interval(one, "+"), one["outcome"])
    return table


def _experts(usage: Figures, classes: list[str]) -> Table:
    """A column for each expert: shares of use, then the share of each class that it speaks for, in percent."""
    table = _table("% of", *(f"e{number}" for number in range(usage["experts"])))
    rows = {"assignments": usage["assignment_share"], "patches": usage["patch_share"], "weight": usage["weight_share"]}
    rows |= {one_line(name): [row[i] for row in usage.get("class_table", [])] for i, name in enumerate(classes)}
    for number, (name, shares) in enumerate(rows.items()):
        if shares:
            cells = ("-" if share is None else f"{100 * share:.1f}" for share in shares)
            table.add_row(name, *cells, end_section=number == 2)
    return table


def _in_words(layer: str, usage: Figures) -> str:
    experts, k = usage["experts"], usage["k"]
    told = [
        f"{one_line(layer)}: {experts} experts, {k:.3g} at each of {usage['grid'][0]}x{usage['grid'][1]} places.",
        f"Routing entropy {_figure(usage['routing_entropy'])} of 1, by weight {_figure(usage['weight_entropy'])};",
        f"top expert {usage['top_assignment_share']:.1%} of assignments (even {1 / experts:.1%}),",
        f"{usage['top_patch_share']:.1%} of patches (even {k / experts:.1%}).",
        f"Entropy at a place {_figure(usage['flatness'])} of its largest.",
        f"The position explains {_figure(usage['position_information'])} of the choice",
    ]
    if "class_information" in usage:
        told.append(f"and the class {_figure(usage['class_information'])}")
    return " ".join(told) + "."


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _interval(figures: Figures, sign: str) -> str:
    low, high = figures["low"], figures["high"]
    return "unknown" if low is None else f"[{low:{sign}.2f}, {high:{sign}.2f}]"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
