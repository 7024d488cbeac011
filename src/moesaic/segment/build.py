"""A recipe's network, with the weights it begins from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from moesaic.routing.convert import sparsify
from moesaic.segment.networks import make_network
from moesaic.training.begin import fill
from moesaic.training.seeds import seed_for
from moesaic.weights_file import read_weights

if TYPE_CHECKING:
    from torch import nn

    from moesaic.segment.networks import SegmentationNetwork
    from moesaic.segment.recipe import SegmentRecipe


def build(recipe: SegmentRecipe, classes: int) -> SegmentationNetwork:
    """The network before its first step. Arms of one seed share all weights that they have in common.

    A weights file of the same network with experts is taken as it is; a dense one is upcycled: every expert begins as
    a copy of the trained layer, with `expert_noise`.

    Raises:
        ModelError: the weights file is missing, damaged, or of another network.
        ArgumentError: the recipe's network, layer, gate or number of experts cannot be.
    """
    seed = seed_for(recipe.seed, "weights")
    model = make_network(recipe.network, classes, width=recipe.width, options=recipe.options, seed=seed)
    weights: dict[str, Any] = {}
    upcycled = False
    if recipe.start is not None:
        weights, card = read_weights(recipe.start)
        upcycled = not card.options.get("experts")
        if upcycled:
            fill(model, weights, recipe.start)
    if recipe.experts is not None:
        sparsify(
            model,
            recipe.place or model.moe_place,
            recipe.experts,
            recipe.k,
            recipe.grid,
            gate=recipe.gate,
            gate_options=recipe.gate_options,
            balance=recipe.balance,
            balance_weight=recipe.balance_weight,
            initial="copy" if upcycled else "fresh",
            jitter=recipe.expert_noise,
            seed=seed_for(recipe.seed, "experts"),
            inplace=True,
        )
    if weights and not upcycled:
        fill(model, weights, cast("str", recipe.start))
    return model


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
