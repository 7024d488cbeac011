"""Routes through a network's decoder, each tried at most once on a picture, and what comparisons of them say.

A route names the expert of each level, from 1/2 down, as digits: "310" has expert 3 at 1/2, 1 at 1/4, 0 at 1/8.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.restore_network import Pixels, as_batch, network
from benchmarks.restore_scores import psnr

if TYPE_CHECKING:
    from moesaic.restore.network import MoceLite

SWEEPS = 3  # over all levels, of a search for the best route
ALIKE = 8  # routes that count as of the same cost


class Tried:
    """One picture, encoded once, and its PSNR by routes.

    Args:
        model: name or file of the weights.
        damaged: (H, W, 3).
        clean: (H, W, 3).
    """

    def __init__(self, model: str, damaged: Pixels, clean: Pixels) -> None:
        import torch

        self.network: MoceLite = network(model)
        self.clean = clean
        self.known: dict[str, float] = {}
        with torch.inference_mode():
            self._held = self.network.encoded(as_batch(damaged))

    def chosen(self, price: float | None = None) -> str:
        """The route that the gates choose, at their own price of compute or at another."""
        import torch

        told = []
        with torch.inference_mode():
            for gate in self.network.gates():
                worth = gate.gains(self._held.reading) - (gate.price if price is None else price) * gate.costs
                told.append(str(int(worth.argmax())))
        return "".join(told)

    def psnr(self, route: str) -> float:
        """Of the picture restored that way, dB."""
        import torch

        if route not in self.known:
            experts = [torch.tensor([int(expert)]) for expert in route]
            with torch.inference_mode():
                found = self.network.decoded(self._held, experts)[0]
            self.known[route] = psnr(found.permute(1, 2, 0).numpy(), self.clean)
        return self.known[route]


def counts(model: str) -> list[int]:
    """How many experts each level has."""
    return [gate.experts for gate in network(model).gates()]


def costs(model: str) -> tuple[float, list[list[float]]]:
    """Shares of the dearest decoder: what runs whatever is chosen, and each expert of each level."""
    loaded = network(model)
    return loaded.fixed_cost, [[float(cost) for cost in gate.costs] for gate in loaded.gates()]


def cost(route: str, fixed: float, experts: Sequence[Sequence[float]]) -> float:
    """The share of the dearest decoder's multiply-adds that a route takes."""
    return fixed + sum(level[int(expert)] for level, expert in zip(experts, route, strict=True))


def uniform(expert: int, experts: Sequence[int]) -> str:
    """One expert at every level, the dearest where a level has no such one."""
    return "".join(str(min(expert, count - 1)) for count in experts)


def swapped(route: str, level: int, expert: int) -> str:
    """The route with another expert at one level."""
    return route[:level] + str(expert) + route[level + 1 :]


def every(experts: Sequence[int]) -> list[str]:
    """All routes."""
    return ["".join(map(str, route)) for route in itertools.product(*map(range, experts))]


def climbed(start: str, experts: Sequence[int], value: Callable[[str], float], *, sweeps: int = SWEEPS) -> str:
    """The best route that changing one level at a time leads to, from the smallest map up, until nothing helps."""
    best = start
    for _ in range(sweeps):
        before = best
        for level in reversed(range(len(experts))):
            best = max((swapped(best, level, expert) for expert in range(experts[level])), key=value)
        if best == before:
            break
    return best


def exchanged(routes: Sequence[str], groups: Sequence[str], seed: int) -> list[str]:
    """Each picture's route given to another picture of its group, in one random ring; alone it keeps its own."""
    random = np.random.default_rng(seed)
    found = list(routes)
    for group in dict.fromkeys(groups):
        ring = random.permutation([place for place, one in enumerate(groups) if one == group])
        for place, source in zip(ring, np.roll(ring, 1), strict=True):
            found[place] = routes[source]
    return found


def drawn(number: int, experts: Sequence[int], seed: int) -> list[str]:
    """That many random routes."""
    random = np.random.default_rng(seed)
    return ["".join(str(random.integers(count)) for count in experts) for _ in range(number)]


def alike_in_cost(
    chosen: Sequence[str], fixed: float, experts: Sequence[Sequence[float]], seed: int, *, among: int = ALIKE
) -> list[str]:
    """For each route a random other one, of the `among` whose cost is closest to its own."""
    random = np.random.default_rng(seed)
    known = every([len(level) for level in experts])
    found = []
    for route in chosen:
        own = cost(route, fixed, experts)
        others = sorted((r for r in known if r != route), key=lambda r: abs(cost(r, fixed, experts) - own))
        found.append(others[random.integers(min(among, len(others)))] if others else route)
    return found


def constants(
    worth: Mapping[str, float],  # by route, dB on average
    fixed: float,
    experts: Sequence[Sequence[float]],
    budgets: Sequence[float],
) -> dict[float, str]:
    """For each budget, a share of the dearest decoder, the best route that costs no more, where there is one."""
    found = {}
    for budget in budgets:
        within = [route for route in worth if cost(route, fixed, experts) <= budget + 1e-9]
        if within:
            found[budget] = max(within, key=worth.__getitem__)
    return found


def told(known: Mapping[str, float]) -> str:
    """Routes and their PSNR in one text, for a record."""
    return " ".join(f"{route}:{value:.4f}" for route, value in sorted(known.items()))


def read(text: str) -> dict[str, float]:
    """What `told` wrote."""
    return {route: float(value) for route, _, value in (part.partition(":") for part in text.split())}


def swap_losses(
    pictures: Iterable[tuple[str, Mapping[str, float]]],  # chosen route, PSNR by route
    experts: Sequence[int],
) -> list[list[list[float]]]:  # by level and expert, a loss for each picture that did not choose the expert
    """What is lost, in dB, where a level is forced to an expert that was not chosen, all else as chosen."""
    found: list[list[list[float]]] = [[[] for _ in range(count)] for count in experts]
    for route, known in pictures:
        for level, count in enumerate(experts):
            for expert in range(count):
                other = known.get(swapped(route, level, expert), math.nan)
                if expert != int(route[level]) and not math.isnan(other):
                    found[level][expert].append(known[route] - other)
    return found
