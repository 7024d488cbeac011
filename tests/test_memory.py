"""Sizes beyond memory: one error, whatever torch and Python raise; others pass as they are."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import LimitError
from moesaic.memory import is_out_of_memory, machine_bytes, within_memory


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(10**15),
        lambda: torch.empty(2**40, 2**40),
        lambda: torch.empty(10**30),
        lambda: [0] * 10**15,
        lambda: int(1e308 * 10),
    ],
)
def test_what_no_memory_holds(ask):
    with (
        pytest.raises(LimitError, match=r"not enough memory for a giant; lower it$"),
        within_memory("a giant; lower it"),
    ):
        ask()


@pytest.mark.parametrize("error", [RuntimeError("shape"), ValueError("value"), TypeError("type"), KeyError("key")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)), within_memory("nothing"):
        raise error
    assert not is_out_of_memory(error)


def test_this_machine_has_some():
    assert machine_bytes() > 2**28
