import copy
import itertools

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.restore.gate_fit import Trials, fit_gates, highest_price, try_experts
from moesaic.restore.network import MoceLite
from moesaic.routing.collect import collect, recording, routed_layers
from moesaic.routing.controls import control


def tiny(seed: int = 0, **options) -> MoceLite:
    """A small network whose head and heads say something, as after training."""
    torch.manual_seed(seed)
    network = MoceLite(**{"width": 8, "encoder": (1, 1, 1), "middle": 1} | options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.15 + (parameter.ndim == 1) * parameter)
    return network


def pictures(count: int, height: int = 32, width: int = 48, seed: int = 1) -> torch.Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed))


def test_it_begins_at_the_picture():
    x = pictures(2)
    assert torch.equal(MoceLite(width=8, encoder=(1, 1, 1), middle=1).eval()(x), x)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 31), (33, 16), (48, 64)])
def test_pictures_of_any_size(size):
    restored = tiny()(pictures(1, *size))
    assert restored.shape == (1, 3, *size)
    assert restored.isfinite().all()


@torch.no_grad()
def test_a_batch_equals_its_pictures_one_by_one():
    network, x = tiny(), pictures(6)
    with recording(network):
        together = network(x)
        chosen = torch.cat([routing.chosen[:, :, 0] for routing in collect(network).values()], 1)
    assert len(chosen.unique(dim=0)) > 1  # else nothing is dispatched
    alone = torch.cat([network(one[None]) for one in x])
    torch.testing.assert_close(together, alone, atol=1e-5 * float(together.abs().max()), rtol=0)


@torch.no_grad()
def test_looking_decides_as_restoring_does():
    network, x = tiny(), pictures(4)
    decision = network.look([x])
    with recording(network):
        direct = network(x)
        routings = collect(network)
    assert list(decision.routings) == list(routings)
    for name, routing in routings.items():
        assert torch.equal(decision.routings[name].chosen, routing.chosen)
    torch.testing.assert_close(network(x, decision), direct, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_pieces_count_by_their_pixels():
    network, x = tiny(), pictures(1, 32, 64)
    halves = network.look([x[..., :16], x[..., 16:]]).summary
    wanted = (network.look([x[..., :16]]).summary + 3 * network.look([x[..., 16:]]).summary) / 4
    torch.testing.assert_close(halves, wanted)


@torch.no_grad()
def test_a_decision_is_imposed_on_tiles():
    network, x = tiny(), pictures(2, 64, 64)
    decision = network.look([x[:1]])
    tiles = torch.cat([x[:1, :, :32], x[:1, :, 32:]])
    with recording(network):
        network(tiles, decision)
        for name, routing in collect(network).items():
            assert (routing.chosen == decision.routings[name].chosen).all()
    assert all(layer.control is None for layer in routed_layers(network).values())
    with pytest.raises(ShapeError, match="not one for 3"):
        network(pictures(3), network.look([x]))


@torch.no_grad()
def test_tiles_equal_the_whole():
    """With one decision, a pixel depends on what is around it and on nothing else of its tile."""
    network, x = tiny(), pictures(1, 32, 1024)
    decision = network.look([x])
    whole = network(x, decision)
    part = network(x[..., 256:768], decision)
    torch.testing.assert_close(part[..., 224:288], whole[..., 480:544], atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_pictures_encoded_once_are_decoded_with_any_experts():
    network, x = tiny(), pictures(3, 17, 31)
    held = network.encoded(x)
    assert (held.size, held.padded.shape, held.reading.shape) == ((17, 31), (3, 3, 32, 32), (3, 128))
    torch.testing.assert_close(network.decoded(held, [torch.full((3,), -1)] * 3), network(x), rtol=0, atol=0)
    features = [level.clone() for level in held.features]
    for expert in range(5):
        with control(network, f"forced:{expert}"):
            forced = network(x)
        torch.testing.assert_close(network.decoded(held, [torch.full((3,), expert)] * 3), forced)
    assert all(map(torch.equal, held.features, features))  # nothing was changed in place
    assert all(layer.control is None for layer in routed_layers(network).values())


@torch.no_grad()
def test_each_picture_of_a_batch_has_experts_of_its_own():
    network, x = tiny(), pictures(3)
    paths = [torch.tensor([0, 4, -1]), torch.tensor([2, 2, -1]), torch.tensor([4, -1, 1])]
    together = network.decoded(network.encoded(x), paths)
    alone = [network.decoded(network.encoded(x[i : i + 1]), [path[i : i + 1] for path in paths]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5 * float(together.abs().max()), rtol=0)


@torch.no_grad()
def test_cost_is_what_the_experts_leave():
    network, x = tiny(), pictures(2)
    top = [torch.full((2,), gate.experts - 1) for gate in network.gates()]
    with recording(network):
        network.decoded(network.encoded(x), top)
        torch.testing.assert_close(network.cost(collect(network)), torch.ones(2))
        network.decoded(network.encoded(x), [0 * one for one in top])
        torch.testing.assert_close(network.cost(collect(network)), torch.full((2,), network.fixed_cost))
    assert 0.3 <= 1 - MoceLite().fixed_cost <= 0.5  # the share of the decoder that skipping can save


def test_cost_agrees_with_counted_multiply_adds():
    from moesaic.restore.cost import macs

    network = tiny()
    names = list(routed_layers(network))
    most = [gate.experts - 1 for gate in network.gates()]
    dearest = macs(network, 64, 96, experts=dict(zip(names, most, strict=True)))
    cheapest = macs(network, 64, 96, experts=dict.fromkeys(names, 0))
    saved = sum(float(gate.costs[-1]) for gate in network.gates())
    decoder = (dearest - cheapest) / saved  # of the dearest decoder, told from what skipping saves
    assert network.fixed_cost == pytest.approx(1 - saved, abs=1e-6)
    assert 0 < decoder < dearest


@torch.no_grad()
def test_controls_act():
    network, x = tiny(), pictures(1)
    outcomes = []
    for expert in range(5):
        with control(network, f"forced:{expert}"):
            outcomes.append(network(x))
    assert len({float(outcome.sum()) for outcome in outcomes}) == 5
    null = network.decoded(network.encoded(x), [torch.zeros(1, dtype=torch.int64)] * 3)
    torch.testing.assert_close(outcomes[0], null)


class TestPrice:
    @torch.no_grad()
    def test_a_higher_price_never_costs_more(self):
        network, x = tiny(), pictures(8)
        costs = []
        for price in (0.0, 0.5, 5.0, 1000.0):
            network.price = price
            costs.append(network.look([x]).cost)
        for dear, cheap in itertools.pairwise(costs):
            assert (cheap <= dear).all()
        torch.testing.assert_close(costs[-1], torch.full((8,), network.fixed_cost))
        assert network.price == 1000.0

    def test_gains_are_against_expert_0(self):
        gate = next(tiny().gates())
        assert (gate.gains(torch.randn(4, 128))[:, 0] == 0).all()


class TestTraining:
    def test_exploring_draws_all_experts_and_repeats_by_its_seed(self):
        network, x = tiny().train(), pictures(64, 16, 16)

        def chosen(seed: int, explore: float) -> torch.Tensor:
            outcome = network.training_pass(x, explore, torch.Generator().manual_seed(seed))
            return torch.cat([routing.chosen[:, :, 0] for routing in outcome.routings.values()], 1)

        assert torch.equal(chosen(3, 1.0), chosen(3, 1.0))
        assert not torch.equal(chosen(3, 1.0), chosen(4, 1.0))
        paths = chosen(3, 1.0)
        assert set(paths.flatten().tolist()) == {0, 1, 2, 3, 4}
        assert 10 <= int((paths == 4).all(1).sum()) <= 35  # a third take the dearest everywhere
        assert torch.equal(chosen(3, 0.0), chosen(4, 0.0))

    def test_every_parameter_but_the_gates_learns_while_exploring(self):
        network = tiny().train()
        outcome = network.training_pass(pictures(64, 16, 16), 1.0, torch.Generator().manual_seed(0))
        (outcome.restored.sum() + outcome.present.sum() + outcome.severity.sum()).backward()
        silent = {name for name, parameter in network.named_parameters() if parameter.grad is None}
        silent |= {name for name, p in network.named_parameters() if p.grad is not None and not p.grad.any()}
        assert silent
        assert all(".gate." in name for name in silent)

    def test_gates_learn_through_their_weight_and_the_expected_cost(self):
        network = tiny().train()
        outcome = network.training_pass(pictures(4), 0.0)
        (outcome.restored.square().sum() + outcome.expected_cost).backward()
        assert all(gate.last.weight.grad.any() for gate in network.gates())

    def test_the_mode_matters(self):
        with pytest.raises(ArgumentError, match="train"):
            tiny().training_pass(pictures(1), 1.0)


class TestGateFit:
    def test_gates_foretell_what_experts_gain(self):
        """On gains that follow from the reading, a gate learns them; on noise, it learns the mean."""
        network = tiny()
        generator = torch.Generator().manual_seed(0)
        readings = torch.randn((5000, 128), generator=generator)
        told = torch.stack([0 * readings[:, 0], *(readings[:, i] for i in range(4))], 1) * 0.3
        noise = torch.randn((5000, 5), generator=generator) * 0.3
        noise[:, 0] = 0
        gains = torch.stack([told, noise, told])
        trials = Trials(readings=readings, gains=gains, errors=torch.zeros(5000))
        before = copy.deepcopy(network.state_dict())
        foretold = fit_gates(network, trials, seed=0, steps=600)
        assert foretold["level_0"] > 0.8
        assert foretold["level_2"] > 0.8
        assert -0.02 < foretold["level_1"] < 0.1
        changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert all(".gate." in name for name in changed)

    def test_the_price_keeps_what_is_lost_within_bounds(self):
        network = tiny()
        readings = torch.zeros(100, 128)
        gains = torch.tensor([0.0, 0.1, 0.2, 0.25, 0.26]).expand(3, 100, 5)
        trials = Trials(readings=readings, gains=gains, errors=torch.zeros(100))
        fit_gates(network, trials, seed=0, steps=400)
        low, high = (highest_price(network, trials, tolerance) for tolerance in (0.0, 0.4))
        assert low < high
        for price, tolerance in ((low, 0.0), (high, 0.4)):
            network.price = price
            chosen = [gate(readings[:1, :, None, None], (1, 1)) for gate in told(network, readings[:1])]
            lost = sum(0.26 - float(gains[0, 0, int(routing.chosen)]) for routing in chosen)
            assert lost <= tolerance + 1e-6

    @torch.no_grad()
    def test_trials_try_every_expert_on_the_same_picture(self):
        network, x = tiny(), pictures(4)
        trials = try_experts(network, [(x, x.flip(0))], generator=torch.Generator().manual_seed(0))
        assert trials.gains.shape == (3, 4, 5)
        assert (trials.gains[..., 0] == 0).all()
        errors = []
        for expert in (0, 3):  # picture 0 has the dearest experts at the other levels
            path = [torch.tensor([4]), torch.tensor([expert]), torch.tensor([4])]
            restored = network.decoded(network.encoded(x[:1]), path).clamp(0, 1)
            errors.append((restored - x[3:]).square().mean())
        assert float(trials.gains[1, 0, 3]) == pytest.approx(float(10 * (errors[0] / errors[1]).log10()), abs=1e-3)

    @torch.no_grad()
    def test_trials_run_in_the_precision_of_the_run_and_errors_stay_in_float32(self):
        network, x = tiny(), pictures(4)
        fine, coarse = (
            try_experts(network, [(x, x.flip(0))], generator=torch.Generator().manual_seed(0), precision=precision)
            for precision in ("float32", "bfloat16")
        )
        for name in ("readings", "gains", "errors"):
            first, second = getattr(fine, name), getattr(coarse, name)
            assert first.dtype == second.dtype == torch.float32
            assert not torch.equal(first, second)
            torch.testing.assert_close(first, second, atol=0.05, rtol=0.05)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            restored = network.decoded(network.encoded(x), [torch.full((4,), 4)] * 3)
        wanted = (restored.float().clamp(0, 1) - x.flip(0)).square().mean((1, 2, 3))
        torch.testing.assert_close(coarse.errors, wanted, atol=0, rtol=0)


def told(network: MoceLite, reading: torch.Tensor):
    for gate in network.gates():
        with gate.conditioned(reading):
            yield gate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width"),
        ({"width": 2.5}, "width"),
        ({"encoder": (1, 1)}, "encoder"),
        ({"middle": -1}, "middle"),
        ({"ranks": ()}, "scales"),
        ({"scales": [[1], [1], [1]]}, "scales"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        MoceLite(**options)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8)])
def test_no_pictures(shape):
    with pytest.raises(ShapeError, match="pictures to restore"):
        tiny()(torch.zeros(shape))


def test_arms_for_comparison():
    dense = MoceLite(width=8, ranks=(5.75,), null=False)
    assert [gate.experts for gate in dense.gates()] == [1, 1, 1]
    assert dense.look([pictures(1)]).cost.item() == pytest.approx(1.0)
    equal = MoceLite(width=8, ranks=(1.5,) * 4, scales=[[2] * 4] * 3)
    assert len({round(float(cost), 6) for cost in next(equal.gates()).costs[1:]}) == 1


@pytest.mark.parametrize("price", [-1, 1001, float("nan"), "3", True, None])
def test_a_price_is_a_number_to_1000(price):
    network = tiny()
    with pytest.raises(ArgumentError, match="price is a number of dB from 0 to 1000, not"):
        network.price = price
    assert network.price == 0
    with pytest.raises(ArgumentError, match="price is a number"):
        tiny(price=price)


@pytest.mark.parametrize("rank", [0, -1, float("nan"), float("inf"), "1"])
def test_ranks_are_numbers_above_0(rank):
    with pytest.raises(ArgumentError, match="ranks are numbers above 0"):
        tiny(ranks=(0.5, rank))
