"""One training of a comparison and its scores; and what all of them say together: means, spreads, differences."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.metrics import intersection_over_union, mean_iou
from moesaic.routing.collect import collect, recording, routed_layers
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
FIXED = ("uniform", "random", "position")  # gates that do not look at the picture: no control has anything to say
Row = dict[str, Any]


def train_and_score(task: Task, folder: Path) -> tuple[str, Row]:
    """Train, or go on training; then score the averaged weights, routed ones under controls too."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    run = train_segment(folder, task.folder, task.recipe)
    data = FolderData(folder)
    weights, _ = read_weights(task.folder / "model.safetensors")
    model = build(task.recipe, len(data.classes))
    model.load_state_dict(weights)
    channels_last(model.eval())
    frames, whole = data.read(task.split, task.recipe.size), data.read(task.split)
    usage = {name: Usage(len(data.classes)) for name in routed_layers(model)}
    matrices = {"none": scored(model, frames, whole, usage)}
    if usage and task.recipe.gate not in FIXED:
        positions = {name: of_layer.position_probabilities for name, of_layer in usage.items()}
        for name in task.controls:
            with control(model, name, seed=task.recipe.seed, positions=positions):
                matrices[name] = scored(model, frames, whole, {})
    torch.save(matrices, task.folder / f"{task.split}.pt")
    total = matrices["none"].sum(0)
    row = {
        "arm": task.arm,
        "seed": task.recipe.seed,
        "parameters": parameters(model),
        "val_miou": None if run.score is None else round(100 * run.score, 3),  # at the size of the training
        f"{task.split}_miou": round(100 * mean_iou(total), 3),
        f"{task.split}_iou": [round(100 * value, 2) for value in intersection_over_union(total).tolist()],
        "controls": {name: round(100 * mean_iou(m.sum(0)), 3) for name, m in matrices.items() if name != "none"},
        "routing": {name: _routing(of_layer) for name, of_layer in usage.items()},
        "seconds": round(time.perf_counter() - began, 1),
    }
    return task.key, row


@torch.inference_mode()
def scored(model: torch.nn.Module, frames: Store, whole: Store, usage: dict[str, Usage]) -> torch.Tensor:
    """The confusion matrix of each picture, (N, classes, classes), at the labels' full size."""
    assert whole.labels is not None
    size, classes = whole.labels.shape[1:], model.classes
    parts = []
    for first in range(0, len(frames), 8):
        with recording(model):
            logits = model(as_input(frames.pictures[first : first + 8]))
        labels = whole.labels[first : first + 8].long()
        for name, of_layer in usage.items():
            of_layer.add(collect(model)[name], labels)
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
    """Mean and spread of each arm, and paired differences.

    "routed against": the arm "moe" against each other one, and against itself under controls. "against dense": each
    arm against the dense one. "in use": each routed arm against itself under controls.
    """
    arms: dict[str, list[Task]] = {}
    for task in tasks:
        arms.setdefault(task.arm, []).append(task)
    loaded = {name: [_load(task) for task in group] for name, group in arms.items()}
    plain = {name: [one["none"] for one in group] for name, group in loaded.items()}
    in_use = {
        f"{name}/{other}": _pair(plain[name], [one[other] for one in group])
        for name, group in loaded.items()
        for other in group[0]
        if other != "none"
    }
    found: dict[str, dict[str, Row]] = {
        "arms": {name: _arm([rows[task.key] for task in group], group[0].split) for name, group in arms.items()},
        "against dense": {name: _pair(plain[name], plain["dense"]) for name in arms if name != "dense"},
        "in use": in_use,
    }
    if "moe" in arms:
        found["routed against"] = {name: _pair(plain["moe"], plain[name]) for name in arms if name != "moe"} | {
            f"{key.removeprefix('moe/')} in use": row for key, row in in_use.items() if key.startswith("moe/")
        }
    return found


def _load(task: Task) -> dict[str, torch.Tensor]:
    matrices: dict[str, torch.Tensor] = torch.load(task.folder / f"{task.split}.pt", weights_only=True)
    return matrices


def _arm(rows: list[Row], split: str) -> Row:
    scores = [row[f"{split}_miou"] for row in rows]
    return {
        "arm": rows[0]["arm"],
        "seeds": len(rows),
        "parameters": rows[0]["parameters"],
        f"{split}_miou": round(statistics.fmean(scores), 3),
        "deviation": round(statistics.stdev(scores), 3) if len(scores) > 1 else None,
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
