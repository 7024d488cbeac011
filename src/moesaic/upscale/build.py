"""What a run is made of besides its recipe: the network before its first step, and what its adapters are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from moesaic.training.begin import fill
from moesaic.training.seeds import seed_for
from moesaic.upscale.network import CompactUpscaler
from moesaic.upscale.scores import Scores
from moesaic.upscale.truth import true_scores
from moesaic.weights_file import read_weights

if TYPE_CHECKING:
    from moesaic.upscale.pairs import Pairs
    from moesaic.upscale.recipe import UpscaleRecipe
    from moesaic.upscale.scores import Estimator


def build(recipe: UpscaleRecipe) -> CompactUpscaler:
    """The network before its first step; draws from torch's generators.

    Raises:
        ModelError: the weights file is missing, damaged, or of another network.
        ArgumentError: the recipe's network cannot be.
    """
    from moesaic.upscale.models import make_network

    torch.manual_seed(seed_for(recipe.seed, "weights"))
    options: dict[str, Any] = dict(recipe.options)
    ranks = options.pop("ranks", None)
    if recipe.start is None:
        return make_network(recipe.network, **options, ranks=ranks)
    weights, card = read_weights(recipe.start)
    whole = ranks is not None and card.options.get("ranks") is not None
    model = make_network(recipe.network, **options, ranks=ranks if whole else None)
    fill(model, weights, recipe.start)
    if ranks is not None and not whole:
        model.add_ranks(ranks)
    return model


def told_scores(
    told: str, pairs: Pairs, scale: int, estimator: Estimator | None, generator: torch.Generator
) -> Scores | None:
    """What adapters are told of each picture, on the pictures' device; None without an estimator.

    Args:
        told: one of `moesaic.upscale.recipe.TOLD`.
        pairs: what goes in, and what is true of it.
        scale: by which the pictures had shrunk.
        estimator: what looks at the pictures.
        generator: on the CPU, of the order of "shuffled".
    """
    if estimator is None:
        return None
    device = pairs.low.device
    if told == "oracle":
        height, width = (side * scale for side in pairs.low.shape[-2:])
        true = true_scores(pairs.chains, pairs.severity.tolist(), height, width)
        return Scores(names=true.names, values=true.values.to(device), severity=true.severity.to(device))
    said = estimator(pairs.low)
    if told == "constant":
        values, severity = torch.full_like(said.values, 0.5), torch.full_like(said.severity, 0.5)
        return Scores(names=said.names, values=values, severity=severity)
    if told == "shuffled":
        order = torch.randperm(len(said.severity), generator=generator).to(device)
        return Scores(names=said.names, values=said.values[order], severity=said.severity[order])
    return said
