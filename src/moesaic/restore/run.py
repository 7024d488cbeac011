"""One training run of a restoration network: what a step's loss is, and what is told of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.errors import ArgumentError
from moesaic.restore.build import Parts, build
from moesaic.restore.finish import dearest, learns_last, teach_gates
from moesaic.restore.loss import FLOOR, fourier_loss, label_loss, pixel_loss
from moesaic.restore.network import MoceLite
from moesaic.restore.recipe import FLOOR_SHARE, RestoreRecipe
from moesaic.restore.tally import Tally
from moesaic.restore.validation import Restore, Validation
from moesaic.routing.collect import balance_loss
from moesaic.training.device import precision_on
from moesaic.training.optimiser import learned
from moesaic.training.picture_run import PictureRun, written_scores
from moesaic.training.store import as_input
from moesaic.weights_file import Card

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.training.progress import Pace


class Run(PictureRun):
    """What changes from step to step, and the step itself.

    Args:
        recipe: with its steps.
        train: what to learn from.
        held_out: what to report on, or None.
        parts: networks and damage.
        team: the processes that train together, and their device.
        samples: folder for sample pictures, or None for none.

    Raises:
        ArgumentError: the network cannot be built, or does not take crops of this size.
        ModelError: the weights to start from cannot be read or do not fit.
    """

    def __init__(
        self,
        recipe: RestoreRecipe,
        train: Bank,
        held_out: Bank | None,
        parts: Parts,
        team: Team,
        samples: Path | None = None,
    ) -> None:
        super().__init__(recipe, build(recipe, parts), train, team)
        self.recipe, self.parts, self._samples = recipe, parts, samples
        self.mix = dict(parts.mix if recipe.mix is None else recipe.mix)
        for name in ("crop", "late_crop"):
            side = getattr(recipe, name)
            if side is not None and side % self.model.multiple_of:
                raise ArgumentError(
                    f"{name} {side} must be a multiple of {self.model.multiple_of} for {recipe.network}"
                )
        self._tally = Tally(list(self.mix), self.device)
        self.validation: Validation | None = None
        if held_out is not None and team.leads:
            self.validation = Validation(held_out, parts, self.mix, self.model.multiple_of, self.device)

    @property
    def late(self) -> bool:
        """Whether the next step is in the last part, with larger crops."""
        return self.recipe.late_crop is not None and self.step >= round(self.steps * (1 - self.recipe.late_share))

    def take_step(self) -> None:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        recipe, model = self.recipe, self.model
        side, batch = (recipe.late_crop or recipe.crop, recipe.late_batch) if self.late else (recipe.crop, recipe.batch)
        clean = as_input(self.train.crops(self.generator("crops"), batch, side, shrink=recipe.shrink).to(self.device))
        with torch.no_grad():
            damaged = self.parts.degrade(clean, self.generator("damage"), self.mix)
            pictures = damaged.pictures
            if recipe.grey:
                grey = torch.rand(len(clean), generator=self.generator("grey")) < recipe.grey
                clean, pictures = (_grey(x, grey.to(self.device)) for x in (clean, pictures))
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        torch.manual_seed(self.seed("network"))  # of whatever draws from torch's own generator
        model.train()
        with precision_on(self.device, recipe.precision):
            outcome = model.training_pass(pictures, self._explore(), self.generator("routing"))
        losses = {"pixels": pixel_loss(outcome.restored, clean, recipe.pixel_loss, self._floor())}
        loss = losses["pixels"]
        if recipe.fourier:
            losses["fourier"] = fourier_loss(outcome.restored, clean)
            loss = loss + recipe.fourier * losses["fourier"]
        if recipe.labels and (outcome.present is not None or outcome.severity is not None):
            losses["labels"] = label_loss(outcome, damaged.present, damaged.severity)
            loss = loss + recipe.labels * losses["labels"]
        if recipe.cost:
            loss = loss + recipe.cost * outcome.expected_cost.float()
        losses["balance"] = balance_loss(model)
        loss = loss + losses["balance"]
        norm = self.update(loss)
        self._tally.add({"loss": loss, **losses, "gradient": norm}, damaged.sort, outcome, pictures, clean)

    def figures(self) -> dict[str, Any]:
        """Mean losses, and for each sort of damage how well it was undone, and by whom."""
        return self._tally.read()

    def finish(self, log: Log | Silence, pace: Pace) -> dict[str, Any]:
        """What the run leaves: the averaged weights, with gates taught where they learn last; validated once more.

        It follows from the state after the last step, and may be repeated.
        """
        with self.average.applied(self.model):
            if learns_last(self.model):
                foretold = teach_gates(self.model, self.train, self.parts, self.recipe, self.mix, self.device)
                log.write("gates", self.step, seconds=round(pace.seconds, 2), foretold=foretold)
                self.validate(log, pace)
            self._validate(log, pace, None)
            return self.weights()

    def validate(self, log: Log | Silence, pace: Pace) -> None:
        """Score the dearest experts on held-out pictures, as gates may not have learned yet."""
        self._validate(log, pace, dearest)

    def _validate(self, log: Log | Silence, pace: Pace, how: Restore | None) -> None:
        if self.validation is None:
            return
        precision = self.recipe.precision
        self.scores = self.validation.scores(self.model, precision, how)
        told: dict[str, Any] = {"psnr": self.scores, "psnr_in": self.validation.before}
        if how is None:
            told |= self.validation.decisions(self.model, precision)
        if self._samples is not None:
            self.validation.show(self.model, self._samples / f"step_{self.step:07d}.png", precision, how)
        experts = "dearest" if how is not None and learns_last(self.model) else "chosen"
        log.write("validation", self.step, seconds=round(pace.seconds, 2), experts=experts, **told)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return super().state_dict() | {"tally": self._tally.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(state)
        self._tally.load_state_dict(state["tally"])

    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """
        return Card(
            name=name,
            architecture=self.recipe.network,
            task="restore",
            options=self._options(),
            data=str(config["data"]["name"]),
            recipe=config,
            multiple_of=self.model.multiple_of,
            parameters=learned(self.model),
            scores=written_scores(self.scores),
        )

    def _options(self) -> dict[str, Any]:
        """What builds the network again, with the price that was set for its gates."""
        options: dict[str, Any] = dict(self.recipe.to_json()["options"])
        return options | {"price": self.model.price} if isinstance(self.model, MoceLite) else options

    def _explore(self) -> float:
        begin, end = self.recipe.explore, self.recipe.explore_end
        return begin + (end - begin) * self.step / max(1, self.steps - 1)

    def _floor(self) -> float:
        left = max(0.0, 1 - self.step / max(1, FLOOR_SHARE * self.steps))
        return FLOOR * math.pow(self.recipe.floor_begin / FLOOR, left)


def _grey(
    x: Tensor,  # (B, 3, H, W)
    which: Tensor,  # (B,), bool
) -> Tensor:  # (B, 3, H, W)
    """Some of the pictures with the mean of their channels in each, as `restore` shows grey ones to a network."""
    return torch.where(which[:, None, None, None], x.mean(1, keepdim=True), x)
