"""A training run of a predictor: its state, one step of it, and what it tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from moesaic.errors import ArgumentError
from moesaic.predict.models import make_network
from moesaic.predict.shapes import COLOUR
from moesaic.predict.stages import Kernels, changed, coloured, detached, placed, sloped, totals
from moesaic.predict.teacher import optimised
from moesaic.predict.validation import Validation
from moesaic.predict.views import maps
from moesaic.training.begin import fill
from moesaic.training.device import precision_on
from moesaic.training.optimiser import learned
from moesaic.training.picture_run import PictureRun, written_scores
from moesaic.training.seeds import seed_for
from moesaic.training.store import as_input
from moesaic.weights_file import Card, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from moesaic.predict.network import MixturePredictor
    from moesaic.predict.recipe import PredictRecipe
    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.training.progress import Pace

_FLOOR = 1e-5  # of the mean square error within the logarithm: beyond 50 dB nothing is to be gained


class Run(PictureRun):
    """A run that can be stopped after any step and goes on bit for bit.

    The loss of a crop and stage is the logarithm of the mean square error, so that a decibel is worth the same on
    every crop. Stages are learned one by one: what a stage is given is taken as it comes, without gradients.

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
        if model.stages < len(recipe.shares):
            raise ArgumentError(f"shares {recipe.shares!r} are more stages than the {model.stages} of this network")
        super().__init__(recipe, model, train, team, means=("loss", "psnr", "colours"))
        self.validation: Validation | None = None
        if held_out is not None and team.leads:
            self.validation = Validation(held_out, recipe.shares, self.device)

    @property
    def unlocked(self) -> int:
        """Stages that the next step trains."""
        return sum(self.step >= share * self.steps for share in self.recipe.unlock)

    def take_step(self) -> None:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        recipe = self.recipe
        crops = self.train.crops(self.generator("crops"), recipe.batch, recipe.crop, shrink=recipe.shrink)
        clean = as_input(crops.to(self.device)).contiguous()
        random = np.random.default_rng(self.seed("places"))
        ends = math.log(recipe.densest), math.log(recipe.sparsest)
        counts = [max(1, round(recipe.crop**2 / math.exp(random.uniform(*ends)))) for _ in clean]
        torch.manual_seed(self.seed("network"))  # of whatever draws from torch's own generator
        self.model.train()
        kernels: list[Kernels | None] = [None] * len(clean)
        drawn: list[Tensor | None] = [None] * len(clean)
        loss = clean.new_zeros(())
        told = clean.new_zeros(2)
        for stage in range(self.unlocked):
            for i, picture in enumerate(clean):
                sizes = [0, *totals(counts[i], recipe.shares)]
                if (there := kernels[i]) is not None:
                    kernels[i] = sloped(there, picture)[0]
                kernels[i] = placed(picture, drawn[i], kernels[i], sizes[stage + 1] - sizes[stage], stage, random)
            shown = [
                maps(picture, before, now.geometry.centres.detach())
                for picture, before, now in zip(clean, drawn, _there(kernels), strict=True)
            ]
            with precision_on(self.device, recipe.precision):
                features = self.model.look(torch.cat(shown), stage).float()
            told = torch.zeros_like(told)
            for i, (picture, before, now) in enumerate(zip(clean, drawn, _there(kernels), strict=True)):
                said = changed(self.model, features[i], picture, before, now, stage, 1)
                solved = coloured(said, picture, recipe.colours) if recipe.colours else said
                found = solved.drawn((recipe.crop, recipe.crop))
                error = (found - picture).square().mean()
                away = (said.colours - solved.colours.detach()).abs().mean()
                loss = loss + self._loss(said, error, picture) + recipe.colour_weight * away
                told += torch.stack([-10 * torch.log10(error.detach() + 1e-12), away.detach()])
                kernels[i], drawn[i] = detached(solved), found.detach()
        loss = loss / len(clean)
        self.update(loss)
        self.count(loss, *(told / len(clean)))  # of the last stage

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
            scores=written_scores(self.scores),
        )

    def _loss(
        self,
        said: Kernels,
        error: Tensor,  # (), mean square error of what they show
        picture: Tensor,  # (3, H, W)
    ) -> Tensor:  # ()
        if self.recipe.teacher == "render":
            return torch.log(error + _FLOOR)
        wanted = optimised(detached(said), picture, self.recipe.teacher_steps)
        return torch.nn.functional.smooth_l1_loss(said.raw[:, : COLOUR.start], wanted) * said.raw.shape[1]

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


def _there(kernels: list[Kernels | None]) -> list[Kernels]:
    return [one for one in kernels if one is not None]
