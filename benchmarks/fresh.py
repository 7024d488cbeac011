"""Commands in processes of their own, start included, and `encode --fast` in a running one.

`--beside` names a checkout of another commit: both then take turns, in the same Python. What importing torch alone
takes is measured, too: no command that draws a mixture or runs a network can be faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.pictures import Source, gallery, parser
from benchmarks.record import ROOT, Record, Row
from benchmarks.timing import alternate, summary
from moesaic.image import read_picture, write_picture

VERBS = {
    "encode --fast": ("encode", "picture.png", "-o", "picture.moe", "--fast", "--force"),
    "decode": ("decode", "picture.moe", "-o", "decoded.png", "--force"),
    "restore": ("restore", "picture.png", "-o", "restored.png", "--force"),
    "segment": ("segment", "picture.png", "-o", "segmented.png", "--force"),
    "estimate": ("estimate", "picture.png"),
    "info": ("info", "picture.moe"),
}
KERNELS = (2457, 9830)
_RUNNING = """
import json, sys, time
import moesaic
picture = moesaic.read_picture("picture.png")
encode = lambda: moesaic.encode(picture, fast=True, experts=int(sys.argv[1]))
encode(), encode()
times = []
for _ in range(5):
    begin = time.perf_counter()
    encode()
    times.append(1e3 * (time.perf_counter() - begin))
print(json.dumps(times))
"""


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--turns", type=int, default=7)
    options.add_argument("--beside", type=Path, metavar="DIR", help="a checkout of another commit")
    options.add_argument("--verbs", default=",".join(VERBS), metavar=",".join(VERBS))
    asked = options.parse_args(arguments)
    verbs = {name: VERBS[name] for name in asked.verbs.split(",")}
    trees = {"now": ROOT} | ({"before": asked.beside.resolve()} if asked.beside else {})
    source = gallery(asked.pictures).only(asked.only)[0]
    settings: Row = {"picture": source.name, "turns": asked.turns}
    if asked.beside:
        settings["before"] = _commit(asked.beside)
    record = Record("fresh", settings=settings, folder=asked.results, resume=asked.resume)
    with tempfile.TemporaryDirectory() as name:
        measure(record, source, verbs, trees, asked.turns, Path(name))


def measure(
    record: Record,
    source: Source,
    verbs: dict[str, tuple[str, ...]],
    trees: dict[str, Path],
    turns: int,
    folder: Path,
) -> None:
    """All rows, in a folder for the files."""
    write_picture(read_picture(source.path), folder / "picture.png")
    _run(trees["now"], folder, "-m", "moesaic", *VERBS["encode --fast"])
    for verb, words in verbs.items():
        if record.has("fresh", verb):
            continue
        rivals: dict[str, Callable[[], object]] = {"torch": partial(_run, ROOT, folder, "-c", "import torch")}
        for name, tree in trees.items():
            rivals[name] = partial(_run, tree, folder, "-m", "moesaic", *words)
        times = alternate(rivals, turns=turns, budget=600.0)
        record.put("fresh", verb, row := {"verb": verb} | {name: summary(spent) for name, spent in times.items()})
        print(verb, {name: round(row[name]["median_ms"]) for name in times}, flush=True)
    for kernels in KERNELS:
        if record.has("running", str(kernels)):
            continue
        found: dict[str, list[float]] = {name: [] for name in trees}
        for _ in range(max(1, turns // 2)):
            for name, tree in trees.items():
                found[name] += json.loads(_run(tree, folder, "-c", _RUNNING, str(kernels)))
        row = {"kernels": kernels} | {name: summary(spent) for name, spent in found.items()}
        record.put("running", str(kernels), row)
        print(kernels, {name: round(row[name]["median_ms"]) for name in trees}, flush=True)


def _run(tree: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def _commit(tree: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
