"""Fixed pictures with fixed damage: what a network makes of them, by sort."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.restore.validation import Validation
from moesaic.training.bank import list_pictures, read_bank
from moesaic.training.psnr import mean_psnr, psnrs
from tests.restore.stand_in import MIX, StandIn, parts


class Nothing(nn.Module):
    """Gives back what it gets."""

    def forward(self, x):
        assert not self.training
        return x


@pytest.fixture
def bank(pictures):
    return read_bank(list_pictures(pictures))


def _validation(bank, mix=MIX, multiple_of=4):
    return Validation(bank, parts(), mix, multiple_of, torch.device("cpu"))


def test_a_network_that_does_nothing_leaves_the_damage(bank):
    validation, model = _validation(bank), Nothing().train()
    assert validation.scores(model, "float32") == validation.before
    assert model.training
    assert validation.before["clean"] == 100
    assert validation.before["noise"] == pytest.approx(20, abs=1.5)  # a sigma of 0.1, clipped
    halved = validation.scores(model, "float32", lambda model, x: model(2 * x))
    assert halved["dark"] == pytest.approx(100)


def test_the_damage_is_the_same_for_all_runs(bank):
    first, second = _validation(bank), _validation(bank, {"noise": 9.0, "dark": 0.0})
    assert list(second.damaged) == ["noise"]
    assert torch.equal(first.damaged["noise"], second.damaged["noise"])


def test_sides_fit_the_network(bank):
    assert _validation(bank, multiple_of=16).clean.shape == (12, 3, 16, 16)
    assert _validation(bank, multiple_of=4).clean.shape == (12, 3, 24, 24)


def test_scores_are_means_of_decibels(bank):
    validation, model = _validation(bank), StandIn(dropout=0.0)
    with torch.no_grad():
        wanted = psnrs(model(validation.damaged["dark"]), validation.clean).mean()
    assert validation.scores(model, "float32")["dark"] == pytest.approx(float(wanted), abs=1e-3)
    assert mean_psnr({"a": 20.0, "b": 30.0}) == 25
    assert mean_psnr({}) is None
