"""What a run does once after its last step: gates that learn last are taught from trials of every expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from moesaic.restore.gate_fit import fit_gates, highest_price, try_experts
from moesaic.restore.network import MoceLite
from moesaic.training.seeds import generator_for, seed_for
from moesaic.training.store import as_input

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moesaic.restore.build import Parts
    from moesaic.restore.recipe import RestoreRecipe
    from moesaic.training.bank import Bank


def learns_last(model: nn.Module) -> bool:
    """Whether a network's gates know nothing until the rest of it is finished."""
    return isinstance(model, MoceLite)


def steps_left(model: nn.Module, recipe: RestoreRecipe, steps: float) -> int:
    """How many of the steps that fit into a time are left for training, at least 1, when gates are taught at the end.

    An expert's trial is a pass of a batch, a step of training about three. Teaching has a quarter of the time at most.
    """
    worth = 0.0
    if isinstance(model, MoceLite):
        worth = min(recipe.trials / recipe.batch * _experts(model) / 3, steps / 4)
    return max(1, int(steps - worth))


def dearest(
    model: nn.Module,
    x: Tensor,  # (B, 3, H, W)
) -> Tensor:  # (B, 3, H, W)
    """Pictures restored by the dearest experts where gates learn last, else by those that the gates choose."""
    if not isinstance(model, MoceLite):
        restored: Tensor = model(x)
        return restored
    return model.decoded(model.encoded(x), [torch.full((x.shape[0],), gate.experts - 1) for gate in model.gates()])


def teach_gates(
    model: MoceLite, bank: Bank, parts: Parts, recipe: RestoreRecipe, mix: Mapping[str, float], device: torch.device
) -> dict[str, float]:
    """Try every expert on crops of the training pictures, teach the gates the gains, and set a price of compute.

    Args:
        model: with the weights that the run leaves; its gates and its price are changed.
        bank: the training pictures.
        parts: the damage.
        recipe: of the run, with its steps; `trials` says how many crops, `precision` how they pass,
            `tolerance` what the choice may lose.
        mix: how often each sort of damage is drawn.
        device: where the model is.

    Returns:
        For each level the share of the variance of the gains that is foretold; and the price, dB.
    """
    training = model.training
    model.eval()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(-(-count // recipe.batch)):
            generator = generator_for(recipe.seed, "trials", number)
            clean = as_input(bank.crops(generator, recipe.batch, recipe.crop, shrink=recipe.shrink).to(device))
            yield parts.degrade(clean, generator, mix).pictures, clean

    count = recipe.trials
    if recipe.minutes is not None:  # the run was planned by time, of which this may take a quarter, as in `steps_left`
        count = min(count, max(recipe.batch, (recipe.steps or 1) * recipe.batch // _experts(model)))
    try:
        generator = generator_for(recipe.seed, "experts of trials")
        trials = try_experts(model, batches(), generator=generator, precision=recipe.precision)
        foretold = fit_gates(model, trials, seed=seed_for(recipe.seed, "gates"))
        model.price = highest_price(model, trials, recipe.tolerance)
        return foretold | {"price": model.price}
    finally:
        model.train(training)


def _experts(model: MoceLite) -> int:
    """Of all levels."""
    return sum(gate.experts for gate in model.gates())
