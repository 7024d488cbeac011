"""The training of a segmentation network: one loop, resumable at any step with the same result."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moesaic import metrics
from moesaic.errors import ArgumentError, TrainingError
from moesaic.files import atomic_write
from moesaic.routing.collect import balance_loss
from moesaic.segment.augment import Augmentation
from moesaic.segment.build import build, parameters
from moesaic.segment.data import IGNORE, FolderData
from moesaic.segment.loss import class_weights, pixel_loss
from moesaic.segment.recipe import SegmentRecipe
from moesaic.training.averaging import Average
from moesaic.training.checkpoint import Checkpoints, check_same
from moesaic.training.device import channels_last, pick_device, precision_on
from moesaic.training.log import Log
from moesaic.training.progress import Pace, Progress, ProgressCallback
from moesaic.training.schedule import Schedule
from moesaic.training.seeds import generator_for, order_of, seed_for
from moesaic.training.store import Store, as_input
from moesaic.weights_file import Card, read_card, write_weights

if TYPE_CHECKING:
    import os

SAVE_EVERY = 60.0  # s between checkpoints; there is one at the end of the call as well
LOG_EVERY = 20  # steps
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
        ArgumentError: neither epochs nor minutes, a batch larger than the split, or a recipe that cannot be built.
        PictureError: a picture or label map is missing or wrong.
        TrainingError: the loss or the weights stopped being numbers, or `out` holds a run of another recipe.
        ModelError: the weights to start from cannot be read or do not fit.
    """
    pace = Pace(minutes, 0)
    folder = Path(out)
    data = data if isinstance(data, FolderData) else FolderData(data)
    where = pick_device(device)
    train = data.read("train", recipe.size)
    val = data.read("val", recipe.size) if "val" in data.splits else None
    if recipe.batch > len(train):
        raise ArgumentError(f"batch {recipe.batch} is larger than the {len(train)} pictures of the split train")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise ArgumentError(f"cannot write into {folder}: {cause.strerror}") from cause

    checkpoints = Checkpoints(folder)
    if not resume:
        checkpoints.remove()
        for name in ("log.jsonl", "model.safetensors", "model.json"):
            (folder / name).unlink(missing_ok=True)
    state = checkpoints.load(where)
    epochs = recipe.epochs
    if epochs is None and state is not None:
        epochs = int(state["config"]["epochs"])
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        if epochs is None:
            if minutes is None:
                raise ArgumentError("a run needs epochs in its recipe, or minutes")
            epochs = _epochs_that_fit(recipe, data, train, val, where, 60 * minutes - pace.seconds)
        config = _config(replace(recipe, epochs=epochs), data, train)
        run = _Run(replace(recipe, epochs=epochs), data, train, val, where)
        if state is not None:
            check_same(state["config"], config, folder)
            run.load_state_dict(state["run"])
        atomic_write(folder / "recipe.json", (json.dumps(config, indent=2) + "\n").encode(), force=True)
        log = Log(folder / "log.jsonl", step=run.step)
        try:
            _loop(run, config, checkpoints, log, pace, progress)
        finally:
            log.close()
    weights = folder / "model.safetensors" if run.finished else None
    if weights is not None:
        write_weights(weights, run.average.weights(), run.card(folder.name, config), force=True)
    return TrainedRun(
        out=folder,
        finished=run.finished,
        step=run.step,
        steps=run.steps,
        epochs=epochs,
        score=run.score,
        seconds=pace.seconds,
        weights=weights,
    )


def _loop(
    run: _Run,
    config: dict[str, Any],
    checkpoints: Checkpoints,
    log: Log,
    pace: Pace,
    progress: ProgressCallback | None,
) -> None:
    """Steps until the end of the run or of this call's minutes."""
    log.write("resumed" if run.step else "started", run.step, steps=run.steps, parameters=parameters(run.model))
    if run.step == 0:  # the number of epochs is settled from here on, also if it was measured
        checkpoints.save({"config": config, "run": run.state_dict()})
    saved, kept = time.monotonic(), run.step
    while not run.finished and not pace.over:
        try:
            figures = run.take_step()
        except FloatingPointError as cause:
            log.write("diverged", run.step, seconds=round(pace.seconds, 2))
            raise TrainingError(
                f"{checkpoints.last.parent}: {cause} at step {run.step} of {run.steps}; the checkpoint of step {kept} "
                f"is kept; start anew with a lower rate than {run.recipe.rate} or a longer warm_up than "
                f"{run.recipe.warm_up}"
            ) from None
        if run.step % LOG_EVERY == 0:
            log.write("step", run.step, epoch=run.epoch, seconds=round(pace.seconds, 2), **figures)
        if run.step % run.per_epoch == 0:
            ended = run.end_epoch()
            log.write("epoch", run.step, epoch=run.epoch, seconds=round(pace.seconds, 2), **ended)
        if time.monotonic() - saved >= SAVE_EVERY:
            run.check_finite(checkpoints.last.parent)
            checkpoints.save({"config": config, "run": run.state_dict()})
            saved, kept = time.monotonic(), run.step
        if progress is not None:
            progress(run.progress(pace))
    if run.step != kept:
        run.check_finite(checkpoints.last.parent)
        checkpoints.save({"config": config, "run": run.state_dict()})
    log.write("finished" if run.finished else "stopped", run.step, seconds=round(pace.seconds, 2))


class _Run:
    """What changes from step to step, and the step itself."""

    def __init__(
        self, recipe: SegmentRecipe, data: FolderData, train: Store, val: Store | None, device: torch.device
    ) -> None:
        self.recipe, self.classes, self.device = recipe, data.classes, device
        self.train, self.val = train.to(device), None if val is None else val.to(device)
        self.per_epoch = len(train) // recipe.batch  # what is left over waits for the next epoch's order
        self.steps = self.per_epoch * (recipe.epochs or 1)
        self.step = 0
        self.score: float | None = None
        self.recent = math.nan  # a running mean of the loss
        self._sums = {"loss": 0.0, "balance": 0.0}  # of this epoch
        self.model = build(recipe, len(data.classes)).to(device)
        channels_last(self.model)
        self.optimiser = _optimiser(self.model, recipe)
        decay = 1 - 20 / self.steps if recipe.average is None else recipe.average
        self.average = Average(self.model, min(max(decay, 0.0), 0.9999))
        warm_up = min(round(recipe.warm_up * self.per_epoch), self.steps // 5)
        self._schedule = Schedule(steps=self.steps, warm_up=warm_up, shape=recipe.schedule)
        self._augment = Augmentation(
            scale=recipe.scale, crop=recipe.crop, flip=recipe.flip, jitter=recipe.jitter, least=self.model.minimum
        )
        if train.labels is None:
            raise ArgumentError("the split train has no labels")
        weights = class_weights(train.labels, len(data.classes), recipe.class_weights)
        self._weights = None if weights is None else weights.to(device)

    @property
    def finished(self) -> bool:
        return self.step >= self.steps

    @property
    def epoch(self) -> int:
        """The epoch of the last step, counted from 1."""
        return max(1, -(-self.step // self.per_epoch))

    def take_step(self) -> dict[str, float]:
        """One batch: forward, backward, update. Every draw follows from the seed and the number of the step.

        Raises:
            FloatingPointError: the loss or its gradient is no number; the weights are as they were.
        """
        recipe = self.recipe
        epoch, number = divmod(self.step, self.per_epoch)
        order = order_of(len(self.train), recipe.seed, epoch)
        chosen = order[number * recipe.batch : (number + 1) * recipe.batch]
        torch.manual_seed(seed_for(recipe.seed, "network", self.step))  # of dropout and of the gates' noise
        pictures, labels = self._augment(self.train, chosen, generator_for(recipe.seed, "augmentation", self.step))
        rate = recipe.rate * self._schedule.factor(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate

        self.model.train()
        with precision_on(self.device, recipe.precision):
            logits = self.model(pictures)
        pixels = pixel_loss(logits, labels, self._weights, recipe.label_smoothing)
        balance = balance_loss(self.model)
        loss = pixels + balance
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        told = torch.stack([pixels.detach(), balance.detach().to(pixels), norm.detach().to(pixels)]).tolist()
        if not all(map(math.isfinite, told)):
            raise FloatingPointError(f"the loss became {told[0]:g}, its gradient {told[2]:g}")
        self.optimiser.step()
        self.average.update(self.model)

        self.step += 1
        self._sums["loss"] += told[0]
        self._sums["balance"] += told[1]
        self.recent = told[0] if math.isnan(self.recent) else 0.98 * self.recent + 0.02 * told[0]
        return {"loss": told[0], "balance": told[1], "gradient": told[2], "rate": rate}

    def end_epoch(self) -> dict[str, float]:
        """Mean losses of the epoch, and the averaged weights' validation where it is due."""
        means = {name: total / self.per_epoch for name, total in self._sums.items()}
        self._sums = dict.fromkeys(self._sums, 0.0)
        if self.val is not None and (self.epoch % self.recipe.validate_every == 0 or self.finished):
            with self.average.applied(self.model):
                matrix = confusion(self.model, self.val, len(self.classes), precision=self.recipe.precision)
            self.score = metrics.mean_iou(matrix)
            means["mean_iou"] = self.score
        return means

    def check_finite(self, folder: Path) -> None:
        """Refuse to keep weights that are no numbers.

        Raises:
            TrainingError: one is not.
        """
        for name, parameter in self.model.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise TrainingError(
                    f"{folder}: the weight {name} is not finite after step {self.step}; the checkpoint before is kept; "
                    f"start anew with a lower rate than {self.recipe.rate}"
                )

    def progress(self, pace: Pace) -> Progress:
        return Progress(
            step=self.step,
            steps=self.steps,
            epoch=self.epoch,
            epochs=self.recipe.epochs or 1,
            loss=self.recent,
            score=self.score,
            seconds=pace.seconds,
            seconds_left=pace.seconds_left(self.step, self.steps),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "score": self.score,
            "recent": self.recent,
            "sums": dict(self._sums),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.score, self.recent = int(state["step"]), state["score"], float(state["recent"])
        self._sums = dict(state["sums"])
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])

    def card(self, name: str, config: dict[str, Any]) -> Card:
        options = self.recipe.build_options(len(self.classes))
        if self.recipe.experts is not None:
            options["place"] = self.recipe.place or self.model.moe_place  # a default may move, this file may not
        return Card(
            name=name,
            architecture=self.recipe.network,
            task="segment",
            options=options,
            data=str(config["data"]["name"]),
            recipe=config,
            classes=self.classes.names,
            colours=self.classes.colours,
            size=self.train.size,
            multiple_of=self.model.multiple_of,
            parameters=parameters(self.model),
            scores={} if self.score is None else {"val_mean_iou": round(self.score, 6)},
        )


@torch.inference_mode()
def confusion(
    model: nn.Module, store: Store, classes: int, *, batch: int = 8, precision: str = "float32"
) -> Tensor:  # (classes, classes) int64, rows are the truth
    """The confusion matrix of a network over a whole split, in evaluation mode; the mode is put back afterwards."""
    if store.labels is None:
        raise ArgumentError("a split without labels cannot be scored")
    training = model.training
    model.eval()
    total = torch.zeros(classes, classes, dtype=torch.int64)
    try:
        for first in range(0, len(store), batch):
            pictures = as_input(store.pictures[first : first + batch])
            with precision_on(pictures.device, precision):
                found = model(pictures).argmax(1)
            total += metrics.confusion_matrix(found, store.labels[first : first + batch], classes, IGNORE).cpu()
    finally:
        model.train(training)
    return total


def _optimiser(model: nn.Module, recipe: SegmentRecipe) -> torch.optim.Optimizer:
    learned = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    # norms, activations and biases do not decay; the biases of experts have two axes, so the name tells
    plain = [parameter for name, parameter in learned if parameter.ndim < 2 or name.endswith("bias")]
    shrunk = [parameter for name, parameter in learned if not (parameter.ndim < 2 or name.endswith("bias"))]
    groups = [{"params": shrunk, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)


def _config(recipe: SegmentRecipe, data: FolderData, train: Store) -> dict[str, Any]:
    """What a checkpoint must agree with: the recipe, the data, and the weights it began from by their hash."""
    config = recipe.to_json()
    if recipe.start is not None:
        config["start"] = {"file": Path(recipe.start).name, "sha256": read_card(recipe.start).sha256}
    config["data"] = {
        "name": data.root.name,
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
    probe = _Run(replace(recipe, epochs=1), data, train, None, device)
    probe.take_step()
    began = time.monotonic()
    for _ in range(min(PROBE, probe.steps - 1)):
        probe.take_step()
    step = (time.monotonic() - began) / max(1, min(PROBE, probe.steps - 1))
    judge = 0.0
    if val is not None:
        some = Store(val.pictures[: recipe.batch], val.labels[: recipe.batch] if val.labels is not None else None)
        began = time.monotonic()
        confusion(probe.model, some.to(device), len(data.classes), batch=recipe.batch, precision=recipe.precision)
        judge = (time.monotonic() - began) * len(val) / len(some) / recipe.validate_every
    left = 0.95 * seconds - (PROBE + 2) * step
    return max(1, int(left / (step * probe.per_epoch + judge)))
