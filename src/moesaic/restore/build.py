"""What a run is made of besides its recipe: the network with its first weights, and the damage it learns to undo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from moesaic.training.begin import fill
from moesaic.training.seeds import seed_for
from moesaic.weights_file import read_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moesaic.restore.recipe import RestoreRecipe


class Damaged(Protocol):
    """A batch of damaged pictures; what `moesaic.degrade.batch.degrade_batch` gives."""

    @property
    def pictures(self) -> Tensor:
        """(B, 3, H, W), float32 in [0, 1]."""

    @property
    def present(self) -> Tensor:
        """(B, L), 1 where a kind of degradation is there."""

    @property
    def severity(self) -> Tensor:
        """(B, L), in [0, 1]."""

    @property
    def sort(self) -> Tensor:
        """(B,) int64, what each picture was drawn as: its place among the names of the mix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of besides its recipe.

    Args:
        network: makes the network of a name with its options; fresh weights follow from torch's seed.
        degrade: damages clean (B, 3, H, W) pictures in [0, 1] with draws from a generator on the CPU; the mix says how
            often each sort of damage is drawn.
        mix: what a recipe without a mix means.
    """

    network: Callable[..., nn.Module]
    degrade: Callable[[Tensor, torch.Generator, Mapping[str, float]], Damaged]
    mix: Mapping[str, float]


def known_parts() -> Parts:
    """The networks and degradations of moesaic."""
    from moesaic.degrade.batch import DEFAULT_MIX, degrade_batch
    from moesaic.restore.models import make_network

    return Parts(network=make_network, degrade=degrade_batch, mix=dict(DEFAULT_MIX))


def build(recipe: RestoreRecipe, parts: Parts) -> Any:
    """The network before its first step, a `RestorationNetwork`; draws from torch's generators.

    Raises:
        ModelError: the weights file is missing, damaged, or of another network.
        ArgumentError: the recipe's network cannot be.
    """
    torch.manual_seed(seed_for(recipe.seed, "weights"))
    model = parts.network(recipe.network, **recipe.options)
    if recipe.start is not None:
        weights, _ = read_weights(recipe.start)
        fill(model, weights, recipe.start)
    return model
