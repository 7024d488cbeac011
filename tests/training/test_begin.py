"""Weights to begin from: taken whole, or refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ModelError
from moesaic.training.begin import fill


def test_all_weights_are_taken():
    model, weights = nn.Linear(2, 3), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    fill(model, weights, "a.safetensors")
    assert torch.equal(model.weight.detach(), weights["weight"])


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"weight": torch.ones(3, 2)}, "1 of 2 differ, the first is bias"),
        ({"weight": torch.ones(2, 2), "bias": torch.ones(3)}, "1 of 2 differ, the first is weight"),
        ({str(n): torch.ones(2) for n in range(500)}, "502 of 2 differ, the first is 0"),
    ],
)
def test_those_of_another_network_are_refused_in_one_line(weights, says):
    model = nn.Linear(2, 3)
    before = model.bias.detach().clone()
    with pytest.raises(ModelError, match=f"start=a.safetensors holds weights of another network.*{says}") as told:
        fill(model, weights, "a.safetensors")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 250
    assert torch.equal(model.bias.detach(), before)
