"""How the gates of the small network learn: from what each expert was seen to gain, on pictures nobody trains on yet.

With the rest of the network finished, every expert of a level is tried on the same picture, everything else equal. Its
gain is 10 log10(error without it / error with it), in dB, and a gate learns to foretell these numbers from the reading
of the picture. No estimate of a gradient through a choice is involved, and the price of compute is not part of what is
learned: it is set afterwards, and can be set anew by whoever uses the network.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from moesaic.restore.loss import FLOOR
from moesaic.training.device import precision_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from moesaic.restore.gain_gate import GainGate
    from moesaic.restore.network import Encoded, MoceLite

_HELD = 5  # every so many-th picture is kept back to tell when to stop
_PRICES = tuple(round(0.01 * 1.15**i, 4) for i in range(50))  # dB, from 0.01 to about 9
_KNEE = (
    1.0  # dB, where the loss on a gain turns from squares to a line; far lower it fits medians, and rare pictures lose
)
_LONGEST = 3.0  # dB; gains beyond it count as this, so that rare pictures do not rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What each expert gained on each picture.

    Args:
        readings: (N, D), of the pictures.
        gains: (levels, N, E), dB against expert 0 of the level.
        errors: (N,), mean squared error with the dearest expert everywhere.
    """

    readings: Tensor
    gains: Tensor
    errors: Tensor


@torch.no_grad()
def try_experts(
    network: MoceLite,
    batches: Iterable[tuple[Tensor, Tensor]],  # degraded and clean pictures, each (B, 3, H, W)
    *,
    generator: torch.Generator,
    precision: str = "float32",
) -> Trials:
    """Try every expert of every level on every picture; the other levels have the dearest, or (every second) any.

    Args:
        network: in evaluation mode.
        batches: pictures and what they should become.
        generator: of the other levels' experts, on the CPU.
        precision: of the passes, as in `moesaic.training.device.precision_on`; errors are told in float32.
    """
    readings, gains, errors = [], [], []
    counts = [layer.gate.experts for layer in network.routed()]
    for degraded, clean in batches:
        size = degraded.shape[0]
        dearest = [torch.full((size,), count - 1) for count in counts]
        with precision_on(degraded.device, precision):
            held = network.encoded(degraded)
        readings.append(held.reading.float().cpu())
        errors.append(_error(network, held, dearest, precision, clean))
        levels = []
        for level, count in enumerate(counts):
            others = [torch.randint(n, (size,), generator=generator) for n in counts]
            others = [
                torch.where(torch.arange(size) % 2 == 0, most, any_) for most, any_ in zip(dearest, others, strict=True)
            ]
            tried = []
            for expert in range(count):
                path = [torch.full((size,), expert) if i == level else one for i, one in enumerate(others)]
                tried.append(_error(network, held, path, precision, clean))
            decibels = -10 * (torch.stack(tried, 1) + FLOOR).log10()
            levels.append(decibels - decibels[:, :1])
        gains.append(torch.stack(levels))
    return Trials(readings=torch.cat(readings), gains=torch.cat(gains, 1), errors=torch.cat(errors))


def fit_gates(network: MoceLite, trials: Trials, *, seed: int, steps: int = 1500) -> dict[str, float]:
    """Teach each gate to foretell the gains of its experts; the network's other weights stay as they are.

    Of a single picture nothing can be kept back: it is learned from, and judged on, alike.

    Returns:
        For each level the share of the variance of the gains that is foretold on pictures that were kept back; 0 where
        these gain alike.
    """
    told: dict[str, float] = {}
    count = trials.readings.shape[0]
    kept = _kept_back(count)
    learn = torch.nonzero(~kept)[:, 0] if count > 1 else torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    readings = trials.readings.to(device)
    for level, gate in enumerate(network.gates()):
        gains = trials.gains[level].clamp(-_LONGEST, _LONGEST).to(device)
        with torch.no_grad():  # to begin with, the same for all pictures; only what is better replaces it
            gate.last.weight.zero_()
            gate.last.bias.copy_(gains[learn].mean(0))
        optimiser = torch.optim.AdamW(gate.parameters(), lr=3e-3, weight_decay=1e-2)
        best, best_state = _missed(gate, readings[kept], gains[kept]), copy.deepcopy(gate.state_dict())
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 3e-3 * (1 - step / steps)
            some = learn[torch.randint(len(learn), (256,), generator=generator)].to(device)
            loss = F.smooth_l1_loss(gate.gains(readings[some]), gains[some], beta=_KNEE)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 50 == 49:
                missed = _missed(gate, readings[kept], gains[kept])
                if missed < best:
                    best, best_state = missed, copy.deepcopy(gate.state_dict())
        gate.load_state_dict(best_state)
        with torch.no_grad():
            foretold = gate.gains(readings[kept])
        spread = float((gains[kept] - gains[kept].mean(0)).square().sum())
        missed = float((foretold - gains[kept]).square().sum())
        told[f"level_{level}"] = 1 - missed / spread if spread > 1e-12 else 0.0
    return told


def _kept_back(count: int) -> Tensor:  # (count,) bool
    """Which of the trials tell when to stop, and what a price loses."""
    return torch.arange(count) % _HELD == 0


@torch.no_grad()
def _missed(gate: GainGate, readings: Tensor, gains: Tensor) -> float:
    return float(F.smooth_l1_loss(gate.gains(readings), gains, beta=_KNEE))


@torch.no_grad()
def highest_price(network: MoceLite, trials: Trials, tolerance: float) -> float:
    """The highest price at which the chosen experts lose no more than `tolerance` dB on average against the dearest.

    Told from the trials that were kept back, as the sum over the levels of what each choice loses there.

    Args:
        network: with gates that were taught.
        trials: the same that they were taught from.
        tolerance: dB, at least 0.

    Returns:
        dB for the compute of a whole decoder; 0 where even that loses more.
    """
    kept = _kept_back(trials.readings.shape[0])
    best = 0.0
    for price in _PRICES:
        lost = torch.zeros(int(kept.sum()))
        for gate, gains in zip(network.gates(), trials.gains, strict=True):
            foretold = gate.gains(trials.readings[kept].to(gate.costs.device)).cpu()
            chosen = (foretold - price * gate.costs.cpu()).argmax(-1, keepdim=True)
            lost += gains[kept][:, -1] - gains[kept].gather(1, chosen)[:, 0]
        if float(lost.mean()) > tolerance:
            break
        best = price
    return best


def _error(
    network: MoceLite,
    held: Encoded,
    experts: Sequence[Tensor],  # of each level (B,)
    precision: str,  # of the pass
    clean: Tensor,  # (B, 3, H, W)
) -> Tensor:  # (B,), float32 on the CPU
    with precision_on(clean.device, precision):
        restored = network.decoded(held, experts)
    return (restored.float().clamp(0, 1) - clean).square().mean((1, 2, 3)).cpu()
