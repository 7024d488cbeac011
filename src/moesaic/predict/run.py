"""A training run of a predictor: its state, one step of it, and what it tells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.predict.kernels import SIX
from moesaic.predict.models import make_network
from moesaic.predict.stages import stages
from moesaic.predict.teacher import between, optimised
from moesaic.predict.validation import Validation
from moesaic.training.begin import fill
from moesaic.training.device import precision_on
from moesaic.training.optimiser import learned
from moesaic.training.picture_run import PictureRun, written_scores
from moesaic.training.seeds import seed_for
from moesaic.training.store import as_input
from moesaic.weights_file import Card, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.predict.network import MixturePredictor
    from moesaic.predict.recipe import PredictRecipe
    from moesaic.predict.stages import Stage
    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.training.progress import Pace

_FLOOR = 1e-5  # of the mean square error within the logarithm: beyond 50 dB nothing is to be gained


class Run(PictureRun):
    """A run that can be stopped after any step and goes on bit for bit.

    The loss of a crop and stage is the logarithm of the mean square error, so that a decibel is worth the same on
    every crop and every stage is worth drawing. What a later stage draws teaches every earlier one, too.

    Args:
        recipe: with its steps.
        train: what to learn from.
        held_out: what is reported on, or None.
        team: the processes that train together.
        samples: folder for pictures of the validation, or None.
    """

    def __init__(
        self, recipe: PredictRecipe, train: Bank, held_out: Bank | None, team: Team, samples: Path | None = None
    ) -> None:
        self.recipe, self._samples = recipe, samples
        model = build(recipe)
        if torch.device(team.device).type != "cpu":
            raise ArgumentError(f"a predictor is trained on the CPU, not on {team.device}: its stages are CPU loops")
        super().__init__(recipe, model, train, team, means=("loss", "psnr_start", "psnr"))
        self.validation: Validation | None = None
        if held_out is not None and team.leads:
            self.validation = Validation(held_out, recipe.shares)

    @property
    def unlocked(self) -> int:
        """Stages that the next step trains: first few, then all."""
        part = 1.0 if not self.recipe.unlock else min(1.0, (self.step + 1) / (self.recipe.unlock * self.steps))
        return max(1, math.ceil(part * len(self.recipe.shares)))

    def take_step(self) -> None:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        recipe = self.recipe
        crops = self.train.crops(self.generator("crops"), recipe.batch, recipe.crop, shrink=recipe.shrink)
        clean = as_input(crops).contiguous().numpy()
        random = np.random.default_rng(self.seed("places"))
        ends = math.log(recipe.densest), math.log(recipe.sparsest)
        torch.manual_seed(self.seed("network"))  # of whatever draws from torch's own generator
        self.model.train()
        losses, begins, ends_at = [], [], []
        for picture in clean:
            count = max(1, round(recipe.crop**2 / math.exp(random.uniform(*ends))))
            made = stages(self.model, picture, count, random, shares=recipe.shares, together=recipe.together)
            with precision_on(self.device, recipe.precision):
                first, *later = itertools.islice(made, self.unlocked + 1)
            losses += [self._loss(stage, picture) for stage in later]
            begins.append(first.psnr)
            ends_at.append(later[-1].psnr)
        loss = torch.stack(losses).sum() / len(clean)
        self.update(loss)
        self.count(loss, *(loss.new_tensor(float(np.mean(values))) for values in (begins, ends_at)))

    def figures(self) -> dict[str, Any]:
        """The means of what was counted, and how many stages are trained."""
        return {"stages": self.unlocked, **super().figures()}

    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """
        return Card(
            name=name,
            architecture=self.recipe.network,
            task="predict",
            options=dict(self.recipe.to_json()["options"]),
            data=str(config["data"]["name"]),
            recipe=config,
            parameters=learned(self.model),
            scores=written_scores(dict(sorted(self.scores.items(), key=_by_stage, reverse=True))),
        )

    def _loss(
        self,
        stage: Stage,
        picture: NDArray[np.float32],  # (3, H, W)
    ) -> Tensor:  # ()
        if self.recipe.teacher == "render":
            return torch.log(stage.error / picture.size + _FLOOR)
        wanted = optimised(stage.kernels, picture, self.recipe.teacher_steps)
        off = between(stage.kernels, wanted)
        return F.smooth_l1_loss(off[:, :SIX], torch.zeros_like(off[:, :SIX])) + F.l1_loss(
            stage.kernels.colours, wanted.colours
        )

    def validate(self, log: Log | Silence, pace: Pace) -> None:
        """Score held-out pictures by density and stage, and write samples of them."""
        if self.validation is None:
            return
        training = self.model.training
        self.model.eval()
        try:
            self.scores = self.validation.scores(self.model)
            if self._samples is not None:
                self.validation.show(self.model, self._samples / f"step_{self.step:07d}.png")
        finally:
            self.model.train(training)
        told: Mapping[str, Any] = {"psnr": self.scores, "psnr_start": self.validation.before}
        log.write("validation", self.step, seconds=round(pace.seconds, 2), **told)


def build(recipe: PredictRecipe) -> MixturePredictor:
    """The network before its first step; draws from torch's generators.

    Raises:
        ModelError: the weights file is missing, damaged, or of another network.
        ArgumentError: the recipe's network cannot be.
    """
    torch.manual_seed(seed_for(recipe.seed, "weights"))
    model = make_network(recipe.network, **recipe.options)
    if recipe.start is not None:
        weights, _ = read_weights(recipe.start)
        fill(model, weights, recipe.start)
    return model


def _by_stage(score: tuple[str, float]) -> int:
    """What `moesaic models` shows is the first score: that of the last stage."""
    return int(score[0].rpartition(" ")[2])
