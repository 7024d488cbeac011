"""What a mixture of ranks does with pictures: which ranks act, how often nothing does, and whether severity decides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.usage import Usage
from moesaic.upscale.rank_correlation import rank_correlation

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.upscale.adapters import MixOfRanks

FLAT = 0.95  # entropy, over its largest, above which a router hardly prefers any expert


@dataclass(frozen=True, slots=True, kw_only=True)
class RankUse:
    """What one layer did with the pictures that were counted."""

    shared: int  # ranks that are always on
    routed: int  # experts to choose from
    zero: int  # and those that do nothing
    k: int  # how many are chosen
    entropy: float  # of a picture's probabilities, over the largest, the mean: 0 is decided, 1 undecided; NaN for one
    zero_share: float  # of all choices, those that fell on zero experts
    usage: tuple[float, ...]  # of all pictures, the share in which each expert acts
    zero_usage: tuple[float, ...]  # and in which each zero expert was chosen
    sets: int  # different sets of experts that acted
    zero_correlation: float  # Spearman's rho of a picture's zero choices and its severity; below 0 as it should be
    active: float  # ranks that are on in a picture, shared ones included, the mean
    least: int  # and the fewest
    most: int  # and the most

    @property
    def dead(self) -> tuple[int, ...]:
        """The experts that never act."""
        return tuple(place for place, share in enumerate(self.usage) if not share)


class RankAudit:
    """Counts what the layers of a model decide, batch by batch.

    Args:
        mix: the ranks.

    Raises:
        ArgumentError: no layer chooses anything; or, from every figure, no picture has been counted.
    """

    def __init__(self, mix: MixOfRanks) -> None:
        self._mix = mix
        self._names = [name for name, layer in mix.layers.items() if layer.router is not None]
        if not self._names:
            raise ArgumentError("no layer has routed ranks; plain LoRA does the same with every picture")
        self._entropy = {name: Usage() for name in self._names}
        self._chosen: dict[str, list[Tensor]] = {name: [] for name in self._names}
        self._severity: list[Tensor] = []

    def add(
        self,
        severity: Tensor,  # (B,)
    ) -> None:
        """Count the pictures whose scores were given last: `with mix.given(scores):`, then this.

        Args:
            severity: how degraded each of them is.

        Raises:
            ArgumentError: no scores were given.
            ShapeError: there is not one severity for each row of scores.
        """
        routings = self._mix.routings()
        rows = len(routings[self._names[0]].chosen)
        if severity.shape != (rows,):
            raise ShapeError(f"severity has the shape {tuple(severity.shape)}: give one number for each of {rows} rows")
        for name in self._names:
            self._entropy[name].add(routings[name])
            self._chosen[name].append(routings[name].chosen[:, 0].to("cpu", torch.int16))
        self._severity.append(severity.detach().double().cpu())

    @property
    def pictures(self) -> int:
        """How many were counted."""
        return sum(map(len, self._severity))

    @property
    def layers(self) -> dict[str, RankUse]:
        """What each layer that chooses did, by name."""
        severity = self._severities()
        made = {}
        for name in self._names:
            layer, chosen = self._mix.layers[name], torch.cat(self._chosen[name])
            experts = layer.routed + layer.zero
            acts = torch.zeros(len(chosen), experts, dtype=torch.bool).scatter(1, chosen.long(), True)
            zeros = acts[:, layer.routed :].sum(1)
            on = self._on(name)
            shares = acts.double().mean(0).tolist()
            made[name] = RankUse(
                shared=layer.shared,
                routed=layer.routed,
                zero=layer.zero,
                k=chosen.shape[1],
                entropy=self._entropy[name].flatness,
                zero_share=float(zeros.double().mean()) / chosen.shape[1],
                usage=tuple(shares[: layer.routed]),
                zero_usage=tuple(shares[layer.routed :]),
                sets=len(acts[:, : layer.routed].unique(dim=0)),
                zero_correlation=rank_correlation(zeros.numpy(), severity.numpy()),
                active=float(on.double().mean()),
                least=int(on.min()),
                most=int(on.max()),
            )
        return made

    @property
    def active(self) -> Tensor:  # (pictures,) int64
        """How many ranks are on in each picture, in all layers together, shared ones included."""
        self._severities()
        always = sum(layer.shared for layer in self._mix.layers.values() if layer.router is None)
        return always + torch.stack([self._on(name) for name in self._names]).sum(0)

    @property
    def active_correlation(self) -> float:
        """Spearman's rho of the ranks that are on in a picture and its severity; above 0 as it should be."""
        return rank_correlation(self.active.numpy(), self._severities().numpy())

    def warnings(self) -> list[str]:
        """Signs that the ranks are no mixture, a sentence each."""
        found, layers = [], self.layers
        constant = [name for name, use in layers.items() if use.sets == 1]
        if constant and self.pictures > 1:
            found.append(
                f"{len(constant)} of {len(layers)} layers use the same ranks for every picture, such as {constant[0]}."
            )
        dead = {name: len(use.dead) for name, use in layers.items() if use.dead}
        if dead:
            name = max(dead, key=dead.__getitem__)
            found.append(
                f"{sum(dead.values())} ranks never act, in {len(dead)} of {len(layers)} layers; most in {name}, "
                f"{dead[name]} of {layers[name].routed}."
            )
        flat = [name for name, use in layers.items() if use.entropy > FLAT]
        if flat:
            found.append(
                f"{len(flat)} of {len(layers)} layers hardly prefer any rank, such as {flat[0]} with an entropy of "
                f"{layers[flat[0]].entropy:.3f} of 1."
            )
        return found

    def figures(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and words, for JSON."""
        layers = {name: asdict(use) | {"dead": list(use.dead)} for name, use in self.layers.items()}
        for use in layers.values():
            use |= {"usage": list(use["usage"]), "zero_usage": list(use["zero_usage"])}
            use["entropy"] = use["entropy"] if use["routed"] + use["zero"] > 1 else None
        return {
            "pictures": self.pictures,
            "active": float(self.active.double().mean()),
            "active_correlation": self.active_correlation,
            "warnings": self.warnings(),
            "layers": layers,
        }

    def _on(self, name: str) -> Tensor:  # (pictures,) int64
        """The ranks of a layer that are on in each picture."""
        layer = self._mix.layers[name]
        acting = (torch.cat(self._chosen[name]) < layer.routed).sum(1)
        return layer.shared + layer.ranks.expert_rank * acting

    def _severities(self) -> Tensor:
        if not self._severity:
            raise ArgumentError("no picture was counted; give scores, and then call add")
        return torch.cat(self._severity)
