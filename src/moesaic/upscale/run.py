"""One training run of an upscaler: what a step's loss is, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from moesaic.degrade.mix import draw_sorts
from moesaic.errors import ArgumentError
from moesaic.training.device import precision_on
from moesaic.training.optimiser import learned, parameter_groups
from moesaic.training.picture_run import PictureRun, written_scores
from moesaic.training.psnr import psnrs
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input
from moesaic.upscale.build import build, told_scores
from moesaic.upscale.network import CompactUpscaler, enlarged
from moesaic.upscale.pairs import Pairs, make_pairs
from moesaic.upscale.recipe import UpscaleRecipe
from moesaic.upscale.validation import Validation
from moesaic.weights_file import Card

if TYPE_CHECKING:
    from pathlib import Path

    from moesaic.training.bank import Bank
    from moesaic.training.log import Log, Silence
    from moesaic.training.parallel import Team
    from moesaic.training.progress import Pace
    from moesaic.upscale.scores import Estimator


class Run(PictureRun):
    """What changes from step to step, and the step itself.

    Args:
        recipe: with its steps.
        train: what to learn from.
        held_out: what to report on, or None.
        team: the processes that train together, and their device.
        samples: folder for sample pictures, or None for none.
        estimator: what tells adapters how degraded a picture is; None for a network without ranks.

    Raises:
        ArgumentError: the network cannot be built, or knows not all scales.
        ModelError: the weights to start from cannot be read or do not fit.
    """

    def __init__(
        self,
        recipe: UpscaleRecipe,
        train: Bank,
        held_out: Bank | None,
        team: Team,
        samples: Path | None = None,
        estimator: Estimator | None = None,
    ) -> None:
        self.recipe, self.estimator, self._samples = recipe, estimator, samples
        model: CompactUpscaler = build(recipe)
        if model.mix is not None and estimator is not None and model.mix.scores not in (None, len(estimator.names)):
            raise ArgumentError(
                f"the ranks read {model.mix.scores} scores and the estimator gives {len(estimator.names)}; write "
                f'"scores": {len(estimator.names)} among the options of the ranks'
            )
        super().__init__(recipe, model, train, team, means=("loss", "pixels", "balance", "gain"))
        self.scales = [scale for scale, share in recipe.scales.items() if share]
        if unknown := [scale for scale in self.scales if scale not in model.scales]:
            raise ArgumentError(f"scales has {unknown[0]}, which {recipe.network} of these options does not know")
        self.validation: Validation | None = None
        if held_out is not None and team.leads:
            self.validation = Validation(held_out, self.scales, self.device)

    def groups(self) -> list[dict[str, Any]]:
        """The learned parameters, routers at a rate of their own."""
        mix = self.model.mix
        if mix is None:
            return super().groups()
        routers = list(mix.routers())
        own = {id(parameter) for parameter in routers}
        groups = parameter_groups(self.model, self.plan.weight_decay)
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
        if routers:
            groups.append({"params": routers, "weight_decay": 0.0, "lr": self.plan.rate * self.recipe.router_rate})
        return groups

    def take_step(self) -> None:
        """One batch: forward, backward, update. Every draw follows from the seed, the process and the step's number.

        Raises:
            FloatingPointError: the loss or its gradient was no number in this step or one of a few before.
        """
        recipe = self.recipe
        scale = self._scale()
        side = recipe.crop * scale
        crops = self.train.crops(self.generator("crops"), recipe.batch, side, shrink=recipe.shrink)
        clean = as_input(crops.to(self.device))
        with torch.no_grad():
            pairs = make_pairs(clean, self.generator("damage"), scale, recipe.mix)
        torch.manual_seed(self.seed("network"))  # of whatever draws from torch's own generator
        self.model.train()
        scores = told_scores(recipe.told, pairs, scale, self.estimator, self.generator("told"))
        with precision_on(self.device, recipe.precision):
            large = self.model(pairs.low, scale, None if scores is None else scores.values)
        pixels = (large - clean).abs().mean()
        balance = pixels.new_zeros(())
        if scores is not None and self.model.mix is not None:
            severity = scores.severity.to(self.device)
            balance = self.model.mix.balance(severity, kind=recipe.balance) * recipe.balance_weight
        loss = pixels + balance
        self.update(loss)
        gain = (psnrs(large.detach(), clean) - psnrs(enlarged(pairs.low, scale), clean)).mean()
        self.count(loss, pixels, balance, gain)

    def card(self, name: str, config: dict[str, Any]) -> Card:
        """What is to be known of the weights.

        Args:
            name: of the weights.
            config: what a checkpoint must agree with.
        """
        options = dict(self.recipe.to_json()["options"])
        if self.estimator is not None:
            options["estimator"] = self.estimator.identity
        return Card(
            name=name,
            architecture=self.recipe.network,
            task="upscale",
            options=options,
            data=str(config["data"]["name"]),
            recipe=config,
            parameters=learned(self.model),
            scores=written_scores(self.scores),
        )

    def _scale(self) -> int:
        """Of this step, the same in every process."""
        generator = generator_for(self.recipe.seed, "scale", self.step)
        return self.scales[int(draw_sorts([self.recipe.scales[scale] for scale in self.scales], 1, generator))]

    def validate(self, log: Log | Silence, pace: Pace) -> None:
        """Score held-out pictures by scale and sort of pair, and write samples of them."""
        if self.validation is None:
            return
        training = self.model.training
        self.model.eval()
        try:
            self.scores = self.validation.scores(self._enlarge, self.recipe.precision)
            if self._samples is not None:
                self.validation.show(self._enlarge, self._samples / f"step_{self.step:07d}.png", self.recipe.precision)
        finally:
            self.model.train(training)
        told: Mapping[str, Any] = {"psnr": self.scores, "psnr_bicubic": self.validation.before}
        log.write("validation", self.step, seconds=round(pace.seconds, 2), **told)

    def _enlarge(self, pairs: Pairs, scale: int) -> Tensor:
        scores = told_scores(self.recipe.told, pairs, scale, self.estimator, generator_for(0, "told at validation"))
        large: Tensor = self.model(pairs.low, scale, None if scores is None else scores.values)
        return large
