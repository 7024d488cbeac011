"""A mixture of ranks in a model: put in by `mix_of_ranks`, and held by `MixOfRanks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.memory import within_memory
from moesaic.routing.choice import MOST_EXPERTS
from moesaic.upscale.rank_gates import Decision, decide
from moesaic.upscale.rank_places import Where, places
from moesaic.upscale.rank_plan import PAPER, GateNorm, Ranks
from moesaic.upscale.ranks import RankedConv2d, RankedLayer, RankedLinear, ranked_layers
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from moesaic.routing import Routing
    from moesaic.weights_file import Card

BALANCES = ("degradation", "plain", "none")
_BEYOND = 1e-3  # of scores, what rounding may leave
_MOST_SCORES = 4096
_DECAY = 0.99  # of the moving average of each expert's share of the choices
_A_QUARTER, _AN_EIGHTH = 4, 8  # of the routed experts are active, and as many are zero experts, as in the paper


def mix_of_ranks(
    model: nn.Module,
    where: Where | Iterable[Where],
    ranks: int | None = None,
    shared: int = PAPER.shared,
    routed: int = PAPER.routed,
    active: int | None = None,
    zero: int | None = None,
    *,
    scores: int = 7,
    zero_inside_routed: bool = False,
    gate_norm: GateNorm = "none",
    expert_rank: int = 1,
    hidden: int | None = None,
    noise: float = 0.0,
) -> MixOfRanks:
    """Put ranks into layers of a model: single ranks of low-rank adapters as experts, chosen by how degraded it is.

    The model itself is changed: each layer is replaced by one with the same weight and more, under the same name, and
    all parameters but the new ones are frozen. New ranks add nothing until they are trained. They are drawn from
    torch's global generator.

    The method is that of MoR-DASR (He et al. 2025, arXiv 2511.16024), for which no code is public; what it leaves open
    is chosen here: the router, the norm of its gates, and where the zero experts are counted.

    Args:
        model: any torch model.
        where: which layers: a name as in `model.named_modules()`, a pattern with * and ?, a regular expression that
            begins with ^ or is compiled, a function of name and module, or several of these. All but a name pass over
            what can have no ranks, such as grouped convolutions.
        ranks: how many each layer gets, in the proportions that follow; as many as follow when None. A narrow layer
            gets fewer: at most a quarter of its full rank.
        shared: ranks that are always on.
        routed: experts to choose from, see `Ranks`; 0 for plain LoRA.
        active: how many of them are chosen; a quarter unless given.
        zero: experts that do nothing; an eighth of `routed` unless given.
        scores: S, the numbers that describe a picture's degradation.
        zero_inside_routed: see `Ranks`.
        gate_norm: "none", "topk" or "real", see `Ranks`.
        expert_rank: ranks of each expert.
        hidden: width between the two layers of a router; None: one layer.
        noise: on a router's scores in training, see `Ranks`.

    Returns:
        The ranks of the model, those that it may have had before included.

    Raises:
        ArgumentError: no layer of that name or pattern, a named layer that can have no ranks, or an option outside its
            values.
        LimitError: there is not enough memory.
    """
    if not is_a(model, nn.Module):
        raise ArgumentError(f"model is a torch module, not {type(model).__name__}")
    if ranks is not None and not is_whole(ranks, 1, MOST_EXPERTS):
        raise ArgumentError(f"ranks is a whole number from 1 to {MOST_EXPERTS}, or None, not {ranks!r}")
    several = is_whole(routed, 1)
    plan = Ranks(
        shared=shared,
        routed=routed,
        active=(max(1, routed // _A_QUARTER) if several else 0) if active is None else active,
        zero=(max(1, routed // _AN_EIGHTH) if several else 0) if zero is None else zero,
        zero_inside_routed=zero_inside_routed,
        gate_norm=gate_norm,
        expert_rank=expert_rank,
        hidden=hidden,
        noise=noise,
    )
    plan = plan if ranks is None else plan.fitted(ranks)
    layers = dict(model.named_modules(remove_duplicate=False))
    plans = {}
    for name in places(layers, where):
        weight = cast("Tensor", layers[name].weight)
        plans[name] = plan.fitted_to(weight[0].numel(), len(weight))
    return put_ranks(model, plans, scores)


def put_ranks(model: nn.Module, plans: Mapping[str, Ranks], scores: int) -> MixOfRanks:
    """Put ranks into the layers of these names, which can have some; see `mix_of_ranks`.

    Args:
        model: it is changed.
        plans: how many of what kind, by the layer's name.
        scores: S, the numbers that describe a picture's degradation.

    Raises:
        ArgumentError: `scores` is no count, or another than that of ranks that the model has.
        LimitError: there is not enough memory.
    """
    if not is_whole(scores, 1, _MOST_SCORES):
        raise ArgumentError(f"scores is a whole number from 1 to {_MOST_SCORES}, not {scores!r}")
    held = {layer.router.condition_size for layer in ranked_layers(model).values() if layer.router is not None}
    if held - {scores}:
        raise ArgumentError(f"the model's ranks read {held.pop()} scores; pass as many for more of them, not {scores}")
    layers = dict(model.named_modules(remove_duplicate=False))
    made: dict[int, RankedLayer] = {}  # a layer that is used in several places stays one layer
    with within_memory("the ranks; ask for fewer of them or for fewer layers"):
        for name, plan in plans.items():
            old = layers[name]
            if id(old) not in made:
                kind: Any = RankedLinear if isinstance(old, nn.Linear) else RankedConv2d
                made[id(old)] = kind(old, plan, scores)
    for name in [name for name, layer in layers.items() if id(layer) in made]:
        parent, _, child = name.rpartition(".")
        if name == "":
            model = made[id(layers[name])]
        else:
            setattr(model.get_submodule(parent), child, made[id(layers[name])])
    mix = MixOfRanks(model)
    learned = {id(parameter) for parameter in mix.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in learned)
    return mix


class MixOfRanks:
    """The ranks of a model.

    Of a copy of the model, `MixOfRanks(copy)` are the ranks; a handle that is an attribute of the model is copied with
    it.

    Args:
        model: one that `mix_of_ranks` has put ranks into.

    Attributes:
        model: the same; the layer with ranks where the layer itself was the model.
        layers: those with ranks, by name.
        scores: S, the numbers that describe a picture's degradation; None where nothing depends on it.
        card: of the file that the ranks were loaded from, or None.

    Raises:
        ArgumentError: there are no ranks in it.
    """

    def __init__(self, model: nn.Module) -> None:
        if not is_a(model, nn.Module):
            raise ArgumentError(f"model is a torch module, not {type(model).__name__}")
        self.model = model
        self.layers = ranked_layers(model)
        if not self.layers:
            raise ArgumentError("the model has no ranks; put some in with mix_of_ranks")
        self.scores = next((one.router.condition_size for one in self.layers.values() if one.router is not None), None)
        self.card: Card | None = None
        self._decisions: list[Decision] | None = None

    def parameters(self) -> list[nn.Parameter]:
        """All that is learned: factors and routers."""
        return [*self.factors(), *self.routers()]

    def factors(self) -> list[nn.Parameter]:
        """The ranks themselves, A and B of each layer."""
        return [factor for layer in self.layers.values() for factor in (layer.down, layer.up)]

    def routers(self) -> list[nn.Parameter]:
        """Parameters of the routers, which want a higher rate: two to five times that of the factors."""
        routers = [layer.router for layer in self.layers.values() if layer.router is not None]
        return [parameter for router in routers for parameter in router.parameters()]

    @contextmanager
    def given(
        self,
        scores: Tensor,  # (B or 1, S)
    ) -> Iterator[None]:
        """Within this block the ranks that these scores choose are on, for B pictures or for all.

        The choice is made once, on entry, with the gradient and the noise of that moment: in training, one block is for
        one step. Blocks may lie within each other; each thread has its own.

        Raises:
            ArgumentError: the ranks are merged, or a score is no number from 0 to 1.
            ShapeError: there are not S scores for each picture.
        """
        self._refuse_merged("given")
        self._decisions = decisions = decide(self.layers, self._read(scores))
        told = [
            (self.layers[name].told, gates)
            for decision in decisions
            for name, gates in zip(decision.names, decision.gates.unbind(1), strict=True)
        ]
        for one, gates in told:
            one.push(gates)
        try:
            yield
        finally:
            for one, _ in told:
                one.pop()

    def routings(self) -> dict[str, Routing]:
        """What each layer that has a router decided when scores were last given; weights are the gates.

        Experts from `layer.routed` on are zero experts; their weights count for nothing.

        Raises:
            ArgumentError: no scores were given yet.
        """
        made = {name: routing for decision in self._decided() for name, routing in decision.by_layer().items()}
        return {name: made[name] for name in self.layers if name in made}

    def balance(
        self,
        severity: Tensor,  # (B,), in [0, 1]
        *,
        alpha: float = 1.0,
        kind: str = "degradation",
    ) -> Tensor:  # ()
        """What to add to the loss so that no expert is forgotten: for the scores last given, the mean over the layers.

        As `moesaic.routing.balance.degradation_aware`, with a moving average of each expert's share of the choices, as
        a batch makes few; in training mode each call counts the batch.

        Args:
            severity: how degraded each picture is.
            alpha: the loss's factor.
            kind: "degradation": zero experts are free for a clean picture and count like others for a ruined one;
                "plain": they always count; "none": exactly 0.

        Raises:
            ArgumentError: another kind, or no scores were given yet.
            ShapeError: there is not one severity for each row of scores.
        """
        if kind not in BALANCES:
            raise ArgumentError(f"kind {kind!r} is unknown; choose one of {', '.join(BALANCES)}")
        if severity.device.type == "cpu" and not bool(severity.isfinite().all()):
            raise ArgumentError("a severity is no finite number; look at what estimated it")
        losses = [] if kind == "none" else [self._balance(one, severity, kind) for one in self._decided()]
        return alpha * torch.cat(losses).mean() if losses else severity.new_zeros(())

    def gates(
        self,
        scores: Tensor | None = None,  # (1, S)
    ) -> dict[str, Tensor]:  # (1, R) each
        """The gate of every rank of each layer for one picture: 1 for a shared one, 0 for one that is off.

        Args:
            scores: how degraded the picture is; None where nothing depends on it.

        Raises:
            ArgumentError: there are no scores and something depends on them, or one is no number from 0 to 1.
            ShapeError: they are not for one picture.
        """
        gates = {name: layer.up.new_ones(1, layer.ranks.total) for name, layer in self.layers.items()}
        if self.scores is None:
            return gates
        if scores is None:
            raise ArgumentError(f"which ranks are on depends on {self.scores} scores: pass a tensor (1, {self.scores})")
        told = self._read(scores)
        if len(told) != 1:
            raise ShapeError(
                f"scores are (1, {self.scores}), of the one picture that this is for, not {len(told)} rows"
            )
        with torch.no_grad():
            for decision in decide(self.layers, told, exploring=False):
                gates |= dict(zip(decision.names, decision.gates.unbind(1), strict=True))
        return gates

    @property
    def is_merged(self) -> bool:
        """Whether the layers compute with merged weights."""
        return any(layer.merged is not None for layer in self.layers.values())

    def merge(
        self,
        scores: Tensor | None = None,  # (1, S)
    ) -> None:
        """Fold the ranks that are on for these scores into the weights, so that they cost no time.

        The layers' own weights stay where they are, bit for bit, and are what `state_dict` holds. Until `unmerge` the
        ranks get no gradient, and loading weights is refused.

        Raises:
            ArgumentError: the ranks are merged already, or what `gates` refuses.
            ShapeError: the scores are not for one picture.
            LimitError: there is not enough memory for a second set of weights.
        """
        self._refuse_merged("merge")
        try:
            with within_memory("merged weights; leave the ranks unmerged"):
                for name, gates in self.gates(scores).items():
                    self.layers[name].merge(gates)
        except BaseException:
            self.unmerge()
            raise

    def unmerge(self) -> None:
        """Compute with the layers' own weights and the ranks again."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def merged(
        self,
        scores: Tensor | None = None,  # (1, S)
    ) -> Iterator[None]:
        """Within this block the ranks are merged for these scores; see `merge`."""
        self.merge(scores)
        try:
            yield
        finally:
            self.unmerge()

    def save(self, path: str | os.PathLike[str], **options: Any) -> Card:
        """Write the ranks to a file of their own; see `moesaic.upscale.lora_file.save_ranks`."""
        from moesaic.upscale.lora_file import save_ranks

        return save_ranks(self, path, **options)

    def export_lora(self, scores: Tensor | None, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the ranks that are on for one picture as plain LoRA; see `moesaic.upscale.lora_file.export_lora`."""
        from moesaic.upscale.lora_file import export_lora

        export_lora(self, scores, path, **options)

    def __getstate__(self) -> dict[str, Any]:
        # What was decided holds the graph of its batch; copies and pickles are of the ranks alone.
        return {**self.__dict__, "_decisions": None}

    def _balance(self, decision: Decision, severity: Tensor, kind: str) -> Tensor:  # (L,)
        """N * mean over pictures of SUM_i a_i f_i p_i for each layer, all layers of a plan at once."""
        p = decision.routing.probabilities  # (B, L, N)
        if severity.shape != p.shape[:1]:
            raise ShapeError(
                f"severity has the shape {tuple(severity.shape)}: give one number for each of {len(p)} rows of scores"
            )
        layers = [self.layers[name] for name in decision.names]
        routers = [layer.router for layer in layers if layer.router is not None]
        number = torch.arange(p.shape[-1], device=p.device)
        with torch.no_grad():
            shares = torch.stack([router.shares for router in routers])  # (L, N)
            if layers[0].training:
                chosen = decision.routing.chosen[..., None] == number  # (B, L, K, N)
                shares = shares.lerp(chosen.to(shares.dtype).mean((0, 2)), 1 - _DECAY)
                for router, share in zip(routers, shares, strict=True):
                    router.shares.copy_(share)
        weights = shares.to(p.dtype)
        if kind == "degradation":
            does_nothing = number >= decision.ranks.real
            factor = severity.to(p.device, p.dtype)[:, None]
            weights = weights * torch.where(does_nothing, factor, 1)[:, None]  # (B, L, N)
        return p.shape[-1] * (weights * p).sum(-1).mean(0)

    def _decided(self) -> list[Decision]:
        if self._decisions is None:
            raise ArgumentError("nothing was decided yet: run the model within `with mix.given(scores):` first")
        return self._decisions

    def _read(self, scores: Tensor) -> Tensor:
        """Scores that can be computed with; any where nothing depends on them."""
        if self.scores is None:
            return scores
        if not is_a(scores, torch.Tensor) or scores.ndim != 2 or scores.shape[1] != self.scores:
            got = tuple(scores.shape) if is_a(scores, torch.Tensor) else type(scores).__name__
            raise ShapeError(
                f"scores are a tensor (B, {self.scores}), a row for each picture or one for all, not {got}"
            )
        if not scores.is_floating_point():
            raise ArgumentError(f"scores are floating-point numbers from 0 to 1, not {scores.dtype}")
        # elsewhere looking would wait for the device
        if scores.device.type == "cpu" and not bool(((scores >= -_BEYOND) & (scores <= 1 + _BEYOND)).all()):
            raise ArgumentError("scores are not all finite numbers from 0 to 1; look at what estimated them")
        return scores

    def _refuse_merged(self, what: str) -> None:
        if self.is_merged:
            raise ArgumentError(f"{what}: the ranks are merged for other scores; call unmerge() first")
