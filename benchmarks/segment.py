"""Does patch routing help segmentation? Each arm trained on CamVid under one schedule, with paired seeds.

A comparison is a list of trainings. `python -m benchmarks.segment enet` trains every arm of ENet for every seed, each
in a process of one thread, scores it on the test split, and adds the paired differences once all are done. Trainings
lie in local/runs and go on where they were interrupted; the record is written after each.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import comparisons
from benchmarks.record import RESULTS, ROOT, Record
from moesaic.segment.arms import arm
from moesaic.segment.recipe import SegmentRecipe

CAMVID = ROOT.parent / "shared" / "data" / "camvid"
RUNS = ROOT / "local" / "runs"
SEEDS = (0, 1, 2)
ARMS = ("moe", "dense", "position", "uniform", "random", "widened")
SCRATCH = SegmentRecipe(
    network="enet", experts=8, size=(144, 192), batch=4, epochs=16, rate=4e-3, warm_up=1.0, validate_every=4
)
ERFNET = replace(SCRATCH, network="erfnet", size=(120, 160), epochs=6, rate=2e-3)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training and its scores on the test split."""

    name: str  # of the comparison
    arm: str
    recipe: SegmentRecipe
    split: str = "test"  # what it is scored on; a search for settings never sees the test split
    controls: tuple[str, ...] = ("shuffled", "uniform", "random", "position")  # under which routed arms are scored, too

    @property
    def key(self) -> str:
        """Of its row in the record."""
        return f"{self.arm}/seed {self.recipe.seed}"

    @property
    def folder(self) -> Path:
        """Of its training."""
        return RUNS / self.name / self.arm / str(self.recipe.seed)


def scratch(name: str, recipe: SegmentRecipe, seeds: tuple[int, ...]) -> Iterator[Task]:
    """Every arm from fresh weights."""
    for seed in seeds:
        for label in ARMS:
            yield Task(name=name, arm=label, recipe=arm(replace(recipe, seed=seed), label))


def search() -> Iterator[Task]:
    """What makes routing help? Variations of the mixture in a trained dense network, scored on the validation split."""
    for seed in SEEDS[:1]:
        dense = replace(SCRATCH, seed=seed, experts=None, epochs=5, rate=2e-3, validate_every=5)
        dense = replace(dense, start=str(RUNS / "enet" / "dense" / str(seed) / "model.safetensors"))
        yield Task(name="search", arm="dense", recipe=dense, split="val")
        for label, change in VARIATIONS.items():
            recipe = replace(dense, **{"experts": 8, **change})
            yield Task(name="search", arm=label, recipe=recipe, split="val", controls=("shuffled", "uniform"))


MANY = "stage[1-4].?.conv"  # the eighteen 3x3 convolutions between the resolution changes
VARIATIONS: dict[str, dict[str, Any]] = {
    "as in the comparison": {},
    "k = 1": {"k": 1},
    "nine kernels by position": {"gate": "position", "gate_options": {"kernels": True}, "experts": 9, "k": 1},
    "entropy loss 0.1": {"balance": "entropy", "balance_weight": 0.1},
    "k = 1, entropy loss 0.1": {"k": 1, "balance": "entropy", "balance_weight": 0.1},
    "k = 1, entropy loss 0.1, grid 6": {"k": 1, "balance": "entropy", "balance_weight": 0.1, "grid": 6},
    "no balance loss": {"balance": "none"},
    "grid 1": {"grid": 1},
    "grid 6": {"grid": 6},
    "eighteen layers": {"place": MANY},
    "eighteen layers, k = 1, entropy loss 0.1": {"place": MANY, "k": 1, "balance": "entropy", "balance_weight": 0.1},
}

COMPARISONS = {
    "search": search,
    "enet": lambda: scratch("enet", SCRATCH, SEEDS),
    "erfnet": lambda: scratch("erfnet", ERFNET, SEEDS[:2]),
}


def main(arguments: list[str] | None = None) -> None:
    asked = _options().parse_args(arguments)
    if not CAMVID.is_dir():
        raise SystemExit("the folder ../shared/data/camvid is not there; see docs/segmentation.md for where CamVid is")
    tasks = list(COMPARISONS[asked.comparison]())
    settings = {
        "data": "CamVid, 367 / 101 / 233 frames, 11 classes",
        "scored": f"{tasks[0].split}, logits enlarged to 480x360, one confusion matrix",
        "arms": list(dict.fromkeys(task.arm for task in tasks)),
        "recipe": tasks[0].recipe.to_json() | {"start": tasks[0].recipe.start and "the dense arm of comparison enet"},
        "threads": 1,
        "workers": asked.workers,
    }
    record = Record(
        f"segment_{asked.comparison}",
        settings=settings,
        folder=asked.results,
        resume=asked.resume,
        module="benchmarks.segment",
    )
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes; two trainings of one thread are faster than one of two
    split = tasks[0].split
    missing = [task for task in tasks if not record.has("trainings", task.key)]
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(comparisons.train_and_score, task, CAMVID) for task in missing]):
            key, row = done.result()
            record.put("trainings", key, row)
            print(f"{key}: {row[f'{split}_miou']:.2f} mIoU, {row['seconds']:.0f} s", flush=True)
    began = time.perf_counter()
    for section, table in comparisons.summaries(tasks, record.content["results"]["trainings"]).items():
        for key, row in table.items():
            record.put(section, key, row)
    print(f"summaries: {time.perf_counter() - began:.1f} s")


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("comparison", choices=tuple(COMPARISONS))
    options.add_argument("--workers", type=int, default=2, help="trainings at a time")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same commit")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the record")
    return options


if __name__ == "__main__":
    main()
