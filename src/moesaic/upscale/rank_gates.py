"""From scores of degradation to the gates of ranks: a router for each layer, all of them asked at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from moesaic.routing import Routing
from moesaic.routing.choice import choose
from moesaic.routing.conditioned_gates import ScoreGate
from moesaic.upscale.rank_plan import Ranks

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.upscale.ranks import RankedLayer

_asking = threading.Lock()  # a gate reads its condition from an attribute, which two threads would share


class Router(ScoreGate):
    """A `ScoreGate` that reads a constant 1 beside the scores.

    Without it a picture whose scores are all 0 would have logits that are all 0: every expert alike, and the first
    ones, not the zero experts, for a clean picture, whatever was learned. With it there is a choice for clean pictures,
    and one that suits all.

    Its numbers keep their precision when the model becomes float16 or bfloat16: two experts whose scores differ by less
    than half precision tells apart would change places.

    Args:
        experts: how many there are.
        k: how many act.
        scores: S, numbers that describe the degradation.
        hidden: width between two linear layers; None: one layer.
        noise: see `Gate`.
    """

    shares: Tensor  # (N,), of all choices in training the share of each expert, a moving average

    def __init__(self, experts: int, k: int, *, scores: int, hidden: int | None = None, noise: float = 0.0) -> None:
        super().__init__(experts, k, scores=scores + 1, hidden=hidden, noise=noise)
        self.condition_size = scores
        # Kept with the weights: a run that stops and goes on does as one that never stopped.
        self.register_buffer("shares", torch.full((experts,), 1 / experts))

    def given(self, x: Tensor) -> Tensor:  # (B, 1, S + 1)
        """The scores for the pictures of a map and 1."""
        return pad(super().given(x), (0, 1), value=1.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Router:
        def wide(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            narrower = made.is_floating_point() and made.element_size() < tensor.element_size()
            return tensor.to(made.device) if narrower else made

        moved: Router = super()._apply(wide, recurse)  # type: ignore[no-untyped-call]
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What layers of one plan decided for one batch: to them it is one `Routing` whose places are the layers."""

    names: tuple[str, ...]  # L, of the layers
    ranks: Ranks  # their plan
    routing: Routing  # (B, L, ...)
    gates: Tensor  # (B, L, R)

    def by_layer(self) -> dict[str, Routing]:
        """The decision of each layer, with one place for each picture."""
        whole, parts = self.routing, {}
        for place, name in enumerate(self.names):
            here = slice(place, place + 1)
            parts[name] = Routing(
                weights=whole.weights[:, here],
                chosen=whole.chosen[:, here],
                probabilities=whole.probabilities[:, here],
                logits=whole.logits[:, here],
                grid=(1, 1),
            )
        return parts


def decide(
    layers: Mapping[str, RankedLayer],
    scores: Tensor,  # (B, S)
    *,
    exploring: bool = True,
) -> list[Decision]:
    """The decisions of all layers that have a router.

    Layers of the same plan choose in one piece: their choices are many small steps, which would cost more than the
    ranks themselves.

    Args:
        layers: by name.
        scores: how degraded each picture is; computed on in float32 or better.
        exploring: whether layers in training mode add their noise.
    """
    alike: dict[Any, dict[str, Router]] = {}
    for name, layer in layers.items():
        router = layer.router
        if router is not None:
            kind = (layer.ranks, router.k, router.noise, layer.training and exploring, router.last.device)
            alike.setdefault(kind, {})[name] = router
    made = []
    for (ranks, k, noise, noisy, device), routers in alike.items():
        told = scores.to(device)
        with torch.autocast(device.type, enabled=False):
            logits = torch.cat([_logits(router, told) for router in routers.values()], dim=1)  # (B, L, N)
            weights, chosen, probabilities = choose(logits, k, training=noisy, noise=noise)
            weights = _weights(ranks, weights, chosen, probabilities, logits)
        routing = Routing(
            weights=weights, chosen=chosen, probabilities=probabilities, logits=logits, grid=(1, len(routers))
        )
        gates = routing.dense()[..., : ranks.real].repeat_interleave(ranks.expert_rank, -1)
        made.append(Decision(tuple(routers), ranks, routing, pad(gates, (ranks.shared, 0), value=1.0)))
    return made


def _logits(router: Router, scores: Tensor) -> Tensor:  # (B, 1, N)
    with _asking, router.conditioned(scores):
        return router.scores(scores[:, :, None, None], (1, 1))  # of the map it takes the number of pictures alone


def _weights(
    ranks: Ranks,
    weights: Tensor,  # (B, L, K), they sum to 1
    chosen: Tensor,  # (B, L, K)
    probabilities: Tensor,  # (B, L, N)
    logits: Tensor,  # (B, L, N)
) -> Tensor:  # (B, L, K)
    """The gates of the chosen, as the plan wants them."""
    if ranks.gate_norm == "topk":
        return weights
    if ranks.gate_norm == "none":
        return ranks.experts * probabilities.gather(-1, chosen)
    real = chosen < ranks.real
    if chosen.shape[-1] == 1:
        return weights * real  # `choose` gives the gradient a way past the weight of 1
    some = real.any(-1, keepdim=True)  # where all are zero experts there is nothing to share
    left = logits.gather(-1, chosen).masked_fill(some & ~real, -torch.inf)
    return left.softmax(-1) * real
