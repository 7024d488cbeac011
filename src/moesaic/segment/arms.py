"""The arms of a comparison: what a routed network must be held against before routing gets the credit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from moesaic.errors import ArgumentError
from moesaic.segment.build import build, parameters

if TYPE_CHECKING:
    from moesaic.segment.recipe import SegmentRecipe

ARMS = ("moe", "dense", "widened", "uniform", "random", "position", "frozen")
TOLERANCE = 0.01  # by which the widened network's size may differ, as a share


def arm(recipe: SegmentRecipe, name: str, *, classes: int = 11) -> SegmentRecipe:
    """The recipe of one arm; seed, data order, schedule and everything else stay those of the routed network.

    - moe: the recipe itself.
    - dense: the network without experts.
    - widened: the dense network, widened until it has as many parameters in total as the routed one.
    - uniform: all experts at every place with equal weights: an average of kernels.
    - random: k experts drawn anew for each place.
    - position: one kernel for each position of the grid, the same for every picture.
    - frozen: a gate that reads the picture and never learns.

    Args:
        recipe: of the routed network.
        name: of the arm.
        classes: of the data; the size of the last layer depends on it.

    Raises:
        ArgumentError: the arm is unknown, the recipe has no experts, or no width fits.
    """
    if name not in ARMS:
        raise ArgumentError(f"arm {name!r} is unknown; choose one of {', '.join(ARMS)}")
    if recipe.experts is None:
        raise ArgumentError("arms are made from the recipe of a routed network: set experts")
    if name == "moe":
        return recipe
    dense = replace(recipe, experts=None, place=None)
    if name == "dense":
        return dense
    if name == "widened":
        return replace(dense, width=_width(dense, parameters(build(recipe, classes)), classes))
    fixed = replace(recipe, gate=name, gate_options={}, balance="none")
    if name == "position":
        rows, columns = (recipe.grid, recipe.grid) if isinstance(recipe.grid, int) else recipe.grid
        return replace(fixed, experts=rows * columns, k=1, gate_options={"kernels": True})
    return replace(fixed, k=recipe.experts) if name == "uniform" else fixed


def _width(dense: SegmentRecipe, wanted: int, classes: int) -> float:
    """The factor on the channels that gives about so many parameters: halving an interval, as sizes grow with it."""
    if dense.start is not None:
        raise ArgumentError("weights to start from fit no widened network: set start to None for this arm")

    def size(width: float) -> int:
        return parameters(build(replace(dense, width=width), classes))

    low, high = dense.width, dense.width * 4
    tried = {low: size(low), high: size(high)}
    for _ in range(24):
        middle = round((low + high) / 2, 6)
        tried[middle] = size(middle)
        low, high = (middle, high) if tried[middle] < wanted else (low, middle)
        if high - low < 1e-5:
            break
    best = min(tried, key=lambda width: (abs(tried[width] - wanted), width))
    if abs(tried[best] - wanted) > TOLERANCE * wanted:
        raise ArgumentError(
            f"no width of {dense.network} has {wanted} parameters within {TOLERANCE:.0%}; the nearest, {best}, "
            f"has {tried[best]}"
        )
    return best
