"""How the gates of a model fare while it is trained: a few figures for each epoch, and a warning where one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from moesaic.routing.audit import FLAT
from moesaic.routing.collect import routed_layers
from moesaic.routing.record import Routing
from moesaic.routing.usage import Usage

if TYPE_CHECKING:
    from torch import nn

_AT_ONCE = 64  # steps that are counted together: on a GPU each count waits for the device


class Health:
    """Counts what routed layers decide in training, in the same terms as an audit; see `Usage`.

    A step only puts the record of its decision aside. It draws nothing and changes nothing, so that a run with it and
    one without it give the same weights.

    Args:
        model: with any number of routed layers; none is fine.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = routed_layers(model)
        self._aside: dict[str, list[Routing]] = {name: [] for name in self._layers}
        self._usage = {name: Usage() for name in self._layers}
        self.last: dict[str, dict[str, Any]] = {}
        """The figures of the last epoch by layer; empty before its end, and for a dense model."""

    def add(self) -> None:
        """Put aside what the layers decided in the forward pass before."""
        for name, layer in self._layers.items():
            if layer.routing is not None:
                self._aside[name].append(_detached(layer.routing))
                if len(self._aside[name]) >= _AT_ONCE:
                    self._count(name)

    def end_epoch(self) -> dict[str, dict[str, Any]]:
        """The figures since the last call, by layer, as plain numbers; the next epoch counts from zero.

        routing_entropy: of the assignment shares over log E; 1 is even use. top_assignment_share and top_patch_share:
        of the expert that acts most, with even shares of 1/E and k/E. flatness: the mean entropy of a place's
        probabilities over log E; at 1 the gate prefers no expert. dead: the experts that never acted.
        """
        self.last = {}
        for name in self._layers:
            self._count(name)
            usage, self._usage[name] = self._usage[name], Usage()
            if usage.pictures:
                self.last[name] = {
                    "experts": usage.experts,
                    "routing_entropy": round(usage.routing_entropy, 6),
                    "top_assignment_share": round(float(usage.assignment_share.max()), 6),
                    "top_patch_share": round(float(usage.patch_share.max()), 6),
                    "flatness": round(usage.flatness, 6),
                    "dead": list(usage.dead),
                }
        return self.last

    def warnings(self, *, ended: bool) -> list[str]:
        """What was wrong in the last epoch, a few words for each layer.

        Args:
            ended: whether training is over: a gate may begin flat, but should not end so. Gates that learn nothing, the
                controls, are never called flat.
        """
        told = []
        for name, figures in self.last.items():
            if dead := figures["dead"]:
                told.append(f"{name}: {len(dead)} of {figures['experts']} experts dead")
            learns = any(parameter.requires_grad for parameter in self._layers[name].gate.parameters())
            if ended and learns and figures["flatness"] > FLAT:
                told.append(f"{name}: routing flat, {figures['flatness']:.3f} of 1")
        return told

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of an epoch that has not ended, and of the last one."""
        for name in self._layers:
            self._count(name)
        return {"last": self.last, "usage": {name: usage.state_dict() for name, usage in self._usage.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.last = dict(state["last"])
        for name, counted in state["usage"].items():
            self._aside[name] = []
            self._usage[name].load_state_dict(counted)

    def _count(self, name: str) -> None:
        aside = self._aside[name]
        if not aside:
            return
        whole = Routing(
            weights=torch.cat([routing.weights for routing in aside]),
            chosen=torch.cat([routing.chosen for routing in aside]),
            probabilities=torch.cat([routing.probabilities for routing in aside]),
            logits=aside[0].logits,  # nothing is counted of them
            grid=aside[0].grid,
        )
        aside.clear()
        self._usage[name].add(whole)


def _detached(routing: Routing) -> Routing:
    """The record without the graph of its batch."""
    return Routing(
        weights=routing.weights.detach(),
        chosen=routing.chosen,
        probabilities=routing.probabilities.detach(),
        logits=routing.logits.detach(),
        grid=routing.grid,
    )
