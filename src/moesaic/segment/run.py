"""One training run of a segmentation network: what changes from step to step, and the step itself."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moesaic import metrics
from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.collect import balance_loss
from moesaic.routing.health import Health
from moesaic.segment.augment import Augmentation
from moesaic.segment.build import build, parameters
from moesaic.segment.data import IGNORE, FolderData
from moesaic.segment.loss import class_weights, pixel_loss
from moesaic.training.averaging import Average
from moesaic.training.device import channels_last, precision_on
from moesaic.training.optimiser import parameter_groups
from moesaic.training.progress import Pace, Progress
from moesaic.training.schedule import Schedule
from moesaic.training.seeds import generator_for, order_of, seed_for
from moesaic.training.store import Store, as_input
from moesaic.values import is_number, is_whole
from moesaic.weights_file import Card

if TYPE_CHECKING:
    from moesaic.segment.recipe import SegmentRecipe
    from moesaic.training.log import Log, Silence

LOG_EVERY = 20  # steps


class Run:
    """What changes from step to step, and the step itself.

    Args:
        recipe: with its epochs.
        data: whose classes are learned.
        train: what to learn from.
        val: what to report on, or None.
        device: where to compute.

    Raises:
        ArgumentError: no pixel is labelled, or the network cannot be built.
        ModelError: the weights to start from cannot be read or do not fit.
    """

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
        self._figures: dict[str, float] = {}  # of the last step
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
        if train.labels is None or bool((train.labels == IGNORE).all()):
            raise ArgumentError("the split train has no labelled pixel: there is nothing to learn from")
        weights = class_weights(train.labels, len(data.classes), recipe.class_weights)
        self._weights = None if weights is None else weights.to(device)
        self.health = Health(self.model)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
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
        self.health.add()

        self.step += 1
        self._sums["loss"] += told[0]
        self._sums["balance"] += told[1]
        self.recent = told[0] if math.isnan(self.recent) else 0.98 * self.recent + 0.02 * told[0]
        self._figures = {"loss": told[0], "balance": told[1], "gradient": told[2], "rate": rate}
        return self._figures

    def report(self, log: Log | Silence, pace: Pace) -> None:
        """Write a line of the log where one is due: now and then a step's, and each epoch's."""
        if self.step % LOG_EVERY == 0:
            log.write("step", self.step, epoch=self.epoch, seconds=round(pace.seconds, 2), **self._figures)
        if self.step % self.per_epoch == 0:
            ended = self.end_epoch()
            log.write("epoch", self.step, epoch=self.epoch, seconds=round(pace.seconds, 2), **ended)

    def end_epoch(self) -> dict[str, Any]:
        """Mean losses of the epoch, what its gates did, and the averaged weights' validation where it is due."""
        means: dict[str, Any] = {name: total / self.per_epoch for name, total in self._sums.items()}
        self._sums = dict.fromkeys(self._sums, 0.0)
        if self.val is not None and (self.epoch % self.recipe.validate_every == 0 or self.finished):
            with self.average.applied(self.model):
                matrix = confusion(self.model, self.val, len(self.classes), precision=self.recipe.precision)
            self.score = metrics.mean_iou(matrix)
            means["mean_iou"] = self.score
        if health := self.health.end_epoch():
            means["routing"] = health
        return means

    def rehearse(self) -> None:
        """Run a copy at the sizes that steps and validation will see: what cannot work is told before it is begun.

        Raises:
            ArgumentError: pictures are too small for the network or for a layer's grid, or a gate lacks what it reads.
        """
        model = copy.deepcopy(self.model).eval()  # a random gate counts its passes
        sizes = {"size, crop and scale make batches": self._augment.smallest(self.train.size)}
        if self.val is not None:
            sizes["size makes the split val"] = self.val.size
        for what, (rows, columns) in sizes.items():
            try:
                with torch.no_grad():
                    model(torch.zeros(1, self.train.pictures.shape[1], rows, columns, device=self.device))
            except ShapeError as cause:
                raise ArgumentError(f"{what} as small as {columns}x{rows} px: {cause}") from cause

    def check_finite(self) -> None:
        """Refuse to keep weights, or statistics of norms, that are no numbers.

        Raises:
            FloatingPointError: one is not.
        """
        for state in (self.model.state_dict(), self.average.weights()):
            for name, value in state.items():
                if isinstance(value, Tensor) and not bool(value.isfinite().all()):
                    raise FloatingPointError(f"the weight {name} is no longer finite")

    def progress(self, pace: Pace) -> Progress:
        """Where the run stands."""
        return Progress(
            step=self.step,
            steps=self.steps,
            epoch=self.epoch,
            epochs=self.recipe.epochs or 1,
            loss=self.recent,
            score=self.score,
            seconds=pace.seconds,
            seconds_left=pace.seconds_left(self.step, self.steps),
            warning="; ".join(self.health.warnings(ended=self.finished)),
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "step": self.step,
            "score": self.score,
            "recent": self.recent,
            "sums": dict(self._sums),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "health": self.health.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: it holds a step or a score that this run cannot have.
        """
        step, score = state["step"], state["score"]
        if not is_whole(step, 0, self.steps):
            raise ValueError(f"step {step!r} is none of 0 to {self.steps}")
        if score is not None and not is_number(score):
            raise ValueError("its score is no number")
        self.step, self.score, self.recent = step, score, float(state["recent"])
        self._sums = dict(state["sums"])
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        if "health" in state:  # checkpoints of earlier versions have none
            self.health.load_state_dict(state["health"])

    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """
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
    groups = parameter_groups(model, recipe.weight_decay)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.rate, fused=True)
