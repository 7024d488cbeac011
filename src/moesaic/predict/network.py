"""The network that says how far each kernel goes, in stages that share its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.predict.kernels import CHANNELS, SIX
from moesaic.predict.telling import SEEN
from moesaic.values import is_whole

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.predict.views import View

MOST_STAGES = 64
_WIDEST, _DEEPEST = 1024, 8
_FARTHEST = 0.6  # of the six numbers of a geometry, in one stage
_NEAR = 2.0  # beyond which a step of Newton's method is cut off
_SAID = 4 * SIX + 3 * CHANNELS


class MixturePredictor(nn.Module):
    """What is known of each kernel to how it changes.

    A kernel is told which way the error falls and how it bends, what a window around it shows of the picture and of
    what is missing, and how it changed before. A small network says for each of its numbers how far to go along two
    steps of Newton's method and along the last change, and what to add. Kernels answer to each other through the
    picture alone, so there can be any number of them, and a crop is treated as it would be in its picture. A fresh
    network goes a fixed part of each step.

    Of AIR (arXiv 2605.20820) are the stages that see what is missing; steps of Newton's method by kernel, the windows
    and the shared weights are moesaic's. That a network learns how to descend is from Andrychowicz et al. 2016,
    arXiv 1606.04474.

    Args:
        hidden: numbers of each hidden layer.
        depth: hidden layers.
        stages: how many the network tells apart; later ones are taken for the last.

    Raises:
        ArgumentError: a count is no whole number in its range.
    """

    def __init__(self, hidden: int = 96, depth: int = 2, stages: int = 8) -> None:
        super().__init__()
        for name, value, most in (
            ("hidden", hidden, _WIDEST),
            ("depth", depth, _DEEPEST),
            ("stages", stages, MOST_STAGES),
        ):
            if not is_whole(value, 1) or value > most:
                raise ArgumentError(f"{name} is a whole number from 1 to {most}, not {value!r}")
        self.stages = stages
        self.first = nn.Linear(SEEN, hidden)
        self.code = nn.Embedding(stages, hidden)
        self.middle = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 1))
        self.last = nn.Linear(hidden, _SAID)
        with torch.no_grad():
            self.code.weight.mul_(0.1)
            self.last.weight.mul_(0.05)
            self.last.bias.zero_()

    def forward(
        self,
        view: View,
        before: Tensor,  # (N, CHANGE), the last change
        stage: int,
    ) -> Tensor:  # (N, CHANGE)
        """How each kernel changes in a stage, counted from 0."""
        x = F.gelu(self.first(view.seen) + self.code.weight[min(stage, self.stages - 1)])
        for layer in self.middle:
            x = F.gelu(layer(x))
        said = self.last(x).float()
        bold, shy, again, more, colour, colour_again, colour_more = said.split([SIX] * 4 + [CHANNELS] * 3, dim=1)
        change = (
            (0.15 + 0.3 * torch.tanh(bold)) * view.bold.clamp(-_NEAR, _NEAR)
            + (0.15 + 0.3 * torch.tanh(shy)) * view.shy.clamp(-_NEAR, _NEAR)
            + (0.5 + 0.5 * torch.tanh(again)) * before[:, :SIX]
            + 0.3 * more
        )
        hue = (
            (0.4 + 0.5 * torch.tanh(colour)) * view.colour
            + (0.4 + 0.5 * torch.tanh(colour_again)) * before[:, SIX:]
            + 0.05 * colour_more
        )
        return torch.cat([_FARTHEST * torch.tanh(change / _FARTHEST), hue], dim=1)
