"""Speed of routed convolutions beside a dense one of the same shape, and a table in docs/routing.md.

Experts are 3x3 convolutions from C to C channels that differ; the decision is a fixed random one, the same for all
forms of dispatch, so these are timed without a gate. The whole layer adds the default gate to `merged`. Rivals take
turns and medians count; the table shows ratios only. Torch's threads are asked to sleep between turns
(OMP_WAIT_POLICY=PASSIVE).
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import torch
from torch import Tensor, nn

from benchmarks.record import RESULTS, ROOT, Record, read, rows
from benchmarks.tables import figure, origin, table
from benchmarks.timing import alternate, summary
from moesaic.routing import ConvExperts, RoutedConv2d, Routing, dispatch, make_gate

SHAPES = {"16 @ 180x240": (16, 180, 240), "64 @ 180x240": (64, 180, 240), "256 @ 45x60": (256, 45, 60)}  # C, H, W
BATCHES = (1, 2)
FORMS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
PASSES = ("forward", "forward + backward")
EXPERTS, K, GRID = 8, 2, (3, 3)
HOW = ("merged", "gather", "reference")
COLUMNS = (*HOW, "whole layer")
DOCUMENT = ROOT / "docs" / "routing.md"


def main(arguments: list[str] | None = None) -> None:
    asked = _options().parse_args(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads)
    settings = {"experts": EXPERTS, "k": K, "grid": list(GRID), "threads": asked.threads, "turns": asked.turns}
    record = Record("routing", settings=settings, folder=asked.results, resume=asked.resume)
    try:
        for shape, batch, (form, layout) in itertools.product(asked.only or SHAPES, BATCHES, FORMS.items()):
            for what in PASSES:
                key = f"{shape}/{batch}/{form}/{what}"
                if record.has("speed", key):
                    continue
                works = rivals(*SHAPES[shape], batch, layout, gradient=what != "forward")
                # gather and reference stream through all caches: beside them, turns of the others measure memory alone
                spent = {}
                for group in (("dense", "merged", "whole layer"), ("gather", "reference")):
                    turns = {name: works[name] for name in group}
                    spent |= alternate(turns, turns=asked.turns, budget=asked.budget)
                row = {"shape": shape, "batch": batch, "layout": form, "pass": what}
                row |= {"times": {name: summary(turns) for name, turns in spent.items()}}
                record.put("speed", key, row)
                print(f"{key}: {', '.join(_told(row))}", flush=True)
    finally:
        torch.set_num_threads(before)
    if asked.results == RESULTS:
        write_table(record.path, DOCUMENT)


def rivals(
    channels: int, height: int, width: int, batch: int, layout: torch.memory_format, *, gradient: bool
) -> dict[str, Callable[[], Any]]:
    """A turn of each: the dense convolution, every form of dispatch, and the layer with its gate."""
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width).to(memory_format=layout).requires_grad_(gradient)
    dense = nn.Conv2d(channels, channels, 3, padding=1)
    bank = ConvExperts(EXPERTS, channels, channels, (3, 3), padding=(1, 1, 1, 1))
    layer = RoutedConv2d(bank, make_gate("two_conv", channels, EXPERTS, K), GRID, how="merged")
    layer.record = True
    for module in (dense, layer):
        module.to(memory_format=layout)
    decision = decided(batch, gradient=gradient)
    calls: dict[str, Callable[[], Tensor]] = {"dense": lambda: dense(x)}
    for how in HOW:
        calls[how] = lambda how=how: dispatch(x, bank, decision, how=how)
    calls["whole layer"] = lambda: layer(x)
    inputs = [x, decision.weights, *dense.parameters(), *layer.parameters()]
    return {name: _turn(call, inputs, gradient) for name, call in calls.items()}


def decided(batch: int, *, gradient: bool) -> Routing:
    """A decision that depends on nothing; its weights ask for a gradient where the others do."""
    places = GRID[0] * GRID[1]
    logits = torch.randn(batch, places, EXPERTS, generator=torch.Generator().manual_seed(1))
    best, chosen = logits.topk(K, dim=-1)
    weights = best.softmax(-1).requires_grad_(gradient)
    return Routing(weights=weights, chosen=chosen, probabilities=logits.softmax(-1), logits=logits, grid=GRID)


def _turn(call: Callable[[], Tensor], inputs: list[Tensor], gradient: bool) -> Callable[[], Any]:
    def forward() -> Tensor:
        with torch.no_grad():
            return call()

    def both() -> tuple[Tensor | None, ...]:
        y = call()
        return torch.autograd.grad(y, inputs, torch.ones_like(y), allow_unused=True)

    return both if gradient else forward


def ratios(row: dict[str, Any]) -> dict[str, float]:
    """How many times the dense convolution's median time each of the others took."""
    times = row["times"]
    return {name: times[name]["median_ms"] / times["dense"]["median_ms"] for name in COLUMNS}


def _told(row: dict[str, Any]) -> list[str]:
    return [f"{name} {ratio:.1f}" for name, ratio in ratios(row).items()]


def write_table(results: Path, document: Path) -> None:
    """Renew the block between the marks in the document."""
    record = read(results)
    body = []
    for row in rows(record, "speed"):
        cells = [f"{row['shape']}, batch {row['batch']}, {row['layout']}", row["pass"]]
        body.append([*cells, *(figure(ratio, 1) for ratio in ratios(row).values())])
    settings = record["settings"]
    threads = settings["threads"]
    head = ["C @ HxW, batch, memory format", "pass", *COLUMNS]
    words = (
        "Times the median time of the dense convolution, which takes turns with the others."
        f" {settings['experts']} experts, k = {settings['k']}, {threads} thread{'s' * (threads > 1)}."
    )
    block = "\n\n".join([words, table(head, body), origin(record, "routing")])
    marks = ("<!-- routing speed -->", "<!-- end of routing speed -->")
    text = document.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in marks):
        raise SystemExit(f"{document.name} must hold {marks[0]} and {marks[1]} once")
    pattern = f"{marks[0]}.*?{marks[1]}"
    renewed = re.sub(pattern, lambda _: f"{marks[0]}\n{block}\n{marks[1]}", text, flags=re.DOTALL)
    document.write_text(renewed, encoding="utf-8")


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", nargs="+", choices=tuple(SHAPES), metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--turns", type=int, default=21, help="turns of each rival")
    options.add_argument("--budget", type=float, default=30.0, help="seconds for a row, after three turns of each")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    return options


if __name__ == "__main__":
    main()
