"""Folders: pictures a second by `batch` with one process, with two, and on a Ray cluster of this machine.

And what the batch itself takes for a file. All arms must make the same bytes, or the run ends with an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.copying import Copying
from benchmarks.pictures import Gallery, gallery, parser
from benchmarks.record import Record
from moesaic.batch import make_plan, processes, ray_actors, run

SIZE = (480, 320)  # px of each picture
VERBS = {
    "restore": ("restore",),
    "encode --fast": ("encode", "--fast", "--bpp", "1"),
    "upscale --scale 2": ("upscale", "--scale", "2"),
}
ARMS = {
    "one worker": ("--workers", "1"),
    "two workers": ("--workers", "2"),
    "two on Ray": ("--workers", "2", "--engine", "ray"),
}
SMALL = {"one worker": (processes, 1), "two workers": (processes, 2), "two on Ray": (ray_actors, 2)}


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--count", type=int, default=48, help="pictures")
    options.add_argument("--small", type=int, default=2000, help="files that are copied")
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--verbs", nargs="+", choices=list(VERBS), default=list(VERBS))
    asked = options.parse_args(arguments)
    chosen = gallery(asked.pictures)
    settings = {"pictures": chosen.name, "count": asked.count, "size": list(SIZE), "small": asked.small}
    record = Record("batch", settings=settings, folder=asked.results, resume=asked.resume)
    with tempfile.TemporaryDirectory() as folder:
        crops(Path(folder, "in"), chosen, asked.count)
        texts(Path(folder, "small"), asked.small)
        for turn in range(asked.turns):
            for arm, (engine, workers) in SMALL.items():
                if not record.has("overhead", f"{arm}/{turn}"):
                    record.put("overhead", f"{arm}/{turn}", row := copied(Path(folder), arm, engine, workers))
                    print(row, flush=True)
            for verb in asked.verbs:
                sums = set()
                for arm in ARMS:
                    if not record.has("throughput", f"{verb}/{arm}/{turn}"):
                        row, digest = worked(Path(folder), verb, arm)
                        sums.add(digest)
                        record.put("throughput", f"{verb}/{arm}/{turn}", row)
                        print(row, flush=True)
                if len(sums) > 1:
                    raise SystemExit(f"{verb}: not all arms made the same bytes")


def crops(folder: Path, chosen: Gallery, count: int) -> None:
    """Pictures of one size, each another place of a photograph."""
    folder.mkdir()
    for number in range(count):
        source = chosen.sources[number % len(chosen.sources)]
        image = Image.fromarray((source.read().pixels[..., :3] * 255).round().astype("uint8"))
        shift = 16 * (number // len(chosen.sources))
        left, top = max(0, image.width - SIZE[0] - shift) // 2, max(0, image.height - SIZE[1] - shift) // 2
        image.crop((left, top, left + SIZE[0], top + SIZE[1])).save(folder / f"{number:04d}.png")


def texts(folder: Path, count: int) -> None:
    """Small files, a hundred in each folder."""
    for number in range(count):
        path = folder / f"{number // 100}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number} " * 100)


def copied(folder: Path, arm: str, engine: Any, workers: int) -> dict[str, Any]:
    """A batch of copies, and the same again, when nothing is left to do."""
    times = []
    with tempfile.TemporaryDirectory(dir=folder) as out:
        for _ in range(2):
            began, first = time.perf_counter(), []
            plan = make_plan(
                folder / "small",
                Path(out),
                name=lambda path: path.name,
                accepts=lambda path: path.suffix == ".txt",
                recursive=True,
            )
            tally = run(
                plan,
                Copying(),
                settings={"verb": "copy"},
                workers=workers,
                engine=engine,
                tell=lambda _, first=first: first or first.append(time.perf_counter()),
            )
            times.append((first[0] - began, time.perf_counter() - first[0]))
            if tally.failed:
                raise SystemExit(f"{arm}: {tally}")
    count = len(plan.tasks)
    return {
        "arm": arm,
        "files": count,
        "first_s": round(times[0][0], 2),
        "each_ms": round(1e3 * times[0][1] / count, 3),
        "kept_each_ms": round(1e3 * times[1][1] / count, 3),
    }


def worked(folder: Path, verb: str, arm: str) -> tuple[dict[str, Any], str]:
    """A verb on all pictures, in a process of its own, and a digest of what it made."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        name, *options = VERBS[verb]
        command = [sys.executable, "-m", "moesaic", "batch", name, str(folder / "in"), "-o", out, "--json", *options]
        environment = {**os.environ, "RAY_ADDRESS": "local"}
        began, told, spent = time.perf_counter(), [], []
        with subprocess.Popen([*command, *ARMS[arm]], stdout=subprocess.PIPE, text=True, env=environment) as batch:
            for line in batch.stdout or ():
                told.append(time.perf_counter() - began)
                spent.append(json.loads(line)["seconds"])
        all_done = time.perf_counter() - began
        if batch.returncode:
            raise SystemExit(f"{verb}, {arm}: code {batch.returncode}")
        digest = hashlib.sha256()
        for path in sorted(Path(out).glob("[!m]*")):
            digest.update(path.name.encode() + path.read_bytes())
    # The first pictures of each worker pay for imports and, after an installation, for compiling.
    settled = len(told) // 4
    return {
        "verb": verb,
        "arm": arm,
        "pictures": len(told),
        "first_s": round(told[0], 2),
        "all_s": round(all_done, 2),
        "rate": round((len(told) - settled - 1) / (told[-1] - told[settled]), 3),
        "each_s": round(statistics.median(spent), 4),
    }, digest.hexdigest()


if __name__ == "__main__":
    main()
