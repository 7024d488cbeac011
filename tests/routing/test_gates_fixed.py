from __future__ import annotations

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.gate import FrozenGate, PositionGate, RandomGate, UniformGate

GRID = (3, 3)


@pytest.fixture
def x():
    return torch.randn(2, 5, 9, 12, generator=torch.Generator().manual_seed(0))


def test_uniform(x):
    gate = UniformGate(5, 2)
    routing = gate(x, GRID)
    assert gate.k == routing.k == 5
    assert (routing.weights == 0.2).all()
    assert (routing.chosen == torch.arange(5)).all()


class TestRandom:
    def test_all_experts_come_up_alike_whatever_the_place(self, x):
        gate = RandomGate(5, 2)
        counts = torch.zeros(2, 9, 5)
        for _ in range(500):
            routing = gate(x, GRID)
            counts.scatter_add_(2, routing.chosen, torch.ones(2, 9, 2))
        assert (routing.weights == 0.5).all()
        assert (counts / 500 - 2 / 5).abs().max() < 0.1
        assert (counts.mean((0, 1)) / 500 - 2 / 5).abs().max() < 0.03

    def test_experts_of_a_place_differ(self, x):
        chosen = RandomGate(5, 3)(x, GRID).chosen
        assert all(len(set(place)) == 3 for place in chosen.flatten(0, 1).tolist())

    def test_draws_anew_also_in_use(self, x):
        gate = RandomGate(8, 2).eval()
        assert not torch.equal(gate(x, GRID).chosen, gate(x, GRID).chosen)

    def test_a_resumed_run_draws_what_the_whole_run_would_have(self, x):
        whole, first = RandomGate(8, 2, seed=3), RandomGate(8, 2, seed=3)
        drawn = [whole(x, GRID).chosen for _ in range(4)]
        assert all(torch.equal(first(x, GRID).chosen, drawn[i]) for i in range(2))
        resumed = RandomGate(8, 2)
        resumed.load_state_dict(first.state_dict())
        assert all(torch.equal(resumed(x, GRID).chosen, drawn[i]) for i in (2, 3))

    def test_neither_reads_nor_moves_the_global_generator(self, x):
        torch.manual_seed(0)
        want = torch.rand(3)
        torch.manual_seed(0)
        first = RandomGate(8, 2)(x, GRID).chosen
        assert torch.equal(torch.rand(3), want)
        torch.manual_seed(1)
        assert torch.equal(RandomGate(8, 2)(x, GRID).chosen, first)
        assert not torch.equal(RandomGate(8, 2, seed=1)(x, GRID).chosen, first)


class TestPosition:
    def test_content_makes_no_difference_and_position_does(self, x):
        torch.manual_seed(0)
        gate = PositionGate(4, 2, grid=GRID)
        routing = gate(x, GRID)
        assert torch.equal(routing.logits[0], gate.table)
        assert torch.equal(routing.logits, gate(-x, GRID).logits)
        assert len(routing.logits[0].unique(dim=0)) == 9

    def test_is_learned(self, x):
        gate = PositionGate(4, 2, grid=GRID)
        gate(x, GRID).weights[..., 0].sum().backward()
        assert gate.table.grad.abs().sum() > 0

    @pytest.mark.parametrize("kernels", [None, True])
    def test_one_kernel_for_each_position(self, x, kernels):
        gate = PositionGate(9, 1, grid=GRID, kernels=kernels, noise=9.0, capacity=1.0)
        routing = gate(x, GRID)
        assert not list(gate.parameters())
        assert (routing.chosen[..., 0] == torch.arange(9)).all()
        assert (routing.weights == 1).all()
        assert torch.equal(routing.probabilities[0], torch.eye(9))

    def test_learned_where_told_so(self):
        assert list(PositionGate(9, 1, grid=GRID, kernels=False).parameters())

    def test_bad_input(self, x):
        with pytest.raises(ArgumentError, match="experts=9 and k=1"):
            PositionGate(8, 1, grid=3, kernels=True)
        with pytest.raises(ShapeError, match="9 positions, the grid \\(2, 2\\) has 4"):
            PositionGate(4, 2, grid=3)(x, (2, 2))
        # a sequence is routed as one column of as many places
        assert PositionGate(4, 2, grid=3)(x, (9, 1)).places == 9


class TestFrozen:
    def test_follows_content_and_its_seed(self, x):
        logits = FrozenGate(5, 4, 2)(x, GRID).logits
        assert torch.equal(FrozenGate(5, 4, 2)(x, GRID).logits, logits)
        assert not torch.equal(FrozenGate(5, 4, 2, seed=1)(x, GRID).logits, logits)
        assert not torch.equal(FrozenGate(5, 4, 2)(x.flip(3), GRID).logits, logits)

    def test_a_common_level_takes_no_part(self, x):
        gate = FrozenGate(5, 4, 2)
        torch.testing.assert_close(gate(3 * x + 5, GRID).logits, gate(x, GRID).logits, atol=1e-3, rtol=1e-3)

    def test_all_experts_are_met(self):
        torch.manual_seed(0)
        levels = 5 + torch.rand(16, 12, 3, 3)  # as after a rectifier: all channels far from zero
        chosen = FrozenGate(12, 4, 1)(levels, GRID).chosen
        assert torch.bincount(chosen.flatten(), minlength=4).min() > 5


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_random_gate_refuses_to_be_exported():
    gate = RandomGate(4, 2)

    class Weights(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = gate

        def forward(self, x):
            return self.gate(x, (2, 2)).weights

    with pytest.raises(ArgumentError, match="'random' draws anew"):
        torch.export.export(Weights(), (torch.randn(1, 3, 8, 8),))
