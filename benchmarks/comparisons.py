"""One training of a comparison and its scores; and what all of them say together: means, spreads, differences."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.metrics import intersection_over_union, mean_iou
from moesaic.routing.collect import recording, routed_layers
from moesaic.routing.controls import control
from moesaic.routing.resampling import PictureScores, interval, resampled
from moesaic.routing.usage import Usage
from moesaic.segment.audit import mean_ious
from moesaic.segment.build import build, parameters
from moesaic.segment.data import IGNORE, FolderData
from moesaic.segment.train import train_segment
from moesaic.training.device import channels_last
from moesaic.training.store import as_input
from moesaic.weights_file import read_weights

if TYPE_CHECKING:
    from benchmarks.segment import Task
    from moesaic.training.store import Store

BLOCK = 10  # frames of a sequence that are drawn together
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantile of Student's t for n paired seeds
CONTROLS = ("shuffled", "uniform", "random", "position")
Row = dict[str, Any]


def train_and_score(task: Task, folder: Path) -> tuple[str, Row]:
    """Train, or go on training; then score the averaged weights on the test split, routed ones under controls too."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    run = train_segment(folder, task.folder, task.recipe)
    data = FolderData(folder)
    weights, _ = read_weights(task.folder / "model.safetensors")
    model = build(task.recipe, len(data.classes))
    model.load_state_dict(weights)
    model = channels_last(model).eval()
    test, whole = data.read("test", task.recipe.size), data.read("test")
    usage = Usage(len(data.classes))
    matrices = {"none": _matrices(model, test, whole, usage)}
    if routed_layers(model) and task.arm not in ("uniform", "random", "position"):
        positions = dict.fromkeys(routed_layers(model), usage.position_probabilities)
        for name in CONTROLS:
            with control(model, name, seed=task.recipe.seed, positions=positions):
                matrices[name] = _matrices(model, test, whole, None)
    torch.save(matrices, task.folder / "test.pt")
    total = matrices["none"].sum(0)
    row = {
        "arm": task.arm,
        "seed": task.recipe.seed,
        "parameters": parameters(model),
        "val_miou": None if run.score is None else round(100 * run.score, 3),
        "test_miou": round(100 * mean_iou(total), 3),
        "test_iou": [round(100 * value, 2) for value in intersection_over_union(total).tolist()],
        "controls": {name: round(100 * mean_iou(m.sum(0)), 3) for name, m in matrices.items() if name != "none"},
        "routing": _routing(usage) if routed_layers(model) else None,
        "seconds": round(time.perf_counter() - began, 1),
    }
    return task.key, row


@torch.inference_mode()
def _matrices(model: torch.nn.Module, test: Store, whole: Store, usage: Usage | None) -> torch.Tensor:
    """The confusion matrix of each picture, (N, classes, classes), at the labels' full size."""
    assert whole.labels is not None
    size, classes = whole.labels.shape[1:], model.classes
    parts = []
    for first in range(0, len(test), 8):
        with recording(model):
            logits = model(as_input(test.pictures[first : first + 8]))
        labels = whole.labels[first : first + 8].long()
        if usage is not None:
            for layer in routed_layers(model).values():
                usage.add(layer.routing, labels)
        found = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)
        for truth, guess in zip(labels, found, strict=True):
            known = truth != IGNORE
            counts = torch.bincount(truth[known] * classes + guess[known], minlength=classes**2)
            parts.append(counts.reshape(classes, classes))
    return torch.stack(parts)


def _routing(usage: Usage) -> Row:
    figures = usage.figures()
    kept = ("routing_entropy", "place_entropy", "flatness", "assignment_share", "patch_share", "position_information")
    return {name: figures[name] for name in kept if name in figures}


def summaries(tasks: list[Task], rows: dict[str, Row]) -> dict[str, dict[str, Row]]:
    """Mean and spread of each arm, and the routed arm's paired differences to each arm and to itself under controls."""
    arms: dict[str, list[Task]] = {}
    for task in tasks:
        arms.setdefault(task.arm, []).append(task)
    table = {name: _arm([rows[task.key] for task in group]) for name, group in arms.items()}
    moe = [_load(task) for task in arms["moe"]]
    pairs: dict[str, Row] = {}
    for name, group in arms.items():
        if name != "moe" and len(group) == len(moe):
            pairs[name] = _pair([m["none"] for m in moe], [_load(task)["none"] for task in group])
    for name in CONTROLS:
        pairs[f"{name} in use"] = _pair([m["none"] for m in moe], [m[name] for m in moe])
    return {"arms": table, "routed against": pairs}


def _load(task: Task) -> dict[str, torch.Tensor]:
    return torch.load(task.folder / "test.pt", weights_only=True)


def _arm(rows: list[Row]) -> Row:
    scores = [row["test_miou"] for row in rows]
    return {
        "arm": rows[0]["arm"],
        "seeds": len(rows),
        "parameters": rows[0]["parameters"],
        "test_miou": round(statistics.fmean(scores), 3),
        "deviation": round(statistics.stdev(scores), 3) if len(scores) > 1 else None,
        "val_miou": round(statistics.fmean(row["val_miou"] for row in rows), 3),
    }


def _pair(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> Row:
    """Points of mIoU by which ours is better: mean over seeds, an interval from the seeds and one from the frames."""
    gains = [100 * (mean_iou(a.sum(0)) - mean_iou(b.sum(0))) for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(gains)
    row: Row = {"gain": round(mean, 3), "by_seed": [round(gain, 3) for gain in gains]}
    if len(gains) in STUDENT:
        half = STUDENT[len(gains)] * statistics.stdev(gains) / math.sqrt(len(gains))
        row["seeds_95"] = [round(mean - half, 3), round(mean + half, 3)]
    scores = [PictureScores(parts=part, score=mean_ious, scale=100) for part in (*ours, *theirs)]
    draws = 100 * resampled(scores, block=BLOCK)
    low, high = interval(draws[: len(ours)].mean(0) - draws[len(ours) :].mean(0))
    row["frames_95"] = [round(low, 3), round(high, 3)]
    return row
