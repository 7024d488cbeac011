"""Layers with ranks: fast against rank by rank, in value and gradient; exact merging; gates of each norm."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.adapters import MixOfRanks, mix_of_ranks
from moesaic.upscale.rank_plan import PAPER, Ranks
from moesaic.upscale.ranks import RankedConv2d, RankedLinear, Told, rank_by_rank

S = 3
SMALL = {"shared": 2, "routed": 6, "active": 3, "zero": 2, "scores": S}
CONVOLUTIONS = [
    nn.Conv2d(32, 36, 3, padding=1),
    nn.Conv2d(32, 36, 1, bias=False),
    nn.Conv2d(32, 36, (3, 5), stride=(2, 1), padding=(0, 2)),
    nn.Conv2d(32, 36, 3, padding=4, dilation=4),
    nn.Conv2d(32, 36, 3, padding="same", dilation=2),
    nn.Conv2d(32, 36, 3, padding="valid"),
    nn.Conv2d(32, 36, 3, padding=(1, 2), padding_mode="reflect"),
    nn.Conv2d(32, 36, 3, padding=1, padding_mode="circular"),
    nn.Conv2d(32, 36, 5, stride=2, padding=2, padding_mode="replicate"),
    nn.Conv2d(32, 36, 3, padding="same", padding_mode="reflect"),
]


def ranked(layer: nn.Module, **options) -> MixOfRanks:
    """A layer whose ranks and router say something."""
    torch.manual_seed(0)
    mix = mix_of_ranks(copy.deepcopy(layer), "", **{**SMALL, **options})
    for one in mix.layers.values():
        nn.init.normal_(one.up, std=0.1)
        if one.router is not None:
            nn.init.normal_(one.router.last)
    return mix


def rand(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def scores(rows: int, seed: int = 2) -> torch.Tensor:
    made = torch.rand(rows, S, generator=torch.Generator().manual_seed(seed))
    made[0] = 0  # a clean picture
    return made


def inputs(layer: nn.Module) -> list[torch.Tensor]:
    if isinstance(layer, nn.Linear):
        return [rand(3, 24), rand(3, 5, 24), rand(3, 4, 2, 24)]
    return [rand(3, 32, 9, 11), rand(3, 32, 9, 11).to(memory_format=torch.channels_last)]


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Within 1e-5 of the largest output, and of 1 where that is less."""
    return bool((a - b).abs().max() < 1e-5 * max(1.0, float(b.detach().abs().max())))


@pytest.mark.parametrize("layer", [nn.Linear(24, 20), nn.Linear(24, 20, bias=False), *CONVOLUTIONS], ids=str)
def test_new_ranks_change_nothing(layer):
    mix = mix_of_ranks(copy.deepcopy(layer), "", **SMALL)
    for x in inputs(layer):
        with mix.given(scores(3)):
            assert torch.equal(mix.model(x), layer(x))


@pytest.mark.parametrize("layer", [nn.Linear(24, 20), *CONVOLUTIONS], ids=str)
def test_fast_is_rank_by_rank(layer):
    mix = ranked(layer)
    (one,) = mix.layers.values()
    for x in inputs(layer):
        told = scores(3)
        with mix.given(told):
            fast = mix.model(x)
            gates = one.told.now()
        slow = rank_by_rank(one, x, gates)
        assert (fast - layer(x)).abs().max() > 0.1
        assert near(fast, slow)
        for row in range(3):
            with mix.merged(told[row : row + 1]):
                assert near(mix.model(x[row : row + 1]), fast[row : row + 1])


def test_what_is_left_of_a_merge_is_rounding():
    for layer in (nn.Linear(24, 20), *CONVOLUTIONS):
        mix = ranked(copy.deepcopy(layer).double())
        for x in inputs(layer):
            told, x = scores(3).double(), x.double()
            with mix.given(told):
                dynamic = mix.model(x)
            for row in range(3):
                with mix.merged(told[row : row + 1]):
                    assert (mix.model(x[row : row + 1]) - dynamic[row : row + 1]).abs().max() < 1e-13


@pytest.mark.parametrize("norm", ["none", "topk", "real"])
@pytest.mark.parametrize("layer", [nn.Linear(24, 20), nn.Conv2d(32, 36, 3, padding=1)], ids=["linear", "conv"])
def test_gradients_are_those_of_rank_by_rank(layer, norm):
    mix = ranked(copy.deepcopy(layer).double(), gate_norm=norm)
    (one,) = mix.layers.values()
    for x in inputs(layer):
        x, told = x.double().requires_grad_(), scores(3).double().requires_grad_()
        into = {"x": x, "scores": told, "down": one.down, "up": one.up, "router": one.router.last}
        with mix.given(told):
            fast = mix.model(x)
            gates = one.told.now()
        weights = rand(*fast.shape, dtype=torch.float64)
        got = torch.autograd.grad((fast * weights).sum(), list(into.values()), retain_graph=True)
        slow = rank_by_rank(one, x, gates)
        want = torch.autograd.grad((slow * weights).sum(), list(into.values()))
        assert torch.allclose(fast, slow, atol=1e-12)
        for name, a, b in zip(into, got, want, strict=True):
            assert torch.allclose(a, b, atol=1e-10), name
            assert b.abs().max() > 0, name


def test_gradcheck():
    mix = ranked(nn.Conv2d(8, 8, 3, padding=1).double(), shared=1, routed=1, active=1, zero=1)
    mix.model.double()  # the router, too
    x, told = rand(2, 8, 3, 3, dtype=torch.float64).requires_grad_(), scores(2).double().requires_grad_()

    def run(x, told, *_):
        with mix.given(told):
            return mix.model(x)

    assert torch.autograd.gradcheck(run, (x, told, *mix.parameters()))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2)])
def test_small_maps(size):
    mix = ranked(CONVOLUTIONS[0])
    (one,) = mix.layers.values()
    for form in (torch.contiguous_format, torch.channels_last):
        x = rand(2, 32, *size).to(memory_format=form)
        with mix.given(scores(2)):
            assert torch.allclose(mix.model(x), rank_by_rank(one, x, one.told.now()), atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(24, 20), CONVOLUTIONS[0]], ids=["linear", "conv"])
def test_half_precision(layer):
    mix, x = ranked(layer), inputs(layer)[0]
    (one,) = mix.layers.values()
    last = one.router.last.detach().clone()
    with mix.given(scores(3)):
        exact, gates = mix.model(x).detach(), one.told.now()
    near = 0.05 * float(exact.abs().max())
    with torch.autocast("cpu", torch.bfloat16), mix.given(scores(3)):
        assert torch.equal(one.told.now(), gates)
        made = mix.model(x)
    assert made.dtype == torch.bfloat16
    assert (made.float() - exact).abs().max() < near
    mix.model.to(torch.bfloat16)
    assert one.up.dtype == torch.bfloat16
    assert torch.equal(one.router.last, last)  # still float32, and not by way of bfloat16
    assert one.router.shares.dtype == torch.float32
    with mix.given(scores(3)):
        assert torch.equal(one.told.now(), gates)
        made = mix.model(x.bfloat16())
    assert (made.float() - exact).abs().max() < near


def test_half_precision_rounds_factors_and_not_gates():
    mix = ranked(nn.Linear(24, 20))
    (one,) = mix.layers.values()
    (gates,) = mix.gates(scores(1)).values()
    mix.model.to(torch.bfloat16)
    exact = (one.up.double() * gates.double()) @ one.down.double()
    for told in (gates, gates.double()):
        torch.testing.assert_close(one.delta(told).double(), exact, rtol=1e-5, atol=1e-5)


def test_factors_of_a_half_precision_model_are_float32():
    layer = nn.Linear(24, 20).bfloat16()
    mix = mix_of_ranks(layer, "", **SMALL)
    (one,) = mix.layers.values()
    assert one.weight.dtype == torch.bfloat16
    assert one.down.dtype == one.up.dtype == one.router.last.dtype == torch.float32
    x = rand(2, 24).bfloat16()
    with mix.given(scores(2)):
        assert torch.equal(mix.model(x), layer(x))


def test_gates_are_about_one_at_the_start():
    torch.manual_seed(0)
    mix = mix_of_ranks(nn.Linear(256, 256), "", scores=S)
    (gates,) = mix.gates(scores(1)).values()
    assert gates.shape == (1, PAPER.total)
    assert torch.equal(gates[:, :8], torch.ones(1, 8))
    on = gates[gates > 0]
    assert (on - 1).abs().max() < 0.1
    assert 8 + 4 <= len(on) <= 16


def decided(logits: list[float], **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Gates and the experts that were chosen, where a router has these scores for every picture."""
    torch.manual_seed(0)
    mix = mix_of_ranks(nn.Linear(64, 64), "", scores=S, **options)
    (one,) = mix.layers.values()
    with torch.no_grad():
        one.router.last.zero_()
        one.router.last[:, -1] = torch.tensor(logits)  # of the constant
    with mix.given(scores(1)):
        (routing,) = mix.routings().values()
        return one.told.now()[0], routing.chosen[0, 0]


def test_gate_norms():
    plan = {"shared": 1, "routed": 3, "active": 3, "zero": 2}
    p = torch.tensor([2.0, -1, 1, 3, -5]).softmax(0)  # chosen: expert 3, which is a zero one, 0 and 2
    gates, chosen = decided([2, -1, 1, 3, -5], **plan)
    assert chosen.tolist() == [3, 0, 2]
    assert torch.allclose(gates, torch.stack([torch.ones(()), 5 * p[0], torch.zeros(()), 5 * p[2]]))
    gates, _ = decided([2, -1, 1, 3, -5], gate_norm="topk", **plan)
    share = torch.tensor([2.0, 1, 3]).softmax(0)
    assert torch.allclose(gates, torch.stack([torch.ones(()), share[0], torch.zeros(()), share[1]]))
    gates, _ = decided([2, -1, 1, 3, -5], gate_norm="real", **plan)
    share = torch.tensor([2.0, 1]).softmax(0)
    assert torch.allclose(gates, torch.stack([torch.ones(()), share[0], torch.zeros(()), share[1]]))


@pytest.mark.parametrize("norm", ["none", "topk", "real"])
def test_only_zero_experts(norm):
    for active in (1, 2):
        plan = {"shared": 2, "routed": 3, "active": active, "zero": 2}
        gates, chosen = decided([0, 0, 0, 9, 8], gate_norm=norm, **plan)
        assert min(chosen.tolist()) >= 3
        assert gates.tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("active", [1, 2])
def test_only_zero_experts_leave_finite_gradients(active):
    torch.manual_seed(0)
    mix = mix_of_ranks(nn.Linear(64, 64), "", 5, 2, 3, active, 2, scores=S, gate_norm="real")
    (one,) = mix.layers.values()
    with torch.no_grad():
        one.up.normal_()
        one.router.last[3:, -1] = 9
    with mix.given(scores(2)):
        assert bool(mix.routings()[""].weights.isfinite().all())
        mix.model(rand(2, 64)).sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in mix.parameters())


@pytest.mark.parametrize("norm", ["none", "topk", "real"])
def test_ties_go_to_the_first(norm):
    gates, chosen = decided([0.0] * 6, gate_norm=norm, shared=1, routed=4, active=2, zero=2)
    assert chosen.tolist() == [0, 1]
    assert torch.allclose(gates, torch.tensor([1, 1.0, 1, 0, 0] if norm == "none" else [1, 0.5, 0.5, 0, 0]))


def test_zero_experts_of_the_routed_and_experts_of_several_ranks():
    gates, chosen = decided(
        [0, 1, 2, 3], shared=1, routed=4, active=2, zero=1, zero_inside_routed=True, expert_rank=3, gate_norm="topk"
    )
    assert chosen.tolist() == [3, 2]  # 3 is a zero expert
    share = torch.tensor([2.0, 3]).softmax(0)[0]
    assert torch.allclose(gates, torch.tensor([1.0, *[0] * 6, *[share] * 3]))


@pytest.mark.parametrize("norm", ["none", "topk", "real"])
def test_gradients_reach_routers(norm):
    mix = ranked(nn.Linear(24, 20), gate_norm=norm)
    with mix.given(scores(4)):
        mix.model(rand(4, 24)).square().sum().backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in mix.parameters())
    assert mix.model.weight.grad is None


@pytest.mark.parametrize("hidden", [None, 5])
def test_a_clean_picture_has_a_choice_of_its_own(hidden):
    torch.manual_seed(0)
    mix = mix_of_ranks(nn.Linear(64, 64), "", hidden=hidden, **SMALL)
    with mix.given(torch.zeros(1, S)):
        (routing,) = mix.routings().values()
    assert len(routing.logits.unique()) == 8
    routing.logits[0, 0, 7].backward()
    assert float(sum(p.grad.abs().sum() for p in mix.routers())) > 0


def test_noise_acts_in_training_alone():
    mix = ranked(nn.Linear(64, 64), noise=5.0)
    chosen = []
    for training in (True, False, False):
        mix.model.train(training)
        with mix.given(scores(6)):
            chosen.append(next(iter(mix.routings().values())).chosen)
    assert torch.equal(chosen[1], chosen[2])
    assert not torch.equal(chosen[0], chosen[1])
    mix.model.train()
    assert torch.equal(mix.gates(scores(1))[""], mix.gates(scores(1))[""])  # what is merged is never noisy


def test_batches_and_scores_must_agree():
    mix = ranked(nn.Linear(24, 20))
    with mix.given(scores(2)), pytest.raises(ShapeError, match="given for 2 pictures, and a layer got 3"):
        mix.model(rand(3, 24))
    with mix.given(scores(1)):  # one row is for all
        every = mix.model(rand(3, 24))
        assert torch.allclose(every[1], mix.model(rand(3, 24)[1:2])[0], atol=1e-6)
    with mix.given(scores(1)), pytest.raises(ShapeError, match="reads batches, with 2 axes"):
        mix.model(rand(24))
    conv = ranked(CONVOLUTIONS[0])
    with conv.given(scores(1)), pytest.raises(ShapeError, match="reads batches, with 4 axes"):
        conv.model(rand(32, 8, 8))
    with pytest.raises(ArgumentError, match=r"with mix.given\(scores\)"):
        mix.model(rand(3, 24))


def test_gates_of_threads():
    told, seen, entered, leave = Told(), {}, threading.Event(), threading.Event()
    told.push(torch.ones(1, 1))

    def work():
        seen["before"] = told.now()
        told.push(torch.zeros(1, 1))
        seen["own"] = told.now()
        entered.set()
        leave.wait(10)
        told.pop()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(10)
    assert float(told.now()) == 1
    leave.set()
    thread.join()
    assert float(seen["before"]) == 1  # of the only thread that has some
    assert float(seen["own"]) == 0
    assert copy.deepcopy(told).now() is None
    assert pickle.loads(pickle.dumps(told)).now() is None
    told.pop()
    assert told.now() is None


def test_layers_are_what_they_replace():
    old = nn.Conv2d(32, 36, 3, stride=2, padding=1)
    new = RankedConv2d(old, Ranks(shared=1, routed=2, active=1, zero=1), S)
    assert isinstance(new, nn.Conv2d)
    assert new.weight is old.weight
    assert (new.stride, new.kernel_size, new.padding) == (old.stride, old.kernel_size, old.padding)
    assert "ranks=3, shared=1, routed=2, zero=1" in repr(new)
    linear = RankedLinear(nn.Linear(4, 3, bias=False), Ranks(shared=1, routed=0, active=0, zero=0), S)
    assert linear.bias is None
    assert linear.router is None


@pytest.mark.parametrize(
    ("plan", "most", "counts"),
    [
        (PAPER, 40, (8, 32, 8, 4, 1)),
        (PAPER, 20, (4, 16, 4, 2, 1)),
        (PAPER, 80, (16, 64, 16, 8, 1)),
        (PAPER, 24, (5, 19, 5, 2, 1)),
        (PAPER, 5, (1, 4, 1, 1, 1)),
        (PAPER, 0, (1, 1, 1, 1, 1)),
        (Ranks(shared=40, routed=0, active=0, zero=0), 7, (7, 0, 0, 0, 1)),
        (Ranks(shared=40, routed=0, active=0, zero=0), 0, (1, 0, 0, 0, 1)),
        (Ranks(shared=0, routed=5, active=2, zero=0, expert_rank=8), 20, (0, 5, 2, 0, 4)),
        (Ranks(shared=0, routed=5, active=2, zero=0, expert_rank=8), 3, (0, 3, 1, 0, 1)),
        (Ranks(shared=8, routed=32, active=8, zero=4, zero_inside_routed=True), 18, (4, 16, 4, 2, 1)),
    ],
)
def test_narrow_layers(plan, most, counts):
    made = plan.fitted(most)
    assert (made.shared, made.routed, made.active, made.zero, made.expert_rank) == counts
    assert made.total <= max(most, 2)


def test_a_quarter_of_the_full_rank():
    assert PAPER.fitted_to(9 * 320, 320) is PAPER
    assert PAPER.fitted_to(9 * 96, 96).total == 24
    assert PAPER.fitted_to(9 * 320, 4).total == 2
    assert PAPER.fitted_to(27, 320).total == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shared": -1}, "shared is a whole number"),
        ({"routed": 2.0}, "routed is a whole number"),
        ({"active": 0}, "active is 0"),
        ({"active": 9}, "active is 9, but there are 8 experts"),
        ({"zero": 6, "zero_inside_routed": True}, "all 6 routed experts are zero"),
        ({"routed": 0}, "without routed ranks active and zero are 0"),
        ({"shared": 0, "routed": 0, "active": 0, "zero": 0}, "no adapter"),
        ({"gate_norm": "softmax"}, "gate_norm is 'none'"),
        ({"hidden": 0}, "hidden is a whole number"),
        ({"noise": -1.0}, "noise is a standard deviation"),
        ({"noise": float("nan")}, "noise is a standard deviation"),
        ({"expert_rank": 0}, "expert_rank is a whole number"),
        ({"zero_inside_routed": 1}, "zero_inside_routed is True or False"),
        ({"routed": 4096, "expert_rank": 2}, "4096 are the most"),
    ],
)
def test_wrong_plans(options, says):
    with pytest.raises(ArgumentError, match=says):
        Ranks(**{"shared": 2, "routed": 6, "active": 3, "zero": 2, **options})
