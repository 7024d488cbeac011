"""Several processes that train one network, as torchrun starts them: equal weights, other pictures, mean gradients."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from moesaic.errors import ArgumentError, TrainingError
from moesaic.training.device import pick_device

if TYPE_CHECKING:
    from torch import Tensor, nn

_PATIENCE = dt.timedelta(minutes=30)  # while the first process decodes, validates and writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """The processes of a run; one alone is a team of 1, for which every call below does nothing."""

    rank: int = 0
    size: int = 1
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            self.agree(0.0)

    def agree(self, value: float) -> float:
        """The first process's value, to all; such as whether its time is over."""
        if self.size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return float(told)

    def mean(self, figures: Tensor) -> Tensor:
        """The mean of all processes' figures, of one shape, to all."""
        if self.size > 1:
            figures = figures.clone()
            dist.all_reduce(figures)
            figures /= self.size
        return figures

    def average_gradients(self, model: nn.Module) -> None:
        """Give every parameter the mean of all processes' gradients, as one batch of all their pictures would.

        A parameter that no process has a gradient of keeps none, so that an expert that nobody chose is not moved.
        """
        if self.size == 1:
            return
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        there = torch.tensor([float(parameter.grad is not None) for parameter in learned], device=self.device)
        dist.all_reduce(there)
        moved = [parameter for parameter, count in zip(learned, there.tolist(), strict=True) if count]
        for parameter in moved:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view(gradient.shape))

    def check_equal(self, model: nn.Module) -> None:
        """Refuse to go on with processes whose weights have grown apart.

        Raises:
            TrainingError: they have.
        """
        if self.size == 1:
            return
        sums = torch.stack([value.detach().double().sum() for value in model.parameters()])
        others = sums.clone()
        dist.broadcast(others, 0)
        apart = (sums != others).any().float()
        dist.all_reduce(apart)
        if apart.item():
            raise TrainingError("the processes' weights have grown apart; start all of them with the same arguments")


def leads() -> bool:
    """Whether this process is the one that tells, among those that torchrun has started; before any has a team."""
    return os.environ.get("RANK", "0") in ("", "0")


@contextmanager
def team_on(device: str | torch.device = "auto") -> Iterator[Team]:
    """The processes that torchrun has started, or this one alone.

    torchrun states RANK, LOCAL_RANK and WORLD_SIZE in the environment. Each process has the CUDA device of its local
    rank, where the device is "auto" or "cuda" and there is one; they talk over NCCL there, else over gloo.

    Raises:
        ArgumentError: the environment does not state numbers.
        BackendError: there is no such device here.
    """
    where = pick_device(device)
    try:
        size = int(os.environ.get("WORLD_SIZE", "1"))
        rank = int(os.environ.get("RANK", "0"))
        local = int(os.environ.get("LOCAL_RANK", str(rank)))
    except ValueError as cause:
        raise ArgumentError(f"WORLD_SIZE, RANK and LOCAL_RANK are numbers, as torchrun states them: {cause}") from None
    if size <= 1:
        yield Team(device=where)
        return
    if str(where) == "cuda":
        where = pick_device(f"cuda:{local % torch.cuda.device_count()}")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo", rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        team = Team(rank=rank, size=size, device=where)
        yield team
        team.wait()  # the first process keeps what the others talk through: none leaves while another still does
    finally:
        dist.destroy_process_group()
