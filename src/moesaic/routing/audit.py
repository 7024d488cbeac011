"""audit(): does routing help in this model, on these pictures, and by how much against each control?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from moesaic.errors import ArgumentError
from moesaic.routing.collect import collect, recording, routed_layers
from moesaic.routing.controls import control
from moesaic.routing.resampling import PictureScores, interval, resampled
from moesaic.routing.usage import Usage
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

STANDARD = ("shuffled", "uniform", "random", "position", "forced")  # forced: each expert alone in turn
MOST_RESAMPLES = 10**6  # an interval gains nothing beyond, and memory would run out
FEW = 10  # blocks of pictures; fewer say too little for any verdict
ROUNDING = 1e-6  # of a score: float32 sums in another order differ by less
COLLAPSED = 0.5  # routing entropy below it: most choices fall on few experts
FLAT = 0.95  # place entropy, over log E, above it: the gate hardly prefers any expert

Outcome = Literal["helps", "undecided", "does not help"]


class Seen(Protocol):
    """Told after each batch's forward pass, so that its routings are counted."""

    def __call__(self, labels: Tensor | None = None) -> None:
        """Count what the routed layers just decided; `labels` (B, H, W) for the table of experts and classes."""


Evaluate = Callable[["nn.Module", Seen], PictureScores]
"""Runs a model over the pictures, always the same in the same order, calls `seen` after each batch, returns scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The routed model against one control, or against another model. Scores are as shown, in units.

    Args:
        name: of the control, or of the other model.
        trained: whether it is a model trained apart rather than a control of this one.
        score: what it scores.
        gain: score of the routed model minus `score`.
        low: lower end of the gain's 95 % interval; NaN where pictures are too few.
        high: its upper end.
    """

    name: str
    trained: bool
    score: float
    gain: float
    low: float
    high: float

    @property
    def outcome(self) -> Outcome:
        """What the interval says: "undecided" where it includes 0, up to rounding, or is unknown."""
        nothing = ROUNDING * max(abs(self.score), abs(self.score + self.gain))
        if self.low > nothing:
            return "helps"
        return "does not help" if self.high < -nothing else "undecided"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """What an audit found.

    Args:
        name: of the score, such as "mIoU".
        unit: of scores and gains.
        score: of the model as it is.
        low: lower end of its 95 % interval.
        high: its upper end.
        comparisons: controls in the order asked for, then other models.
        usage: of each routed layer by name.
        pictures: how many were scored.
        block: how many pictures in a row were drawn together.
        resamples: draws behind each interval.
        seed: of draws and controls.
    """

    name: str
    unit: str
    score: float
    low: float
    high: float
    comparisons: tuple[Comparison, ...]
    usage: Mapping[str, Usage]
    pictures: int
    block: int
    resamples: int
    seed: int

    @property
    def outcome(self) -> Outcome:
        """Of all comparisons together: "helps" only if each is won, "does not help" if one is lost.

        Each comparison has its own interval of 95 %. "helps" needs all of them at once, so it needs no correction for
        their number.
        """
        found = [comparison.outcome for comparison in self.comparisons]
        if "does not help" in found:
            return "does not help"
        return "undecided" if "undecided" in found or not found else "helps"

    def verdict(self) -> str:
        """The findings in words: the outcome first, then what qualifies it, then warnings."""
        told = [self._headline()]
        if not any(c.trained for c in self.comparisons):
            told.append(
                "Controls tell whether this trained network relies on its gate, not whether one trained without it"
                " would do as well: hold it against such networks, trained alike."
            )
        return " ".join([*told, *self.warnings()])

    def _headline(self) -> str:
        if not self.comparisons:
            return "Undecided: there is nothing to compare with."
        if math.ceil(self.pictures / self.block) < FEW:
            blocks = f" in blocks of {self.block}" if self.block > 1 else ""
            return f"Undecided: {self.pictures} pictures{blocks} are too few to tell; the gains have no intervals."
        closest = min(self.comparisons, key=lambda c: c.gain)
        found: dict[Outcome, list[Comparison]] = {"helps": [], "undecided": [], "does not help": []}
        for comparison in self.comparisons:
            found[comparison.outcome].append(comparison)
        if self.outcome == "helps":
            return f"Routing helps here: whatever it is held against scores less; closest is {self._told(closest)}."
        if lost := found["does not help"]:
            verb = "scores" if len(lost) == 1 else "score"
            return f"Routing does not help here: {_listed([self._told(c) for c in lost])} {verb} more."
        ahead = f"it is ahead of {_listed([c.name for c in found['helps']])}, but " if found["helps"] else ""
        open_ = _listed([self._told(c) for c in found["undecided"]])
        return f"Undecided whether routing helps here: {ahead}the gain may be 0 against {open_}."

    def _told(self, c: Comparison) -> str:
        between = "" if math.isnan(c.low) else f" [{c.low:+.2f}, {c.high:+.2f}]"
        name = f"{c.name}, trained apart" if c.trained else c.name
        return f"{name} ({f'{c.gain:+.2f}{between} {self.unit}'.strip()})"

    def warnings(self) -> list[str]:
        """Signs of an unhealthy gate, a sentence each: collapse, dead or idle experts, flatness, dropped choices."""
        found = []
        for layer, usage in self.usage.items():
            E = usage.experts
            if usage.k > E - 0.5:
                found.append(f"{layer}: all {E} experts act everywhere, so shares of use say nothing.")
            elif usage.routing_entropy < COLLAPSED:
                top = float(usage.patch_share.max())
                found.append(
                    f"{layer}: the gate has collapsed: one expert acts in {top:.0%} of the places, routing entropy is"
                    f" {usage.routing_entropy:.2f} of 1."
                )
            if usage.dead:
                found.append(f"{layer}: {len(usage.dead)} of {E} experts never act: {_listed(list(usage.dead))}.")
            if usage.idle:
                found.append(
                    f"{layer}: {len(usage.idle)} of {E} experts are chosen but get less than a tenth of an even share"
                    f" of the weight: {_listed(list(usage.idle))}."
                )
            if usage.flatness > FLAT:
                found.append(
                    f"{layer}: routing is flat: the entropy at a place is {usage.flatness:.3f} of its largest, so"
                    " even use of experts does not mean that the gate decides."
                )
            if usage.dropped > 0.01:
                found.append(f"{layer}: {usage.dropped:.0%} of the choices were dropped as experts were full.")
        return found

    def figures(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and words, for JSON."""
        return {
            "score": {"name": self.name, "unit": self.unit, "value": self.score, **_ends(self.low, self.high)},
            "outcome": self.outcome,
            "verdict": self.verdict(),
            "comparisons": [{**asdict(c), **_ends(c.low, c.high), "outcome": c.outcome} for c in self.comparisons],
            "usage": {layer: usage.figures() for layer, usage in self.usage.items()},
            "pictures": self.pictures,
            "block": self.block,
            "resamples": self.resamples,
            "seed": self.seed,
        }


def audit(
    model: nn.Module,
    evaluate: Evaluate,
    *,
    controls: Sequence[str] = STANDARD,
    against: Mapping[str, nn.Module] | None = None,
    classes: int = 0,
    ignore: int = 255,
    resamples: int = 2000,
    block: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Audit:
    """Score a model as it is and under each control on the same pictures, and compare the scores picture by picture.

    The means that "position" needs are taken from the model's own routings of these pictures, which favours that
    control a little.

    Args:
        model: with at least one routed layer; evaluated in evaluation mode, without gradients.
        evaluate: scores a model on the pictures.
        controls: names as `moesaic.routing.controls.control` takes them; "forced" stands for each expert in turn.
        against: other models by name, such as a dense one trained alike, scored on the same pictures.
        classes: of the labels that `evaluate` hands to `seen`, for the table of experts and classes; 0 for none.
        ignore: the label that belongs to no class.
        resamples: draws of pictures behind each interval.
        block: how many pictures in a row are drawn together; for frames of a video, about as many as look alike.
        seed: of the draws and of the controls.
        progress: told what is scored next, how many of these are done, and of how many.

    Raises:
        ArgumentError: the model has no routed layer, a control is unknown, `resamples` is not 1 to 1,000,000, `block`
            is below 1, the seed is none, or `evaluate` never called `seen`.
        ShapeError: `evaluate` scored different numbers of pictures for different models.
    """
    if not (is_whole(resamples, 1) and is_whole(block, 1)):
        raise ArgumentError(f"resamples and block must be 1 or more, not {resamples} and {block}")
    if resamples > MOST_RESAMPLES:
        raise ArgumentError(f"resamples must be {MOST_RESAMPLES} or fewer, not {resamples}")
    layers = routed_layers(model)
    if not layers:
        raise ArgumentError("model has no routed layer to audit: make one with moesaic.routing.sparsify")
    fewest = min(layer.gate.experts for layer in layers.values())
    names = _spelled_out(controls, fewest)
    for name in names:  # a wrong name is told before an hour of work, not after
        with control(model, "none" if name == "position" else name):
            pass
    others = dict(against or {})
    steps = ["as it is", *names, *others]
    usage = {name: Usage(classes, ignore=ignore) for name in layers}

    def seen(labels: Tensor | None = None) -> None:
        for name, routing in collect(model).items():
            usage[name].add(routing, labels)

    def scored(step: int, network: nn.Module, told: Seen) -> PictureScores:
        if progress is not None:
            progress(steps[step], step, len(steps))
        return _evaluated(network, evaluate, told)

    with recording(model), control(model, "none"):
        arms = [scored(0, model, seen)]
    if any(one.pictures == 0 for one in usage.values()):
        raise ArgumentError("evaluate never called seen(): call it after each batch, so that its routings are counted")
    positions = {name: one.position_probabilities for name, one in usage.items()}
    for name in names:
        with control(model, name, seed=seed, positions=positions):
            arms.append(scored(len(arms), model, _unseen))
    for network in others.values():
        arms.append(scored(len(arms), network, _unseen))

    first = arms[0]
    if math.ceil(first.pictures / block) < FEW:
        samples = torch.full((len(arms), 1), math.nan, dtype=torch.float64)
    else:
        samples = resampled(arms, resamples=resamples, seed=seed, block=block) * first.scale
    scores = [arm.total() * first.scale for arm in arms]
    comparisons = []
    for i, name in enumerate(steps[1:], start=1):
        low, high = interval(samples[0] - samples[i])
        comparisons.append(
            Comparison(
                name=name,
                trained=i > len(names),
                score=scores[i],
                gain=scores[0] - scores[i],
                low=low,
                high=high,
            )
        )
    low, high = interval(samples[0])
    return Audit(
        name=first.name,
        unit=first.unit,
        score=scores[0],
        low=low,
        high=high,
        comparisons=tuple(comparisons),
        usage=usage,
        pictures=first.pictures,
        block=block,
        resamples=resamples,
        seed=seed,
    )


def _spelled_out(controls: Sequence[str], experts: int) -> list[str]:
    names: list[str] = []
    for name in controls:
        names += [f"forced:{j}" for j in range(experts)] if name == "forced" else [name]
    return list(dict.fromkeys(names))


def _evaluated(model: nn.Module, evaluate: Evaluate, seen: Seen) -> PictureScores:
    """Scores in evaluation mode; every module's own mode is put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return evaluate(model, seen)
    finally:
        for module, training in modes:
            module.training = training


def _unseen(labels: Tensor | None = None) -> None:  # noqa: ARG001 - a control's routings are no news
    return None


def _listed(items: Sequence[object]) -> str:
    words = [str(item) for item in items]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _ends(low: float, high: float) -> dict[str, float | None]:
    """An interval for JSON, which has no word for NaN."""
    return {"low": None if math.isnan(low) else low, "high": None if math.isnan(high) else high}
