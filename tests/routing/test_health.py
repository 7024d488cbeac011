"""Figures on the gates of each epoch: those of an audit, without a trace in the run."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from moesaic.routing import sparsify
from moesaic.routing.collect import collect
from moesaic.routing.health import Health
from moesaic.routing.usage import Usage


def _model(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1))
    return sparsify(model, "0", **({"experts": 4, "k": 2, "grid": 2} | options)).train()


def _steps(model, health, count, seed=0):
    """Some forward passes, and a usage that counts each by itself."""
    usage, generator = Usage(), torch.Generator().manual_seed(seed)
    for _ in range(count):
        model(torch.rand(2, 3, 8, 8, generator=generator))
        health.add()
        usage.add(collect(model)["0"])
    return usage


def test_figures_are_those_of_an_audit(monkeypatch):
    monkeypatch.setattr("moesaic.routing.health._AT_ONCE", 3)
    model = _model()
    health = Health(model)
    usage = _steps(model, health, 7)
    figures = health.end_epoch()["0"]
    wanted = usage.figures()
    assert figures["experts"] == 4
    assert figures["dead"] == wanted["dead"]
    for name in ("routing_entropy", "top_assignment_share", "top_patch_share", "flatness"):
        assert figures[name] == pytest.approx(wanted[name], abs=1e-6)
    assert health.last == {"0": figures}


def test_each_epoch_counts_for_itself():
    model = _model()
    health = Health(model)
    _steps(model, health, 3)
    first = health.end_epoch()
    _steps(model, health, 3)
    assert health.end_epoch() == first
    assert health.end_epoch() == {}  # nothing since


def test_an_interruption_loses_nothing(monkeypatch):
    model = _model()
    health = Health(model)
    _steps(model, health, 2)
    health.end_epoch()
    _steps(model, health, 3, seed=1)
    file = io.BytesIO()
    torch.save(health.state_dict(), file)
    file.seek(0)
    resumed = Health(model)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.last == health.last
    for one in (health, resumed):
        _steps(model, one, 2, seed=2)
    assert resumed.end_epoch() == health.end_epoch()


def test_it_draws_nothing_and_holds_no_graph():
    model = _model(gate_options={"noise": 0.5})
    health = Health(model)
    model(torch.rand(1, 3, 8, 8))
    before = torch.get_rng_state()
    health.add()
    health.state_dict()
    health.end_epoch()
    assert torch.equal(torch.get_rng_state(), before)
    health.add()
    assert all(not kept.weights.requires_grad for kept in health._aside["0"])


def test_a_dense_model_has_none():
    health = Health(nn.Linear(2, 2))
    health.add()
    assert (health.end_epoch(), health.warnings(ended=True)) == ({}, [])


def test_dead_experts_are_told_at_once_and_flat_gates_at_the_end():
    model = _model()
    with torch.no_grad():
        model[0].gate.second.zero_()  # no preference at all: ties go to the first two experts
    health = Health(model)
    _steps(model, health, 2)
    figures = health.end_epoch()["0"]
    assert (figures["dead"], figures["flatness"]) == ([2, 3], 1.0)
    assert health.warnings(ended=False) == ["0: 2 of 4 experts dead"]
    assert health.warnings(ended=True) == ["0: 2 of 4 experts dead", "0: routing flat, 1.000 of 1"]


@pytest.mark.parametrize("gate", ["uniform", "random"])
def test_controls_are_never_called_flat(gate):
    model = _model(gate=gate)
    health = Health(model)
    _steps(model, health, 20)
    assert health.end_epoch()["0"]["flatness"] == 1.0
    assert health.warnings(ended=True) == []


def test_a_single_expert_has_no_entropy():
    model = _model(experts=1, k=1)
    health = Health(model)
    _steps(model, health, 1)
    assert math.isnan(health.end_epoch()["0"]["flatness"])
    assert health.warnings(ended=True) == []
