"""Networks as shapes alone, and commands that start without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from moesaic.shapes import as_shapes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.code = nn.Embedding(4, 7)
        self.own = nn.Parameter(torch.randn(2, 3, generator=torch.Generator(), dtype=torch.float64))
        self.also = nn.Parameter(torch.rand((6,)))
        nn.init.trunc_normal_(tensor=self.also, std=0.1)
        self.register_buffer("count", torch.zeros(2, dtype=torch.int64))


def test_shapes_and_types_are_those_of_the_network():
    forms = {name: (value.shape, value.dtype) for name, value in Net().state_dict().items()}
    shapes = as_shapes(Net).state_dict()
    assert {name: (value.shape, value.dtype) for name, value in shapes.items()} == forms
    assert all(value.is_meta for value in shapes.values())


def test_no_random_numbers_are_drawn():
    before = torch.random.get_rng_state()
    as_shapes(Net)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_built_later_is_filled():
    as_shapes(Net)
    assert float(Net().code.weight.detach().std()) > 0.1


def test_errors_are_those_of_the_network():
    with pytest.raises(ValueError, match="in_channels must be divisible"):
        as_shapes(lambda: nn.Conv2d(3, 4, 3, groups=2))


@pytest.mark.parametrize(
    "call",
    [
        "encode(picture, fast=True)",
        "encode(picture, steps=3)",
        "restore(picture)",
        "upscale(picture)",
        "segment(picture)",
        "denoise(picture)",
        "estimate(picture)",
    ],
)
def test_no_call_loads_the_compiler_of_torch(call):
    """It takes seconds, and no call needs it."""
    program = (
        "import sys, numpy, moesaic\n"
        "picture = numpy.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(numpy.uint8)\n"
        f"moesaic.{call}\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert ran.stdout.strip().endswith("[]"), ran.stderr
