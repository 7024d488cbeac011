"""Processes that train together: their mean gradient is that of one batch of all their pictures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.training import parallel
from moesaic.training.parallel import Team, leads, team_on

_STEPS = """
import sys, torch
from tests.training.test_parallel import batches, model_of, train
from moesaic.errors import TrainingError
from moesaic.training.parallel import team_on

with team_on("cpu") as team:
    model = model_of(0)
    train(model, [x.chunk(team.size)[team.rank] for x in batches()], team)
    team.check_equal(model)
    agreed = [team.agree(float(7 + team.rank)), team.mean(torch.tensor([1.0 + team.rank])).tolist()]
    apart = False
    try:
        team.check_equal(model_of(team.rank))
    except TrainingError:
        apart = True
    torch.save({"model": model.state_dict(), "agreed": agreed, "apart": apart}, f"{sys.argv[1]}/{team.rank}.pt")
"""


def model_of(seed):
    torch.manual_seed(seed)
    model = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3), "never": nn.Linear(4, 3)})
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    return model


def batches():
    """The first half of a batch goes through a, the second through b: a process of two has no gradient of the other."""
    return list(torch.randn(5, 8, 4, generator=torch.Generator().manual_seed(1)))


def train(model, batches, team):
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    for x in batches:
        first = x[:, 0] >= 0
        target = x[:, :3].flip(1)
        loss = torch.zeros(())
        for name, mine in (("a", first), ("b", ~first)):
            if mine.any():
                loss = loss + (model[name](x[mine]) - target[mine]).square().sum() / (3 * len(x))
        optimiser.zero_grad()
        loss.backward()
        team.average_gradients(model)
        optimiser.step()


_OF_THE_MACHINE = (
    *("DistNetworkError", "onnect"),  # somebody else may have taken the port between its choice and its use
    "terminate called without an active exception",  # a thread of torch's own, as the process ends; one run in hundreds
)


def run_two(script, *arguments):
    """Run a script in two processes that know of each other, as torchrun would, and wait for them."""
    for attempt in range(3):
        codes, errors = _both(script, arguments)
        if codes == [0, 0]:
            return
        if attempt == 2 or not any(sign in told for told in errors for sign in _OF_THE_MACHINE):
            raise AssertionError(errors)


def _both(script, arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    children = []
    for rank in range(2):
        environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        children.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [child.communicate(timeout=120)[1] for child in children]
    return [child.returncode for child in children], errors


def test_two_processes_equal_one_with_both_batches(tmp_path):
    run_two(_STEPS, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = model_of(0)
    train(alone, batches(), Team(device=torch.device("cpu")))
    start = model_of(0).state_dict()
    for name, value in alone.state_dict().items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        torch.testing.assert_close(first["model"][name], value, atol=1e-5, rtol=1e-5)
        moved = not torch.equal(value, start[name])
        assert moved == (name[0] in "ab")  # what nobody used has not even decayed
    assert first["agreed"] == second["agreed"] == [7.0, [1.5]]
    assert (first["apart"], second["apart"]) == (True, True)


def test_one_process_is_left_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with team_on("cpu") as team:
        assert (team.rank, team.size, team.leads, leads()) == (0, 1, True, True)
        model = model_of(0)
        team.average_gradients(model)
        assert all(parameter.grad is None for parameter in model.parameters())
        figures = torch.ones(2)
        assert team.mean(figures) is figures
        assert team.agree(3.0) == 3.0
        team.wait()


def test_an_environment_that_states_no_numbers(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ArgumentError, match="as torchrun states them"), team_on("cpu"):
        pass


def test_only_the_first_process_tells(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not parallel.leads()
