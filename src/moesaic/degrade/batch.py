"""Degraded pictures for training: each picture of a batch gets its own kind, on the device where the batch is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from moesaic.degrade.batched.stages import STAGES, Part
from moesaic.degrade.batched.wild import apply_steps
from moesaic.degrade.mix import check_mix, draw_sorts
from moesaic.degrade.ranges import COMPOSITE_SEVERITY, FACTORS, KINDS, LABEL_OF, LABELS, ORDER, WILD_LABELS, severity_of
from moesaic.degrade.wild import draw_steps
from moesaic.errors import ArgumentError, ShapeError
from moesaic.values import is_a

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEFAULT_MIX", "LABELS", "Batch", "degrade_batch"]

DEFAULT_MIX: Mapping[str, float] = MappingProxyType(
    {
        "noise": 0.22,
        "poisson": 0.03,
        "grain": 0.12,
        "rain": 0.06,
        "heavy_rain": 0.04,
        "haze": 0.09,
        "snow": 0.04,
        "motion_blur": 0.07,
        "defocus": 0.04,
        "low_light": 0.08,
        "jpeg": 0.08,
        "resize": 0.03,
        "composite": 0.10,
        "wild": 0.0,
        "clean": 0.06,
    }
)
"""How often each kind is drawn, in shares of any sum. "clean" leaves a picture as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Degraded pictures and what is true of them."""

    pictures: Tensor  # (B, 3, H, W) float32 in [0, 1]; beyond it only where Gaussian noise is not clipped
    present: Tensor  # (B, len(LABELS)) float32, 0 or 1
    severity: Tensor  # (B, len(LABELS)) float32 in [0, 1], 0 where absent; the mildest of a kind is 0, too
    sort: Tensor  # (B,) int64 on the CPU, the kind of each picture as its place among the names of the mix


def degrade_batch(clean: Tensor, generator: torch.Generator, mix: Mapping[str, float] = DEFAULT_MIX) -> Batch:
    """Degrade each picture of a batch by a kind drawn from the mix; nothing waits for the device.

    Args:
        clean: (B, 3, H, W) float32 in [0, 1], on any device; left as it is.
        generator: on the CPU. Kinds and severities are drawn from it, and the seed of a generator on the device, from
            which come all else: the same kinds on every device, the same pictures on devices of one type.
        mix: shares of the kinds of `moesaic.degrade.KINDS` and of "clean".

    Raises:
        ShapeError: `clean` has another shape.
        ArgumentError: `clean` is no tensor in float32, or (looked at on the CPU alone) holds what is no number; or the
            mix is none, see `moesaic.degrade.mix.check_mix`.
    """
    _check(clean)
    check_mix(mix, (*KINDS, "clean"))
    plan = _plan(len(clean), generator, list(mix), list(mix.values()))
    fields = torch.Generator(clean.device).manual_seed(plan.seed)
    pictures = clean.clone()
    for column, kind in enumerate(ORDER):
        rows = [row for row, kinds in enumerate(plan.kinds) if kind in kinds]
        if not rows:
            continue
        where = torch.tensor(rows, device=clean.device)
        strength = [plan.kinds[row][kind] for row in rows]
        part = Part(
            x=pictures[where],
            severity=torch.tensor(strength, device=clean.device),
            choice=[plan.choice[row][column] for row in rows],
            strength=strength,
            alone=[len(plan.kinds[row]) == 1 for row in rows],
            fields=fields,
        )
        pictures.index_copy_(0, where, STAGES[kind](part))
    height, width = clean.shape[2:]
    for row, wildness in plan.wild.items():  # one by one, as their sizes on the way differ
        steps = draw_steps(np.random.default_rng([plan.seed, row]), height, width, wildness, 1)
        pictures[row] = apply_steps(clean[row : row + 1], steps, fields)[0]
    present, severity = _labels(plan)
    return Batch(
        pictures=pictures,
        present=present.to(clean.device),
        severity=severity.to(clean.device),
        sort=torch.tensor(plan.sort),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What falls on which picture."""

    sort: list[int]  # B
    kinds: list[dict[str, float]]  # B, severity of each kind that acts
    choice: list[list[float]]  # B x len(ORDER), uniform
    wild: dict[int, float]  # rows that go through the second-order chain, and its severity
    seed: int


def _check(clean: Tensor) -> None:
    if not is_a(clean, torch.Tensor):
        raise ArgumentError(f"clean pictures are a tensor (B, 3, H, W), not {type(clean).__name__}")
    if clean.ndim != 4 or clean.shape[1] != 3 or not clean.numel():
        raise ShapeError(f"clean pictures have the shape (B, 3, H, W), not {tuple(clean.shape)}")
    if clean.dtype != torch.float32:
        raise ArgumentError(f"clean pictures are float32 in [0, 1], not {clean.dtype}")
    if clean.device.type == "cpu" and not bool(clean.isfinite().all()):  # elsewhere that would wait for the device
        raise ArgumentError("clean pictures hold what is no finite number")


def _plan(count: int, generator: torch.Generator, names: list[str], shares: list[float]) -> _Plan:
    sort = draw_sorts(shares, count, generator).tolist()
    severities = torch.rand((count, len(ORDER)), generator=generator).tolist()
    choice = torch.rand((count, len(ORDER)), generator=generator).tolist()
    picks = torch.rand((count, 2 + 2 * len(FACTORS)), generator=generator).tolist()
    kinds: list[dict[str, float]] = []
    wild: dict[int, float] = {}
    for row, place in enumerate(sort):
        name = names[place]
        if name == "wild":
            wild[row] = picks[row][0]
            kinds.append({})
        elif name == "clean":
            kinds.append({})
        elif name == "composite":
            low, high = COMPOSITE_SEVERITY
            parts = _parts(picks[row])
            kinds.append({kind: low + (high - low) * severities[row][ORDER.index(kind)] for kind in parts})
        else:
            kinds.append({name: severities[row][ORDER.index(name)]})
    seed = int(torch.randint(2**62, (), generator=generator))
    return _Plan(sort=sort, kinds=kinds, choice=choice, wild=wild, seed=seed)


def _parts(uniform: list[float]) -> list[str]:
    """The kinds of a composite from uniform numbers: two or three factors, one kind of each."""
    count = 2 + (uniform[0] < 0.5)
    ranks, within = uniform[2 : 2 + len(FACTORS)], uniform[2 + len(FACTORS) :]
    chosen = sorted(range(len(FACTORS)), key=ranks.__getitem__)[:count]
    return [FACTORS[factor][int(within[factor] * len(FACTORS[factor]))] for factor in chosen]


def _labels(plan: _Plan) -> tuple[Tensor, Tensor]:
    present, severity = torch.zeros(2, len(plan.kinds), len(LABELS)).unbind()
    for row, strength in plan.wild.items():
        for label in WILD_LABELS:
            present[row, LABELS.index(label)] = 1.0
            severity[row, LABELS.index(label)] = strength
    for row, acting in enumerate(plan.kinds):
        for kind, strength in acting.items():
            column = LABELS.index(LABEL_OF[kind])
            present[row, column] = 1.0
            severity[row, column] = severity_of(kind, strength)
    return present, severity
