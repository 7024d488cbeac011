from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import pad

from moesaic.errors import ArgumentError, MoesaicError, ShapeError
from moesaic.restore.picture_gate import picture_gates
from moesaic.restore.published import MoceIR
from moesaic.routing import balance_loss, collect, recording, routed_layers
from moesaic.routing.audit import audit
from moesaic.routing.balance import cost_weighted, importance, load
from moesaic.routing.controls import control
from moesaic.routing.resampling import PictureScores

SMALL = {"blocks": (1, 1, 1, 1), "decoder_blocks": (2, 1, 1), "heads": (1, 1, 2, 2), "refinement": 1}


def tiny(seed: int = 0, **options) -> MoceIR:
    """A network of 8 channels whose routers are surer than at the start, so that rounding hardly flips a choice."""
    torch.manual_seed(seed)
    network = MoceIR(8, **{**SMALL, **options})
    with torch.no_grad():
        for gate in picture_gates(network).values():
            gate.level.mul_(8)
            gate.detail.mul_(30)
    return network.eval()


def pictures(count: int, height: int = 24, width: int = 16, seed: int = 0) -> torch.Tensor:
    """Plain colours under noise that differs in strength, so that pictures differ in level and detail."""
    generator = torch.Generator().manual_seed(seed)
    colour, strength = (
        2 * torch.rand(count, 3, 1, 1, generator=generator),
        torch.rand(count, 1, 1, 1, generator=generator),
    )
    return colour + strength * torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Maps this small gain nothing from threads, and lose much where others use the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> MoceIR:
    return tiny()


def choices(network: MoceIR, x: torch.Tensor) -> torch.Tensor:  # (layers, B)
    with torch.no_grad(), recording(network):
        network(x)
    return torch.stack([routing.chosen[:, 0, 0] for routing in collect(network).values()])


class TestSizes:
    @pytest.mark.parametrize(("width", "count"), [(32, 11_477_755), (48, 25_353_799)], ids=["S", "full"])
    def test_parameters_of_the_published_sizes(self, width, count):
        with torch.device("meta"):
            network = MoceIR(width)
        assert sum(p.numel() for p in network.parameters()) == count  # 11.478 M and 25.354 M
        assert len(routed_layers(network)) == 10
        within = sum(p.numel() for layer in routed_layers(network).values() for p in layer.experts.parameters())
        assert round(within / 1e6, 3) == {32: 1.095, 48: 2.331}[width]
        latent = sum(p.numel() for p in network.latent.parameters())
        assert latent / count == pytest.approx(0.47, abs=0.01)

    @pytest.mark.parametrize("size", [(1, 1), (3, 9), (7, 40), (16, 8), (17, 23)])
    def test_pictures_of_any_size(self, network, size):
        x = pictures(2, *size)
        with torch.no_grad():
            y = network(x)
            assert y.shape == x.shape
            assert y.isfinite().all()
            bottom, right = -size[0] % 8, -size[1] % 8
            mode = "reflect" if bottom < size[0] and right < size[1] else "replicate"
            want = network(pad(x, (0, right, 0, bottom), mode=mode))[..., : size[0], : size[1]]
        torch.testing.assert_close(y, want)

    def test_it_starts_from_the_picture(self, network):
        still, x = copy.deepcopy(network), pictures(2, 9, 9)
        torch.nn.init.zeros_(still.head.weight)
        torch.nn.init.zeros_(still.head.bias)
        assert torch.equal(still(x), x)


class TestChoice:
    def test_a_batch_equals_its_pictures_one_by_one(self, network):
        x = pictures(6)
        assert all(len(layer.unique()) > 1 for layer in choices(network, x)), "no choice, nothing is tested"
        with torch.no_grad():
            together = network(x)
            alone = torch.cat([network(one) for one in x.split(1)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)

    def test_noise_acts_in_training_only(self, network):
        x, learning = pictures(8), copy.deepcopy(network).train()
        torch.manual_seed(0)
        assert torch.equal(choices(network, x), choices(network, x))
        many = torch.stack([choices(learning, x) for _ in range(6)])
        assert (many != many[0]).any()
        assert picture_gates(network).popitem()[1].noise == 0.25

    def test_every_parameter_of_an_acting_expert_learns(self, network):
        learning = copy.deepcopy(network).train()
        with control(learning, "forced:2"):
            learning(pictures(2)).square().sum().backward()
        for layer in routed_layers(learning).values():
            assert all(p.grad is None for p in layer.experts.bank[1].parameters())
            assert all(p.grad.isfinite().all() and p.grad.any() for p in layer.experts.bank[2].parameters())

    def test_the_published_gate_shrinks_what_the_expert_says(self):
        own, published = tiny(), tiny(published_gate=True)
        x = pictures(4)
        with torch.no_grad(), recording(published):
            assert not torch.equal(own(x), published(x))
        for routing in collect(published).values():
            assert torch.equal(routing.weights, routing.probabilities.gather(-1, routing.chosen))
            assert (routing.weights < 1).all()

    def test_forced_experts_differ(self, network):
        x, outputs = pictures(1), []
        for expert in range(4):
            with torch.no_grad(), control(network, f"forced:{expert}"):
                outputs.append(network(x))
        assert all((a - b).abs().max() > 1e-5 for i, a in enumerate(outputs) for b in outputs[:i])

    def test_autocast_decides_as_float32_does(self, network):
        x = pictures(4)
        before = choices(network, x)
        with torch.autocast("cpu", torch.bfloat16):
            after = choices(network, x)
        assert (before == after).float().mean() > 0.7  # the maps they read are rounded, so ties may flip


class TestDecision:
    def test_looking_at_a_picture_decides_as_restoring_does(self, network):
        x = pictures(6)[2:3, :, :21, :13]
        decision = network.look([x])
        assert torch.equal(torch.stack([r.chosen[:, 0, 0] for r in decision.routings.values()]), choices(network, x))
        assert list(decision.routings) == list(routed_layers(network))
        assert decision.summary.shape == (1, 64)
        assert (decision.present, decision.severity) == (None, None)
        assert 0 < decision.cost.item() <= 1
        with torch.no_grad():
            torch.testing.assert_close(network(x, decision), network(x))

    def test_pieces_count_by_their_pixels(self, network):
        a, b = pictures(2, 16, 24)
        pieces = [a[None], b[None, :, :, :8]]
        first, second = (network.look([piece]) for piece in pieces)
        both = network.look(pieces)
        for name, routing in both.routings.items():
            want = 0.75 * first.routings[name].logits + 0.25 * second.routings[name].logits
            torch.testing.assert_close(routing.logits, want)
            torch.testing.assert_close(routing.probabilities, want.softmax(-1))
            assert routing.chosen.item() == want.argmax()
        torch.testing.assert_close(both.summary, 0.75 * first.summary + 0.25 * second.summary)

    def test_one_decision_for_all_tiles(self, network):
        tiles = pictures(6)
        decision = network.look([tiles[:1]])
        assert (choices(network, tiles) != torch.stack([r.chosen[0] for r in decision.routings.values()])[:, 0]).any()
        with torch.no_grad():
            together = network(tiles, decision)
            with recording(network):
                alone = torch.cat([network(tile, decision) for tile in tiles.split(1)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
        got = collect(network)
        assert all(torch.equal(got[name].chosen, r.chosen) for name, r in decision.routings.items())

    def test_a_decision_for_each_picture_of_a_batch(self, network):
        x = pictures(4)
        decision = network.look([x])
        assert decision.cost.shape == (4,)
        with torch.no_grad():
            torch.testing.assert_close(network(x, decision), network(x))

    def test_cost_is_what_the_experts_leave_of_the_dearest_decoder(self, network):
        x, costs = pictures(1), []
        for expert in range(4):
            with control(network, f"forced:{expert}"):
                costs.append(network.look([x]).cost.item())
        assert costs[-1] == pytest.approx(1)
        assert costs == sorted(set(costs))
        assert costs[0] > 0.3

    def test_what_does_not_fit_is_refused(self, network):
        with pytest.raises(ArgumentError, match="pieces is empty"):
            network.look([])
        with pytest.raises(ShapeError, match="of 1 and of 2 pictures"):
            network.look([pictures(1), pictures(2)])
        with pytest.raises(ShapeError, match="3 pictures, the batch holds 2"):
            network(pictures(2), network.look([pictures(3)]))
        with pytest.raises(ArgumentError, match="decision names the layers"):
            network(pictures(2), tiny(decoder_blocks=(1, 1, 1)).look([pictures(1)]))


class TestTraining:
    def test_a_pass_holds_what_a_step_needs(self, network):
        learning, x = copy.deepcopy(network).train(), pictures(4)
        one, again, other = (learning.training_pass(x, 0.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert one.restored.shape == x.shape
        assert torch.equal(one.restored, again.restored)
        assert not torch.equal(one.restored, other.restored)
        assert (one.present, one.severity) == (None, None)
        assert one.cost.shape == (4,)
        assert ((one.cost > 0) & (one.cost <= 1)).all()
        assert one.expected_cost.shape == ()
        one.expected_cost.backward()
        assert all(gate.level.grad.any() for gate in picture_gates(learning).values())
        assert list(one.routings) == list(routed_layers(learning))

    def test_balance_is_the_mean_over_routers_of_the_published_loss(self):
        for weigh in (True, False):
            learning = tiny(balance=0.3, weigh_complexity=weigh).train()
            losses = []
            for name, routing in learning.training_pass(pictures(5)).routings.items():
                bank = learning.get_submodule(name).experts.bank
                sizes = [sum(p.numel() for p in expert.parameters()) for expert in bank]
                costs = [size / max(sizes) for size in sizes]
                first = cost_weighted(routing, costs) if weigh else importance(routing)
                losses.append(0.5 * first + 0.5 * load(routing))
            torch.testing.assert_close(balance_loss(learning), 0.3 * torch.stack(losses).mean())

    def test_audit(self, network):
        x = pictures(12, 8, 8)

        def evaluate(model, seen) -> PictureScores:
            values = []
            for batch in x.split(4):
                with torch.no_grad():
                    values.append(-model(batch).square().mean((1, 2, 3)))
                seen()
            return PictureScores.of_means(torch.cat(values))

        found = audit(network, evaluate, controls=("shuffled", "uniform", "forced"), resamples=50)
        assert len(found.comparisons) == 6
        assert list(found.usage) == list(routed_layers(network))
        assert all(usage.k == 1 for usage in found.usage.values())


class TestRefusals:
    @pytest.mark.parametrize(
        "options",
        [
            {"width": 0},
            {"width": 12},  # the narrowest expert would have 1.5 channels
            {"width": 2.5},
            {"width": 10**6},
            {"heads": (3, 1, 1, 1)},
            {"heads": (1, 1, 1)},
            {"blocks": (1, 0, 1, 1)},
            {"decoder_blocks": (1, 1)},
            {"experts": 0},
            {"refinement": -1},
            {"noise": -0.1},
            {"balance": float("nan")},
        ],
    )
    def test_options(self, options):
        with pytest.raises(ArgumentError):
            MoceIR(**{"width": 8, **SMALL, **options})

    @pytest.mark.parametrize(
        "x",
        [
            torch.zeros(3, 8, 8),
            torch.zeros(1, 1, 8, 8),
            torch.zeros(1, 3, 0, 8),
            torch.zeros(0, 3, 8, 8),
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            torch.zeros(()),
        ],
    )
    def test_pictures(self, network, x):
        decision = network.look([pictures(1)])
        for call in (network, network.training_pass, lambda t: network.look([t]), lambda t: network(t, decision)):
            with pytest.raises(MoesaicError):
                call(x)

    def test_no_refinement(self):
        assert len(tiny(refinement=0).refinement) == 0
