from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.conditioned_gates import fine
from moesaic.routing.gate import FrequencyEmbedding, FrequencyGate, ScoreGate, conditioned
from moesaic.routing.grid import place_mean

GRID = (2, 2)


@pytest.fixture
def x():
    return torch.randn(3, 4, 8, 10, generator=torch.Generator().manual_seed(0))


class TestFine:
    def test_is_the_distance_from_the_mean_of_the_neighbours_on_the_map(self, x):
        want = (x - functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).abs()
        torch.testing.assert_close(fine(x), want)
        assert fine(torch.full((1, 1, 5, 4), 3.7)).abs().max() < 1e-6
        assert fine(x[..., :1, :1]).abs().max() == 0

    def test_leaves_its_input_alone(self, x):
        before = x.clone()
        fine(x)
        assert torch.equal(x, before)

    def test_gradients(self, x):
        assert torch.autograd.gradcheck(fine, x[:1, :2, :4, :3].double().requires_grad_())


class TestFrequency:
    def test_scores(self, x):
        torch.manual_seed(0)
        gate = FrequencyGate(4, 3, 1)
        want = place_mean(x, GRID) @ gate.level.T + place_mean(fine(x), GRID) @ gate.detail.T
        torch.testing.assert_close(gate.scores(x, GRID), want)

    def test_tells_texture_from_a_smooth_place_of_the_same_mean(self):
        torch.manual_seed(0)
        board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).float()
        x = torch.stack([board, torch.full((8, 8), 0.5)])[:, None].expand(2, 4, 8, 8)
        logits = FrequencyGate(4, 3, 1)(x, (1, 1)).logits
        assert (logits[0] - logits[1]).abs().max() > 0.05

    def test_reads_an_embedding_instead(self, x):
        torch.manual_seed(0)
        gate = FrequencyGate(4, 3, 1, condition_size=6)
        embedding = torch.randn(3, 6)
        gate.condition = embedding
        want = place_mean(x, (1, 1)) @ gate.level.T + (embedding @ gate.detail.T)[:, None]
        torch.testing.assert_close(gate.scores(x, (1, 1)), want)

    def test_noise_is_in_units_of_the_scores_and_in_training_only(self, x):
        torch.manual_seed(0)
        gate = FrequencyGate(4, 3, 1)
        assert gate.noise == 0.25
        gate.eval()
        assert torch.equal(gate(x, GRID).chosen, gate(x, GRID).chosen)
        with torch.no_grad():
            gate.level.zero_()
            gate.detail.zero_()
        assert (gate(x, GRID).chosen == 0).all()
        assert gate.train()(torch.cat([x] * 10), GRID).chosen.unique().tolist() == [0, 1, 2]

    def test_gradients_reach_the_embedding(self, x):
        embed, gate = FrequencyEmbedding(4), FrequencyGate(4, 3, 1, condition_size=4)
        gate.condition = embed(x)
        (gate(x, (1, 1)).weights * torch.tensor([[[1.0]], [[2.0]], [[-1.0]]])).sum().backward()
        assert embed.filter.grad.abs().sum() > 0
        assert copy.deepcopy(gate).condition is None


class TestEmbedding:
    def test_begins_as_a_laplacian(self, x):
        torch.manual_seed(0)
        embed = FrequencyEmbedding(4)
        assert embed.filter.sum() == 0
        assert embed.filter[:, 0, 1, 1].tolist() == [8.0] * 4
        assert embed(x).shape == (3, 4)
        kernel = -torch.ones(1, 1, 3, 3)
        kernel[..., 1, 1] = 8
        detail = functional.gelu(torch.cat([functional.conv2d(c, kernel, padding=1) for c in x.split(1, 1)], 1))
        want = embed.down(functional.gelu(embed.up(detail.mean((2, 3)))))
        torch.testing.assert_close(embed(x), want)

    def test_bad_input(self):
        with pytest.raises(ShapeError, match=r"\(B, 4, H, W\)"):
            FrequencyEmbedding(4)(torch.zeros(1, 3, 8, 8))
        with pytest.raises(ArgumentError, match="channels"):
            FrequencyEmbedding(0)


class TestScore:
    def test_scores_alone_decide_and_alike_everywhere(self, x):
        torch.manual_seed(0)
        gate, severity = ScoreGate(6, 2), torch.rand(3, 7)
        with gate.conditioned(severity):
            routing = gate(x, GRID)
            assert torch.equal(gate(5 * x, GRID).logits, routing.logits)
        torch.testing.assert_close(routing.logits[:, 3], severity @ gate.last.T)
        assert (routing.logits == routing.logits[:, :1]).all()

    def test_hidden_layer(self, x):
        gate = ScoreGate(6, 2, scores=3, hidden=16)
        gate.condition = torch.rand(3, 3)
        want = functional.gelu(gate.condition @ gate.first.T) @ gate.last.T
        torch.testing.assert_close(gate(x, GRID).logits[:, 0], want)

    def test_one_row_serves_all_pictures(self, x):
        gate, row = ScoreGate(6, 2), torch.rand(1, 7)
        with gate.conditioned(row):
            one = gate(x, GRID).logits
        with gate.conditioned(row.expand(3, 7)):
            torch.testing.assert_close(gate(x, GRID).logits, one)

    def test_begins_nearly_even(self, x):
        torch.manual_seed(0)
        gate = ScoreGate(32, 8)
        gate.condition = torch.rand(3, 7)
        assert (32 * gate(x, GRID).probabilities - 1).abs().max() < 0.1

    def test_the_block_ends(self, x):
        gate = ScoreGate(6, 2)
        with pytest.raises(RuntimeError, match="stop"), gate.conditioned(torch.rand(3, 7)):  # noqa: PT012
            with gate.conditioned(torch.rand(1, 7)):
                gate(x, GRID)
            assert gate.condition.shape == (3, 7)
            raise RuntimeError("stop")
        assert gate.condition is None

    def test_all_gates_of_a_model(self, x):
        model = nn.ModuleList([ScoreGate(6, 2), FrequencyGate(4, 3, 1), ScoreGate(4, 1)])
        with conditioned(model, torch.rand(3, 7)):
            assert all(gate(x, GRID).places == 4 for gate in model)
            assert model[1].condition is None
        assert model[0].condition is model[2].condition is None

    def test_bad_input(self, x):
        gate = ScoreGate(6, 2)
        with pytest.raises(ArgumentError, match="reads 7 numbers beside the map: set gate"):
            gate(x, GRID)
        for wrong, says in (
            (torch.rand(7), r"condition is \(B, 7\)"),
            (torch.rand(3, 6), r"not \(3, 6\)"),
            (torch.rand(2, 7), "2 rows for 3 pictures"),
        ):
            with gate.conditioned(wrong), pytest.raises(ShapeError, match=says):
                gate(x, GRID)
