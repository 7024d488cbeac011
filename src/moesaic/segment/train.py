"""The training of a segmentation network: one loop, resumable at any step with the same result."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, TrainingError
from moesaic.files import atomic_write, name_of
from moesaic.memory import within_memory
from moesaic.segment.build import parameters
from moesaic.segment.data import FolderData
from moesaic.segment.recipe import SegmentRecipe
from moesaic.segment.run import Run, confusion
from moesaic.training.checkpoint import Checkpoints, check_same, remove_files
from moesaic.training.device import pick_device
from moesaic.training.finished import finished_card, is_of, refuse_others, settled_length
from moesaic.training.lock import alone_in, run_folder
from moesaic.training.log import Log
from moesaic.training.loop import checked_state, go_on, run_steps
from moesaic.training.progress import Pace, ProgressCallback
from moesaic.training.store import Store
from moesaic.values import is_a, is_number
from moesaic.weights_file import read_card, write_weights

if TYPE_CHECKING:
    import os

SAVE_EVERY = 60.0  # s between checkpoints; there is one at the end of the call as well
PROBE = 6  # steps that measure the speed, when only minutes are given


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """How a call of `train_segment` ended."""

    out: Path
    finished: bool  # else call again to go on
    step: int
    steps: int
    epochs: int
    score: float | None  # mean IoU of the last validation, in [0, 1]
    seconds: float  # of this call
    weights: Path | None  # once finished
    warnings: tuple[str, ...] = ()  # of the last epoch: experts that never act, and at the end a gate that is flat


def train_segment(
    data: FolderData | str | os.PathLike[str],
    out: str | os.PathLike[str],
    recipe: SegmentRecipe,
    *,
    minutes: float | None = None,
    resume: bool = True,
    device: str | torch.device = "auto",
    progress: ProgressCallback | None = None,
) -> TrainedRun:
    """Train a network on the split `train` of a folder, in one call or in pieces.

    The folder `out` gets `recipe.json`, `log.jsonl`, `checkpoint.pt` (and the one before it), and at the end the
    averaged weights, `model.safetensors`, with their card. A run that was interrupted at any moment, or stopped by
    `minutes`, goes on when the call is repeated, and ends with the same weights to the bit as one that was not, on one
    machine with one number of threads. The split `val`, where there is one, is only reported, never used for a choice.

    Args:
        data: the pictures and labels.
        out: folder of the run; made when missing.
        recipe: everything that defines the run.
        minutes: stop at the next step after so many minutes of this call. Where the recipe names no epochs, the speed
            is measured and as many are planned as fit.
        resume: go on with a run that `out` holds; False starts anew and replaces it.
        device: "auto", "cpu", "cuda"...
        progress: told where the run stands, after each step.

    Raises:
        ArgumentError: neither epochs nor minutes, a batch larger than the split, pictures too small for the network or
            its grid, a recipe that cannot be built, or a folder that cannot be written to. A run that is replaced is
            removed only after all this has been checked.
        PictureError: a picture or label map is missing or wrong.
        TrainingError: the loss or the weights stopped being numbers, `out` holds a run of another recipe or
            finished weights without a checkpoint, or another run is training there.
        ModelError: the weights to start from cannot be read or do not fit.
        LimitError: there is not enough memory for the pictures, the network or a step.
    """
    if not is_a(recipe, SegmentRecipe):
        raise ArgumentError(f"recipe is a SegmentRecipe, not {type(recipe).__name__}")
    if minutes is not None and not (is_number(minutes) and 0 < minutes < math.inf):
        raise ArgumentError(f"minutes {minutes!r} must be a number above 0")
    pace = Pace(minutes, 0)
    folder = run_folder(out)
    data = data if isinstance(data, FolderData) else FolderData(data)
    where = pick_device(device)
    train = data.read("train", recipe.size)
    val = data.read("val", recipe.size) if "val" in data.splits else None
    if recipe.batch > len(train):
        raise ArgumentError(f"batch {recipe.batch} is larger than the {len(train)} pictures of the split train")
    needs = (
        f"a step of {recipe.batch} pictures of {train.size[1]}x{train.size[0]} px through {recipe.network}; "
        "lower batch, crop or size"
    )
    generators = [where] if where.type == "cuda" else []
    with alone_in(folder), torch.random.fork_rng(devices=generators), within_memory(needs):
        return _train(data, train, val, folder, recipe, pace, minutes, resume, where, progress)


def _train(
    data: FolderData,
    train: Store,
    val: Store | None,
    folder: Path,
    recipe: SegmentRecipe,
    pace: Pace,
    minutes: float | None,
    resume: bool,
    where: torch.device,
    progress: ProgressCallback | None,
) -> TrainedRun:
    """`train_segment` with all that it reads, alone in its folder."""
    checkpoints = Checkpoints(folder)
    checkpoints.tidy()
    state = checked_state(checkpoints.load(where), folder, "epochs") if resume else None
    epochs = recipe.epochs
    weights = folder / "model.safetensors"
    left = finished_card(weights) if resume and state is None else None
    if epochs is None:
        epochs = settled_length(left, "epochs") if state is None else int(state["config"]["epochs"])
    if epochs is None:
        if minutes is None:
            raise ArgumentError("a run needs epochs in its recipe, or minutes")
        epochs = _epochs_that_fit(recipe, data, train, val, where, 60 * minutes - pace.seconds)
    config = _config(replace(recipe, epochs=epochs), data, train)
    if state is not None:
        check_same(state["config"], config, folder)
    elif left is not None and is_of(left, config):
        steps = len(train) // recipe.batch * epochs
        return _ended(folder, steps, steps, epochs, left.scores.get("val_mean_iou"), pace)
    elif resume:
        refuse_others(folder, config, "epochs")
    run = Run(replace(recipe, epochs=epochs), data, train, val, where)
    if state is None:
        run.rehearse()
    else:
        go_on(run, state, folder)
    if not resume:
        checkpoints.remove()
        remove_files(*(folder / name for name in ("log.jsonl", "model.safetensors", "model.json")))
    atomic_write(folder / "recipe.json", (json.dumps(config, indent=2) + "\n").encode(), force=True)
    log = Log(folder / "log.jsonl", step=run.step)
    try:
        run_steps(
            run,
            config,
            checkpoints,
            log,
            pace,
            progress,
            parameters=parameters(run.model),
            save_every=SAVE_EVERY,
            advice=_calmer(recipe),
        )
    finally:
        log.close()
    if run.finished:
        write_weights(weights, run.average.weights(), run.card(name_of(folder), config), force=True)
    warnings = tuple(run.health.warnings(ended=run.finished))
    return _ended(folder, run.step, run.steps, epochs, run.score, pace, warnings)


def _ended(
    folder: Path,
    step: int,
    steps: int,
    epochs: int,
    score: float | None,
    pace: Pace,
    warnings: tuple[str, ...] = (),
) -> TrainedRun:
    return TrainedRun(
        out=folder,
        finished=step >= steps,
        step=step,
        steps=steps,
        epochs=epochs,
        score=score,
        seconds=pace.seconds,
        weights=folder / "model.safetensors" if step >= steps else None,
        warnings=warnings,
    )


def _calmer(recipe: SegmentRecipe) -> str:
    return f"start anew with a lower rate than {recipe.rate} or a longer warm_up than {recipe.warm_up}"


def _config(recipe: SegmentRecipe, data: FolderData, train: Store) -> dict[str, Any]:
    """What a checkpoint must agree with: the recipe, the data, and the weights it began from by their hash."""
    config = recipe.to_json()
    if recipe.start is not None:
        config["start"] = {"file": Path(recipe.start).name, "sha256": read_card(recipe.start).sha256}
    config["data"] = {
        "name": name_of(data.root),
        "pictures": len(train),
        "size": list(train.size),
        "classes": list(data.classes.names),
        "hash": train.fingerprint(),
    }
    return config


def _epochs_that_fit(
    recipe: SegmentRecipe, data: FolderData, train: Store, val: Store | None, device: torch.device, seconds: float
) -> int:
    """How many epochs so many seconds allow, measured on steps that are thrown away."""
    probe = Run(replace(recipe, epochs=1), data, train, None, device)
    probe.rehearse()
    try:
        probe.take_step()
        began = time.monotonic()
        for _ in range(min(PROBE, probe.steps - 1)):
            probe.take_step()
    except FloatingPointError as cause:
        raise TrainingError(f"{cause} within the first {probe.step + 1} steps; {_calmer(recipe)}") from None
    step = (time.monotonic() - began) / max(1, min(PROBE, probe.steps - 1))
    judge = 0.0
    if val is not None:
        some = Store(val.pictures[: recipe.batch], val.labels[: recipe.batch] if val.labels is not None else None)
        began = time.monotonic()
        confusion(probe.model, some.to(device), len(data.classes), batch=recipe.batch, precision=recipe.precision)
        judge = (time.monotonic() - began) * len(val) / len(some) / recipe.validate_every
    left = 0.95 * seconds - (PROBE + 2) * step
    return max(1, int(left / (step * probe.per_epoch + judge)))
