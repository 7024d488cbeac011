"""Losses that keep experts in use, as functions of one routing: each a scalar with its formula and its source.

Letters: T places, those of all pictures of the batch together; p_t the probabilities of place t, P their mean over t;
f_j the share of places whose most probable expert is j, or where it says so of all choices; E experts. Shares are
counted, so they have no gradient; probabilities carry it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from moesaic.routing.record import Routing

_TINY = 1e-30  # below it a probability counts as this in a logarithm


def importance(
    routing: Routing,
) -> Tensor:  # ()
    """CV^2 of the experts' probability mass: (std_j / mean_j)^2 of sum_t p_tj; 0 when all have the same.

    Source: Shazeer et al. 2017 (arXiv 1701.06538), section 4; the standard deviation is the unbiased one.
    """
    return _variation(_mass(routing))


def load(
    routing: Routing,
    noise: float | None = None,
) -> Tensor:  # ()
    """CV^2 of the smoothed number of places that choose each expert.

    P_tj = Phi((logit_tj - rival_tj) / noise) is the chance that expert j is among the k chosen of place t when its own
    score is drawn anew with normal noise; the rival is the k-th largest score among the other experts. The loss is CV^2
    over j of mean_t P_tj; 0 for k = E.

    Source: Shazeer et al. 2017 (arXiv 1701.06538), appendix A; V-MoE (arXiv 2106.05974) and MoCE-IR take the k-th of
    all scores as rival. All three take it from noisy scores; here from clean ones, which a `Routing` holds, so the loss
    does not depend on a draw.

    Args:
        routing: the decision.
        noise: standard deviation, in the units of the scores; 1 / E, as in V-MoE, when None.

    Raises:
        ArgumentError: noise is not above 0.
    """
    if noise is not None and not 0 < noise < math.inf:
        raise ArgumentError(f"noise is a standard deviation above 0, not {noise!r}")
    logits, k, experts = routing.logits, routing.k, routing.experts
    if k == experts:
        return 0 * logits.sum()
    best = logits.topk(k + 1, dim=-1).values
    inner, outer = best[..., k - 1 : k], best[..., k:]  # k-th and (k + 1)-th of all
    rival = torch.where(logits >= inner, outer, inner)
    chance = torch.special.ndtr((logits - rival) * (experts if noise is None else 1 / noise))
    return _variation(chance.mean((0, 1)))


def switch(
    routing: Routing,
) -> Tensor:  # ()
    """E * sum_j f_j P_j - 1: 0 when even, E - 1 when one expert takes everything for sure.

    f counts the most probable expert alone, whatever k is. Source: Switch Transformer (Fedus et al. 2021, arXiv
    2101.03961), equation 4, less 1; counted so for k > 1 in `KASTEL-MobilityLab/robust-sparse-moes`.
    """
    first = _one_hot(routing, routing.probabilities.argmax(-1))
    return routing.experts * (first.mean((0, 1)) * _mean(routing)).sum() - 1


def entropy(
    routing: Routing,
) -> Tensor:  # ()
    """mean_t H(p_t) - H(P), minus the mutual information of places and experts: each place decided, the batch even.

    From 0 (all places alike) down to -log E. Source: the entropy loss of `KASTEL-MobilityLab/robust-sparse-moes`;
    Mod-Squad (Chen et al. 2022, arXiv 2212.08066), section 3.3, has the same aim for tasks and experts.
    """
    return _entropy(routing.probabilities).mean() - _entropy(_mean(routing))


def marginal_entropy(
    routing: Routing,
) -> Tensor:  # ()
    """-H(P): the batch even, however undecided each place is; from 0 (one expert) down to -log E (even).

    Source: "column_entropy" of `KASTEL-MobilityLab/robust-sparse-moes`.
    """
    return -_entropy(_mean(routing))


def z_loss(
    routing: Routing,
) -> Tensor:  # ()
    """mean_t (log sum_j exp logit_tj)^2: keeps scores small, so that their softmax stays exact.

    Source: ST-MoE (Zoph et al. 2022, arXiv 2202.08906), equation 5.
    """
    return routing.logits.logsumexp(-1).square().mean()


def cost_weighted(
    routing: Routing,
    costs: Tensor | Sequence[float],  # (E,)
) -> Tensor:  # ()
    """CV^2 of c_j * sum_t p_tj: least when each expert's probability mass is in inverse proportion to its cost.

    A prior on usage, not a minimiser of cost: always the cheapest expert is penalised, too. Source: MoCE-IR (arXiv
    2411.18466), reference code `eduardzamfir/MoCE-IR`, where c is parameters over the largest; its auxiliary loss is
    the mean of this and of `load`.

    Raises:
        ArgumentError: a cost is not a number above 0.
        ShapeError: there is not one cost for each expert.
    """
    return _variation(_costs(routing, costs) * _mass(routing))


def expected_cost(
    routing: Routing,
    costs: Tensor | Sequence[float],  # (E,)
) -> Tensor:  # ()
    """mean_t sum_j p_tj c_j: what a place costs when its expert is drawn by probability; a minimiser of cost.

    Raises:
        ArgumentError: a cost is not a number above 0.
        ShapeError: there is not one cost for each expert.
    """
    return (_costs(routing, costs) * _mean(routing)).sum()


def degradation_aware(
    routing: Routing,
    severity: Tensor,  # (B,), in [0, 1]
    zero: int,
    shares: Tensor | None = None,  # (E,)
) -> Tensor:  # ()
    """E * mean_t sum_j a_tj f_j p_tj with a = 1 for real experts and the picture's severity for zero experts.

    In a clean picture experts that do nothing are free; in a ruined one they count like any other. f_j is the share of
    all choices, not of first ones alone. Even use of every expert gives 1 at severity 1.

    Source: a mixture of ranks (He et al. 2025, arXiv 2511.16024), after the heterogeneous loss of MoE++ (Jin et al.
    2024, arXiv 2410.07348) with the severity in place of its constant.

    Args:
        routing: the decision for B pictures.
        severity: how degraded each picture is.
        zero: how many experts do nothing; they are the last ones.
        shares: f, from more than one batch (a small batch counts few choices: keep a moving average of
            `choice_shares(routing)`); of this batch when None.

    Raises:
        ArgumentError: zero is not from 0 to E.
        ShapeError: there is not one severity for each picture, or not one share for each expert.
    """
    p, experts = routing.probabilities, routing.experts
    if not 0 <= zero <= experts:
        raise ArgumentError(f"zero is the number of zero experts, from 0 to {experts}, not {zero!r}")
    if severity.shape != p.shape[:1]:
        raise ShapeError(f"severity has the shape {tuple(severity.shape)}: give one number for each picture")
    if shares is None:
        shares = choice_shares(routing)
    elif shares.shape != (experts,):
        raise ShapeError(f"shares have the shape {tuple(shares.shape)}: give one for each of {experts} experts")
    does_nothing = torch.arange(experts, device=p.device) >= experts - zero
    factors = torch.where(does_nothing, severity.to(p.dtype)[:, None], 1)  # (B, E)
    return experts * (factors * shares.to(p.dtype) * p.mean(1)).sum(-1).mean()


def choice_shares(
    routing: Routing,
) -> Tensor:  # (E,)
    """Of all choices of the batch, the share that fell on each expert; they sum to 1."""
    return _one_hot(routing, routing.chosen).mean((0, 1, 2))


LOSSES: dict[str, Callable[[Routing], Tensor]] = {
    "importance": importance,
    "load": load,
    "switch": switch,
    "entropy": entropy,
    "marginal_entropy": marginal_entropy,
    "z": z_loss,
}
"""The losses that need nothing but a routing."""

COST_LOSSES: dict[str, Callable[[Routing, Sequence[float]], Tensor]] = {
    "cost_weighted": cost_weighted,
    "expected_cost": expected_cost,
}
"""Those that need a cost for each expert."""


@dataclass(frozen=True)
class Balance:
    """One balance loss and its weight: called with a routing, it gives what the training loss adds.

    Args:
        name: a key of `LOSSES` or `COST_LOSSES`, or "none" for exactly 0.
        weight: the loss's factor.
        costs: of each expert, for the losses that need them.

    Raises:
        ArgumentError: an unknown name, a weight that is not finite, or costs missing or given in vain.
    """

    name: str = "switch"
    weight: float = 0.01
    costs: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        names = ("none", *LOSSES, *COST_LOSSES)
        if self.name not in names:
            raise ArgumentError(f"balance {self.name!r} is unknown; choose one of {', '.join(names)}")
        if not _number(self.weight):
            raise ArgumentError(f"the weight of a balance loss is a finite number, not {self.weight!r}")
        if (self.costs is not None) != (self.name in COST_LOSSES):
            raise ArgumentError(f"costs go with {' and '.join(COST_LOSSES)}, and only with these: check {self.name!r}")

    def __call__(
        self,
        routing: Routing,
    ) -> Tensor:  # ()
        """The loss of one routing times the weight."""
        if self.name == "none":
            return routing.probabilities.new_zeros(())
        if self.costs is not None:
            return self.weight * COST_LOSSES[self.name](routing, self.costs)
        return self.weight * LOSSES[self.name](routing)


def _mass(routing: Routing) -> Tensor:  # (E,)
    return routing.probabilities.sum((0, 1))


def _mean(routing: Routing) -> Tensor:  # (E,)
    return routing.probabilities.mean((0, 1))


def _one_hot(routing: Routing, number: Tensor) -> Tensor:  # (..., E) from (...)
    hot = number[..., None] == torch.arange(routing.experts, device=number.device)
    return hot.to(routing.probabilities.dtype)


def _variation(values: Tensor) -> Tensor:  # ()
    """The squared coefficient of variation, (std / mean)^2; 0 for a single value."""
    if values.shape[0] == 1:
        return 0 * values.sum()
    return values.var() / values.mean().square()


def _entropy(p: Tensor) -> Tensor:  # (...) from (..., E), in nats
    return -(p * p.clamp_min(_TINY).log()).sum(-1)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _costs(routing: Routing, costs: Tensor | Sequence[float]) -> Tensor:  # (E,)
    if not isinstance(costs, Tensor):
        if not all(_number(cost) and cost > 0 for cost in costs):
            raise ArgumentError(f"costs are numbers above 0, not {list(costs)!r}")
        costs = torch.tensor(costs, device=routing.probabilities.device)
    if costs.shape != (routing.experts,):
        raise ShapeError(f"costs have the shape {tuple(costs.shape)}: give one for each of {routing.experts} experts")
    return costs.to(routing.probabilities.dtype)
