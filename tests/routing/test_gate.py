from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.choice import best_of
from moesaic.routing.gate import GATES, Gate, PooledLinear, choose, make_gate

CHANNELS, EXPERTS, GRID = 6, 4, (3, 2)
TRACED = sorted(set(GATES) - {"random"})


def made(name, k=2, **options):
    """A gate with fixed weights, told its scores where it needs them."""
    torch.manual_seed(0)
    gate = make_gate(name, CHANNELS, EXPERTS, k, grid=GRID, **options)
    if name == "score":
        gate.condition = torch.tensor([[0.9, 0.1, 0.5, 0.2, 0.7, 0.3, 0.4]])
    return gate


def a_map(pictures=2, height=11, width=9, seed=0, **options):
    return torch.randn(pictures, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed), **options)


class TestChoose:
    def test_two_groups_of_three_places_by_hand(self):
        p = torch.tensor(
            [[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2]], [[0.2, 0.2, 0.6], [0.9, 0.06, 0.04], [0.1, 0.6, 0.3]]]
        )
        weights, chosen, probabilities = choose(p.log(), 2)
        assert chosen.tolist() == [[[0, 1], [2, 1], [0, 1]], [[2, 0], [0, 1], [1, 2]]]
        want = torch.tensor(
            [
                [[5 / 8, 3 / 8], [7 / 9, 2 / 9], [0.5, 0.5]],
                [[3 / 4, 1 / 4], [0.9 / 0.96, 0.06 / 0.96], [2 / 3, 1 / 3]],
            ]
        )
        torch.testing.assert_close(weights, want)
        torch.testing.assert_close(probabilities, p)

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_weights_sum_to_one_and_experts_differ(self, k):
        weights, chosen, _ = choose(30 * torch.randn(3, 7, 5), k)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 7))
        assert all(len(set(place)) == k for place in chosen.flatten(0, 1).tolist())

    def test_weights_hold_where_probabilities_underflow(self):
        logits = torch.tensor([[[0.0, -400.0, -401.0]]], requires_grad=True)
        weights, chosen, p = choose(logits, 3)
        assert p[0, 0, 1] == 0
        assert chosen.tolist() == [[[0, 1, 2]]]
        torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
        weights[0, 0, 1].backward()
        assert logits.grad.isfinite().all()

    def test_ties_go_to_the_lower_number(self):
        _, chosen, _ = choose(torch.zeros(1, 1, 40), 3)
        assert chosen.tolist() == [[[0, 1, 2]]]
        assert best_of(torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0]), 4).tolist() == [1, 2, 4, 3]

    def test_one_expert(self):
        weights, chosen, p = choose(torch.randn(2, 3, 1), 1, training=True, noise=0.5, capacity=1.0)
        assert (weights == 1).all()
        assert (chosen == 0).all()
        assert (p == 1).all()

    def test_a_single_weight_is_exactly_one_and_keeps_its_gradient(self):
        logits = torch.randn(2, 5, 3, requires_grad=True)
        weights, chosen, p = choose(logits, 1)
        assert (weights == 1).all()
        (gradient,) = torch.autograd.grad(weights.sum(), logits, retain_graph=True)
        (want,) = torch.autograd.grad(p.gather(-1, chosen).sum(), logits)
        torch.testing.assert_close(gradient, want)
        assert gradient.abs().max() > 1e-3

    @pytest.mark.parametrize("k", [2, 4])
    def test_gradients_in_float64(self, k):
        logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda logits: choose(logits, k)[::2], logits)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_halves_are_decided_in_float32(self, dtype):
        logits = torch.randn(1, 4, 3).to(dtype)
        weights, _, p = choose(logits, 2)
        assert weights.dtype == p.dtype == torch.float32
        torch.testing.assert_close(p, logits.float().softmax(-1))

    @pytest.mark.parametrize("relative", [True, False])
    def test_noise_moves_choices_but_neither_weights_nor_probabilities(self, relative):
        logits = torch.randn(4, 25, 8)
        weights, chosen, p = choose(logits, 2, training=True, noise=1.0, relative=relative)
        clean = choose(logits, 2)
        assert (chosen != clean[1]).any()
        torch.testing.assert_close(p, clean[2])
        kept = p.gather(-1, chosen)
        torch.testing.assert_close(weights, kept / kept.sum(-1, keepdim=True))

    def test_relative_noise_does_not_depend_on_the_scale_of_scores(self):
        logits = torch.randn(4, 25, 8)
        a, b = (
            choose(scale * logits, 2, training=True, noise=0.7, generator=torch.Generator().manual_seed(3))[1]
            for scale in (1, 1024)
        )
        assert torch.equal(a, b)
        absolute = choose(1e6 * logits, 2, training=True, noise=0.7, relative=False)[1]
        assert torch.equal(absolute, choose(logits, 2)[1])

    def test_size_of_the_noise(self):
        """Two experts a difference d apart change places with probability Phi(-d / (noise * sqrt(2)))."""
        logits = torch.tensor([0.0, 0.5]).expand(1, 20000, 2)
        _, chosen, _ = choose(
            logits, 1, training=True, noise=0.5, relative=False, generator=torch.Generator().manual_seed(0)
        )
        swapped = (chosen == 0).float().mean().item()
        assert abs(swapped - 0.5 * math.erfc(0.5 / (0.5 * math.sqrt(2)) / math.sqrt(2))) < 0.01

    def test_a_generator_repeats_the_noise(self):
        logits = torch.randn(2, 9, 8)
        a, b = (
            choose(logits, 2, training=True, noise=1.0, generator=torch.Generator().manual_seed(5))[1] for _ in range(2)
        )
        assert torch.equal(a, b)


class TestEveryGate:
    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize("k", [1, 2, EXPERTS])
    def test_record(self, name, k):
        gate = made(name, k)
        routing = gate(a_map(), GRID)
        K = EXPERTS if name == "uniform" else k
        assert routing.grid == GRID
        assert routing.weights.shape == routing.chosen.shape == (2, 6, K)
        assert routing.probabilities.shape == routing.logits.shape == (2, 6, EXPERTS)
        assert routing.chosen.dtype == torch.int64
        assert routing.weights.dtype == routing.probabilities.dtype == routing.logits.dtype == torch.float32
        torch.testing.assert_close(routing.weights.sum(-1), torch.ones(2, 6))
        torch.testing.assert_close(routing.probabilities, routing.logits.softmax(-1))
        torch.testing.assert_close(routing.dense().sum(-1), torch.ones(2, 6))

    @pytest.mark.parametrize("name", TRACED)
    def test_noise_and_capacity_act_in_training_only(self, name):
        noisy, plain = made(name, noise=3.0, capacity=1.0).eval(), made(name, noise=0.0).eval()
        a, b = noisy(a_map(), GRID), plain(a_map(), GRID)
        assert torch.equal(a.chosen, b.chosen)
        assert torch.equal(a.weights, b.weights)
        noisy.train()
        assert torch.equal(noisy(a_map(), GRID).logits, a.logits)
        if name != "uniform":
            assert any((noisy(a_map(), GRID).chosen != b.chosen).any() for _ in range(5))

    @pytest.mark.parametrize("name", TRACED)
    def test_a_picture_is_routed_alike_alone_and_in_a_batch(self, name):
        gate = made(name).eval()
        together, alone = gate(a_map(), GRID), gate(a_map()[1:], GRID)
        torch.testing.assert_close(together.logits[1:], alone.logits, atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("name", ["linear", "conv", "two_conv", "frequency"])
    @pytest.mark.parametrize("k", [1, 2])
    def test_learned_gates_have_gradients(self, name, k):
        gate = made(name, k)
        x = a_map().requires_grad_()
        routing = gate(x, GRID)
        (routing.weights * torch.linspace(-1, 1, routing.weights.numel()).view_as(routing.weights)).sum().backward()
        assert x.grad.abs().sum() > 0
        for parameter_name, parameter in gate.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name

    @pytest.mark.parametrize("name", ["uniform", "random", "frozen"])
    def test_fixed_gates_have_none(self, name):
        gate = made(name)
        assert not list(gate.parameters())
        routing = gate(a_map().requires_grad_(), GRID)
        assert not routing.weights.requires_grad
        assert not routing.logits.requires_grad

    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_gates_and_maps(self, name, dtype):
        gate = made(name).eval()
        want = gate(a_map(), GRID)
        routing = gate.to(dtype)(a_map().to(dtype), GRID)
        assert routing.logits.dtype == routing.weights.dtype == torch.float32
        torch.testing.assert_close(routing.logits, want.logits, atol=0.05, rtol=0.05)

    @pytest.mark.parametrize("name", GATES)
    def test_autocast_changes_nothing(self, name):
        gate = made(name).eval()
        gate.passes = 0
        want = gate(a_map(), GRID)
        gate.passes = 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = gate(a_map(), GRID)
        assert torch.equal(got.logits, want.logits)
        assert torch.equal(got.weights, want.weights)

    @pytest.mark.parametrize("name", GATES)
    def test_channels_last_changes_nothing(self, name):
        gate = made(name).eval()
        last = a_map().to(memory_format=torch.channels_last)
        torch.testing.assert_close(gate(last, GRID).logits, gate(a_map(), GRID).logits, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda gate: pickle.loads(pickle.dumps(gate))])
    def test_copies_decide_alike(self, name, copied):
        gate = made(name)
        gate(a_map(), GRID)
        twin = copied(gate)
        if name == "score":
            assert twin.condition is None
            twin.condition = gate.condition
        assert torch.equal(twin.eval()(a_map(), GRID).chosen, gate.eval()(a_map(), GRID).chosen)

    @pytest.mark.parametrize("name", GATES)
    def test_weights_come_back_from_a_file(self, name):
        gate = made(name)
        gate(a_map(), GRID)
        file = io.BytesIO()
        torch.save(gate.state_dict(), file)
        file.seek(0)
        torch.manual_seed(99)
        other = make_gate(name, CHANNELS, EXPERTS, 2, grid=GRID)
        other.load_state_dict(torch.load(file, weights_only=True))
        if name == "score":
            other.condition = gate.condition
        assert torch.equal(other.eval()(a_map(), GRID).chosen, gate.eval()(a_map(), GRID).chosen)

    @pytest.mark.parametrize("name", GATES)
    def test_largest_grid_for_the_map(self, name):
        torch.manual_seed(0)
        gate = make_gate(name, CHANNELS, EXPERTS, 2, grid=(2, 3))
        if name == "score":
            gate.condition = torch.rand(1, 7)
        routing = gate.eval()(a_map(1, 2, 3), (2, 3))
        assert routing.logits.isfinite().all()


class TestTracing:
    @pytest.mark.parametrize("name", TRACED)
    @pytest.mark.parametrize("k", [1, 2])
    def test_in_one_graph(self, name, k):
        gate = made(name, k).eval()
        torch.compiler.reset()
        compiled = torch.compile(gate, fullgraph=True, backend="eager", dynamic=True)
        for pictures, height, width in ((2, 11, 9), (3, 17, 30)):
            x = a_map(pictures, height, width)
            got, want = compiled(x, GRID), gate(x, GRID)
            assert torch.equal(got.chosen, want.chosen)
            torch.testing.assert_close(got.weights, want.weights)

    def test_training_with_noise_and_capacity_in_one_graph(self):
        gate = made("two_conv", noise=0.1, capacity=1.25)
        torch.compiler.reset()
        compiled = torch.compile(gate, fullgraph=True, backend="aot_eager")
        routing = compiled(a_map(), GRID)
        assert torch.bincount(routing.chosen.flatten(), minlength=EXPERTS).max() <= math.ceil(1.25 * 12 * 2 / 4)
        routing.weights[..., 0].sum().backward()
        assert gate.second.grad.abs().sum() > 0

    def test_under_autocast_in_one_graph(self):
        gate = made("two_conv").eval()
        torch.compiler.reset()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = torch.compile(gate, fullgraph=True, backend="eager")(a_map(), GRID)
        torch.testing.assert_close(got.logits, gate(a_map(), GRID).logits)

    def test_a_random_gate_only_breaks_the_graph(self):
        torch.compiler.reset()
        plain = made("random")
        compiled = torch.compile(copy.deepcopy(plain), backend="eager")
        for _ in range(2):  # each pass draws anew, and what an uncompiled gate draws
            assert torch.equal(compiled(a_map(), GRID).chosen, plain(a_map(), GRID).chosen)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
    @pytest.mark.slow
    def test_export_to_onnx_for_any_size(self):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        decisions = Decisions(made(name, k) for name, k in zip(TRACED, [1, 2] * 4, strict=True)).eval()
        sizes = {0: torch.export.Dim("B"), 2: torch.export.Dim("H", min=3), 3: torch.export.Dim("W", min=3)}
        program = torch.onnx.export(decisions, (a_map(),), dynamo=True, dynamic_shapes=(sizes,), verbose=False)
        file = io.BytesIO()
        program.save(file)
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for x in (a_map(), a_map(3, 30, 7, seed=1)):
            got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            for a, b in zip(got, decisions(x), strict=True):
                np.testing.assert_allclose(a, b.detach().numpy(), atol=1e-5)


class Decisions(nn.Module):
    """Gates that read one map; what a graph can return of their routings."""

    def __init__(self, gates):
        super().__init__()
        self.gates = nn.ModuleList(gates)

    def forward(self, x):
        routings = [gate(x, GRID) for gate in self.gates]
        return [part for r in routings for part in (r.weights, r.chosen, r.probabilities)]


class TestBadInput:
    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize(
        ("experts", "k", "says"),
        [
            (4, 5, "k from 1 to 4"),
            (4, 0, "k is a whole"),
            (0, 1, "experts is a whole"),
            (4, 1.5, "1.5"),
            (True, 1, "T"),
        ],
    )
    def test_counts(self, name, experts, k, says):
        with pytest.raises(ArgumentError, match=says):
            make_gate(name, CHANNELS, experts, k)

    @pytest.mark.parametrize("name", sorted(n for n, kind in GATES.items() if kind.reads_channels))
    def test_channels(self, name):
        with pytest.raises(ArgumentError, match="channels"):
            make_gate(name, 0, 4, 2)
        with pytest.raises(ShapeError, match="6 channels, this one has 5"):
            made(name)(torch.zeros(1, 5, 9, 9), GRID)

    @pytest.mark.parametrize("noise", [-1, math.nan, math.inf, "0.1"])
    def test_noise(self, noise):
        with pytest.raises(ArgumentError, match="noise"):
            made("linear", noise=noise)

    @pytest.mark.parametrize("capacity", [0.5, math.nan, math.inf, "1"])
    def test_capacity(self, capacity):
        with pytest.raises(ArgumentError, match="capacity"):
            made("linear", capacity=capacity)

    def test_unknown_names(self):
        with pytest.raises(ArgumentError, match="did you mean 'two_conv'"):
            make_gate("twoconv", 4, 4, 2)
        with pytest.raises(ArgumentError, match="no option 'kernel'; it takes noise, capacity"):
            make_gate("linear", 4, 4, 2, kernel=3)

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("two_conv", {"norm": "layer"}),
            ("two_conv", {"activation": "tanh"}),
            ("two_conv", {"hidden": 0}),
            ("two_conv", {"kernel": 2}),
            ("conv", {"kernel": 4}),
            ("frozen", {"seed": -1}),
            ("random", {"seed": 2**31}),
            ("random", {"seed": 0.5}),
            ("score", {"scores": 0}),
            ("frequency", {"condition_size": 0}),
        ],
    )
    def test_options(self, name, options):
        with pytest.raises(ArgumentError, match=next(iter(options))):
            made(name, **options)

    def test_maps(self):
        with pytest.raises(ShapeError, match=r"\(B, C, H, W\)"):
            made("linear")(torch.zeros(6, 9, 9), GRID)
        with pytest.raises(ShapeError):
            made("linear")(torch.zeros(1, 6, 2, 9), GRID)

    def test_a_gate_of_ones_own(self):
        class First(Gate):
            reads_channels = False

            def scores(self, x, grid):
                return torch.arange(self.experts, 0, -1.0).expand(x.shape[0], grid[0] * grid[1], -1)

        assert (First(3, 1)(a_map(), GRID).chosen == 0).all()
        assert repr(First(3, 1, noise=0.5)) == "First(experts=3, k=1, noise=0.5)"
        assert isinstance(make_gate("linear", 2, 2, 1), PooledLinear)
