"""Moves of kernels within a fit, on the device: the rules of `growth`, in arrays whose sizes never change.

Arrays hold P pictures of n places each. A place whose kernel was taken away keeps a log prior that no list ever sees;
it costs nothing from then on. What moves is decided by sorting and masks, so the host never has to know how many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from moesaic.mixture.backends.survey import RIDGE
from moesaic.mixture.growth import APART, LEAP

GONE = -1e30  # the log prior of a place without a kernel


@dataclass(frozen=True, slots=True)
class State:
    """Kernels of P pictures with n places each, N = P n, and their means of Adam; changed in place."""

    centres: Tensor  # (N, 2) float64, px
    geometry: Tensor  # (N, 4) float32
    experts: Tensor  # (N, K) float32
    first: Tensor  # (N, 6 + K) float32
    second: Tensor  # (N, 6 + K) float32
    pictures: int
    channels: int

    @property
    def alive(self) -> Tensor:  # (P, n) bool
        """Which places hold a kernel."""
        return self.geometry[:, 3].view(self.pictures, -1) > 0.5 * GONE


@dataclass(frozen=True, slots=True)
class Worth:
    """What each kernel is worth; see `growth.Survey`."""

    cost: Tensor  # (P, n) float64
    gain: Tensor  # (P, n)
    axis: Tensor  # (N, 2)
    difference: Tensor  # (N, C)


def weigh(
    sums: Tensor,  # (N, 4 + 2 C), from `gpu_survey.survey`
    pictures: int,
) -> Worth:
    """As `survey.weigh`, for all kernels at once."""
    m = sums.double()
    channels = (m.shape[1] - 4) // 2
    along, across = m[:, 4 : 4 + channels], m[:, 4 + channels :]
    a00, a01, a11 = m[:, 1] + RIDGE, m[:, 2], m[:, 3] + RIDGE
    b00, b01, b11 = (along * along).sum(1), (along * across).sum(1), (across * across).sum(1)
    l00 = a00.sqrt()
    l10 = a01 / l00
    l11 = (a11 - l10 * l10).clamp(min=1e-9).sqrt()
    c00 = b00 / (l00 * l00)
    c01 = (b01 / l00 - l10 * c00) / l11
    c11 = (b11 - 2.0 * l10 * (c01 * l11 + l10 * c00) + l10 * l10 * c00) / (l11 * l11)
    angle = 0.5 * torch.atan2(2.0 * c01, c00 - c11)
    e0, e1 = angle.cos(), angle.sin()
    gain = e0 * e0 * c00 + 2.0 * e0 * e1 * c01 + e1 * e1 * c11
    d1 = e1 / l11
    d0 = (e0 - l10 * d1) / l00
    length = (d0 * d0 + d1 * d1).sqrt()
    axis = torch.stack([d0 / length, d1 / length], dim=1)
    difference = (d0[:, None] * along + d1[:, None] * across) * length[:, None]
    return Worth(m[:, 0].view(pictures, -1), gain.view(pictures, -1), axis, difference)


def move(
    state: State,
    found: Worth,
    fewer: Tensor,  # (P,) int64, kernels to take away from each picture
    share: float,  # of the kernels, that may be moved
    ratio: float,  # of gain to cost, below which a move is not worth it
) -> None:
    """One round: take away the kernels that cost least, and move others to where a split gains most."""
    alive = state.alive
    n = alive.shape[1]
    places = torch.arange(n, device=alive.device)
    cost = found.cost.masked_fill(~alive, torch.inf)
    rank = torch.empty_like(cost, dtype=torch.int64)
    rank.scatter_(1, cost.argsort(dim=1, stable=True), places.expand_as(rank))
    gone = rank < fewer[:, None]
    kept = alive & ~gone
    log_priors = state.geometry[:, 3].view_as(alive)
    log_priors.masked_fill_(gone, GONE)
    most = int(share * n)
    if most == 0:
        return
    count = torch.minimum((share * alive.sum(1).double()).long(), kept.sum(1) // 2)
    chosen = places[:most] < count[:, None]  # (P, M)
    removed = cost.masked_fill(~kept, torch.inf).argsort(dim=1, stable=True)[:, :most]
    gain = torch.cat([found.gain.masked_fill(~kept, -1.0), found.gain.new_zeros(len(alive), 1)], dim=1)
    gain.scatter_(1, torch.where(chosen, removed, n), -1.0)
    gain = gain[:, :n]
    parents = (-gain).argsort(dim=1, stable=True)[:, :most]
    price = cost.gather(1, removed).clamp(min=0.0)
    chosen = chosen & (gain.gather(1, parents) > ratio * price)
    base = torch.arange(len(alive), device=alive.device)[:, None] * n
    nowhere = alive.numel()  # one row too far: what is written there is dropped
    split(
        state,
        found,
        (parents + base).flatten(),
        torch.where(chosen, parents + base, nowhere).flatten(),
        torch.where(chosen, removed + base, nowhere).flatten(),
    )


def split(
    state: State,
    found: Worth,
    parents: Tensor,  # (M,), kernels to read
    kept: Tensor,  # (M,), where first halves are written: the parents, or one row too far for those that stay whole
    places: Tensor,  # (M,), where second halves are written
) -> None:
    """As `growth.split`, with the means of Adam: the second half takes over the parent's mean square."""
    f0, f1, f2 = state.geometry[parents, :3].double().unbind(1)
    prior = state.geometry[parents, 3]
    axis, experts = found.axis[parents], state.experts[parents]
    down = APART * axis[:, 1] / f2
    offset = torch.stack([(APART * axis[:, 0] - f1 * down) / f0, down], dim=1)  # L^-T axis, px
    narrow = 1.0 / (1.0 - APART**2)
    # the Cholesky factor of L (1 + (narrow - 1) axis axis^T) L^T, with b = L axis
    b0 = f0 * axis[:, 0]
    b1 = f1 * axis[:, 0] + f2 * axis[:, 1]
    more = narrow - 1.0
    l00 = (f0 * f0 + more * b0 * b0).sqrt()
    l10 = (f0 * f1 + more * b0 * b1) / l00
    # by the determinant, where a difference would cancel: |1 + more axis axis^T| is narrow
    l11 = math.sqrt(narrow) * f0 * f2 / l00
    shrunk = prior.double() + (0.5 * math.log(narrow) - math.log(2.0))
    geometry = torch.stack([l00, l10, l11, shrunk], dim=1).float()
    step = (APART * found.difference[parents]).clamp(-LEAP, LEAP)
    c = state.channels
    if experts.shape[1] > c:  # each half's colour is the parent's at its own centre
        step = step + torch.einsum("ncd,nd->nc", experts[:, c:].reshape(len(parents), c, 2).double(), offset)
    step = torch.cat([step.float(), torch.zeros_like(experts[:, c:])], dim=1)
    centres, first, second = state.centres[parents], state.first[parents], state.second[parents]
    where = torch.cat([kept, places])
    _write(state.centres, where, torch.cat([centres - offset, centres + offset]))
    _write(state.geometry, where, torch.cat([geometry, geometry]))
    _write(state.experts, where, torch.cat([experts - step, experts + step]))
    _write(state.first, where, torch.cat([0.5 * first, torch.zeros_like(first)]))
    _write(state.second, places, second)


def _write(values: Tensor, where: Tensor, new: Tensor) -> None:
    """Rows written in place; one row too far is dropped."""
    longer = torch.cat([values, values[:1]])
    longer[where] = new
    values.copy_(longer[:-1])
