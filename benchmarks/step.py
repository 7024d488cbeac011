"""Where the time of a fit's step goes, before and after: each part of it in the code of an earlier commit and in this.

Each side runs in a process of its own, on one thread, and they take turns part by part. The processor's time of the
thread counts, since other work on the machine stretches the clock but hardly that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks import arithmetic
from benchmarks.pictures import gallery, parser
from benchmarks.record import ROOT, Record
from benchmarks.timing import summary

BEFORE = "d36763a"  # the last commit whose loops were arrays that Numba vectorised
LISTS = {"fit": 8.0, "render": None}  # margins between logits; None is the exact one
PARTS = ("lists", "forward", "backward", "step", "gather", "survey", "adam")


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=int, default=10_000)
    options.add_argument("--steps", type=int, default=150, help="of the fit whose kernels are measured")
    options.add_argument("--turns", type=int, default=21, help="turns of each side")
    options.add_argument("--before", default=BEFORE, metavar="COMMIT")
    options.add_argument("--work", type=Path, default=None, help="measure these arrays as asked on standard input")
    asked = options.parse_args(arguments)
    if asked.work:
        work(asked.work)
        return
    shown = gallery(asked.pictures)
    settings = {"pictures": shown.name, "experts": asked.experts, "steps": asked.steps, "turns": asked.turns}
    record = Record("step", settings=settings | {"before": asked.before}, folder=asked.results, resume=asked.resume)
    if not record.has("peak", "1 thread"):
        record.put("peak", "1 thread", {"threads": 1, "gflops": round(arithmetic.peak_of_thread(), 1)})
    with tempfile.TemporaryDirectory() as folder:
        unpack(asked.before, Path(folder) / "before")
        for source in shown.only(asked.only or (1,)):
            if all(record.has("parts", f"{source.name}/{lists}") for lists in LISTS):
                continue
            arrays = Path(folder) / "arrays.npz"
            fitted(source.read().pixels[..., :3], asked.experts, asked.steps, arrays)
            for lists in LISTS:
                row = compare(arrays, Path(folder) / "before", lists, asked.turns)
                record.put("parts", f"{source.name}/{lists}", {"picture": source.name, "lists": lists} | row)
                print(describe(row), flush=True)


def unpack(commit: str, folder: Path) -> None:
    """The package as it was at a commit."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def fitted(pixels: np.ndarray, experts: int, steps: int, path: Path) -> None:
    """Fit, and write the arrays that the loops read."""
    from moesaic.mixture.colours import pack
    from moesaic.mixture.fit import fit_pixels

    target = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    packed = pack(fit_pixels(target, experts=experts, steps=steps, threads=1))
    np.savez(path, target=target, centres=packed.centres, geometry=packed.geometry, experts=packed.experts)


def compare(arrays: Path, before: Path, lists: str, turns: int) -> dict[str, Any]:
    """Milliseconds of every part on both sides, by turns, and the work that they do."""
    sides = {"before": Side(before / "src", arrays), "after": Side(ROOT / "src", arrays)}
    try:
        spent: dict[str, dict[str, list[float]]] = {name: {part: [] for part in PARTS} for name in sides}
        counts = {name: side.ask(f"count {lists}") for name, side in sides.items()}
        for turn in range(turns + 1):
            for part in PARTS:
                for name, side in sides.items():
                    taken = side.ask(f"{part} {lists}")
                    if turn:  # the first warms up
                        spent[name][part].append(taken)
    finally:
        for side in sides.values():
            side.close()
    flops = {"flops_forward": arithmetic.FORWARD_FLOPS, "flops_step": arithmetic.BACKWARD_FLOPS}  # of the loops after
    return flops | {
        name: counts[name] | {"parts": {part: summary(taken) for part, taken in spent[name].items()}} for name in sides
    }


class Side:
    """A process that measures one version of the package."""

    def __init__(self, source: Path, arrays: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.step", "--work", str(arrays)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> Any:
        """Send a line; returns what comes back."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def work(path: Path) -> None:
    """Answer each line `PART LISTS` on standard input by the milliseconds of that part, or by counts."""
    from moesaic.mixture import growth
    from moesaic.mixture.backends import cpu, descent
    from moesaic.mixture.backends.cover import cover, exact_margin

    stored = np.load(path)
    centres, geometry, experts, target = (stored[k] for k in ("centres", "geometry", "experts", "target"))
    n, (channels, height, width) = len(centres), target.shape
    packed = cpu.Packed(centres, geometry, experts, channels, 0)
    margins = {name: exact_margin(n) if margin is None else margin for name, margin in LISTS.items()}
    covers = {name: cover(centres, geometry, width, height, margin, 1) for name, margin in margins.items()}
    drawn = {name: cpu.forward(packed, listed, 1) for name, listed in covers.items()}
    slopes = np.random.default_rng(0).normal(size=(n, 6 + experts.shape[1])).astype(np.float32)
    means = np.zeros_like(slopes), np.zeros_like(slopes)
    moved = packed.copy()
    rates = np.full(slopes.shape[1], 1e-7, np.float32)
    bounds = (5.0, 1e-3, 2.0 * width, 2.0 * height, -float(width), -float(height), channels)
    for line in sys.stdin:
        part, lists = line.split()
        listed, (picture, sums) = covers[lists], drawn[lists]
        rows = int(np.diff(listed.pair_rows.astype(np.int64)).sum())
        partials = np.zeros((len(listed.pair_kernel), slopes.shape[1]), np.float32)
        arrays = (moved.centres, moved.geometry, moved.experts, slopes, *means, rates)
        calls = {
            "lists": lambda m=margins[lists]: cover(centres, geometry, width, height, m, 1),
            "forward": lambda c=listed: cpu.forward(packed, c, 1),
            "backward": lambda c=listed, p=picture, s=sums: cpu.backward(packed, c, p, s, p, 1),
            "step": lambda c=listed: cpu.squared_error(packed, c, target, 1),
            "gather": lambda c=listed, p=partials: cpu.gather(packed, c, p, 1),
            "survey": lambda c=listed: growth.survey(packed, c, target, 1),
            "adam": lambda a=arrays: descent.step(0, n, *a, 0.9, 0.9, 3, *bounds),
        }
        if part == "count":
            answer: Any = {"kernels": n, "pairs": len(listed.pair_kernel), "kernel_pixels": 16 * rows}
        else:
            start = time.thread_time()
            calls[part]()
            answer = 1e3 * (time.thread_time() - start)
        print(json.dumps(answer), flush=True)


def describe(row: dict[str, Any]) -> str:
    """One line of progress."""
    words = []
    for part in PARTS:
        old, new = (row[side]["parts"][part]["median_ms"] for side in ("before", "after"))
        words.append(f"{part} {old:.2f} -> {new:.2f} ms ({old / new:.1f}x)")
    return ", ".join(words)


if __name__ == "__main__":
    main()
