"""One training run of an estimator: what a step's loss is, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from moesaic.training.begin import fill
from moesaic.training.device import precision_on
from moesaic.training.optimiser import learned
from moesaic.training.picture_run import PictureRun
from moesaic.training.seeds import seed_for
from moesaic.training.store import as_input
from moesaic.upscale.estimator_inputs import SHRINKS, draw_inputs
from moesaic.upscale.estimator_validation import Validation, typical_of
from moesaic.upscale.rank_correlation import order_loss
from moesaic.upscale.severity_net import SeverityNet
from moesaic.weights_file import Card, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.training.progress import Pace, Progress
    from moesaic.upscale.estimator_recipe import EstimatorRecipe

_BEND = 0.1  # of the Huber loss: errors beyond it count by their size, not by its square
_SCORE = "held_out_rank_correlation "  # before a name, in a card


class Run(PictureRun):
    """What changes from step to step, and the step itself.

    Args:
        recipe: with its steps.
        train: what to learn from.
        held_out: what to report on, or None.
        team: the processes that train together, and their device.
        samples: folder for sample pictures, which this task has none of.

    Raises:
        ArgumentError: the network cannot be built.
        ModelError: the weights to start from cannot be read or do not fit.
    """

    def __init__(
        self,
        recipe: EstimatorRecipe,
        train: Bank,
        held_out: Bank | None,
        team: Team,
        samples: Path | None = None,  # noqa: ARG002 - a task's form
    ) -> None:
        self.recipe = recipe
        super().__init__(recipe, _build(recipe), train, team, means=("loss", "errors", "order"))
        self._held_out = held_out
        self.validation: Validation | None = None
        if held_out is not None and team.leads:
            self.validation = Validation(held_out, recipe.crop, self.device)

    def take_step(self) -> None:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        recipe = self.recipe
        shrink = SHRINKS[seed_for(recipe.seed, "shrink", self.step) % len(SHRINKS)]
        crops = self.train.crops(self.generator("crops"), recipe.batch, recipe.crop * shrink, shrink=recipe.shrink)
        with torch.no_grad():
            inputs = draw_inputs(as_input(crops.to(self.device)), self.generator("damage"), shrink, recipe.mix)
        truth = torch.cat([inputs.truth.values, inputs.truth.severity[:, None]], 1).to(self.device)
        self.model.train()
        with precision_on(self.device, recipe.precision):
            said = self.model(inputs.pictures).float()
        errors = F.huber_loss(said, truth, delta=_BEND) / _BEND
        order = order_loss(said, truth)
        loss = errors + recipe.order * order
        self.update(loss)
        self.count(loss, errors, order)

    def finish(self, log: Log | Silence, pace: Pace) -> dict[str, Any]:
        """The averaged weights, validated once more, after which it is measured what is typical of each severity."""
        with self.average.applied(self.model):
            self.validate(log, pace)
            self.model.typical = typical_of(self.model, self._held_out or self.train, self.recipe.crop, self.device)
            return self.weights()

    def progress(self, pace: Pace) -> Progress:
        """Where the run stands."""
        mean = sum(self.scores.values()) / len(self.scores) if self.scores else None
        return replace(super().progress(pace), psnr=None, score=mean)

    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """
        typical = [list(row) for row in self.model.typical.rows]
        return Card(
            name=name,
            architecture=self.recipe.network,
            task="estimate",
            options=self.recipe.to_json()["options"] | {"names": list(self.model.names), "typical": typical},
            data=str(config["data"]["name"]),
            recipe=config,
            parameters=learned(self.model),
            scores={f"{_SCORE}{sort}": value for sort, value in self.scores.items()},
        )

    def validate(self, log: Log | Silence, pace: Pace) -> None:
        """Rank correlations with the truth on held-out pictures, by sort of damage."""
        if self.validation is None:
            return
        self.scores, told = self.validation.scores(self.model)
        log.write("validation", self.step, seconds=round(pace.seconds, 2), rank_correlation=self.scores, **told)


def scores_in(card: Card) -> dict[str, float]:
    """The scores that `Run.card` wrote down, by sort of damage."""
    return {name.removeprefix(_SCORE): value for name, value in card.scores.items() if name.startswith(_SCORE)}


def _build(recipe: EstimatorRecipe) -> SeverityNet:
    """The network before its first step; draws from torch's generators.

    Raises:
        ModelError: the weights file is missing, damaged, or of another network.
        ArgumentError: the recipe's network cannot be.
    """
    from moesaic.upscale.models import make_estimator_network

    torch.manual_seed(seed_for(recipe.seed, "weights"))
    model = make_estimator_network(recipe.network, **recipe.options)
    if recipe.start is not None:
        weights, _ = read_weights(recipe.start)
        fill(model, weights, recipe.start)
    return model
