"""Each control by itself on a record, then on a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing import controls
from moesaic.routing.collect import collect, recording, routed_layers
from moesaic.routing.controls import control
from moesaic.routing.convert import sparsify
from moesaic.routing.record import Routing
from moesaic.routing.usage import Usage


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def decision():
    """Three pictures on a grid of 2x2, four experts, two of which act."""
    logits = 2 * torch.randn(3, 4, 4, generator=seeded(1))
    p = logits.softmax(-1)
    top, chosen = p.topk(2, dim=-1)
    return Routing(weights=top / top.sum(-1, True), chosen=chosen, probabilities=p, logits=logits, grid=(2, 2))


def weights_are_whole(routing):
    torch.testing.assert_close(routing.weights.sum(-1), torch.ones(routing.weights.shape[:2]))
    torch.testing.assert_close(routing.probabilities.sum(-1), torch.ones(routing.weights.shape[:2]))
    assert routing.logits.isfinite().all()
    for chosen in routing.chosen.flatten(0, 1).tolist():
        assert len(set(chosen)) == len(chosen)


class TestShuffled:
    def test_no_place_keeps_its_decision_and_none_is_lost(self, decision):
        before = decision.dense().flatten(0, 1)
        for seed in range(20):
            got = controls.shuffled(decision, seeded(seed))
            after = got.dense().flatten(0, 1)
            assert not (after == before).all(-1).any()
            assert sorted(map(tuple, after.tolist())) == sorted(map(tuple, before.tolist()))
            weights_are_whole(got)

    def test_all_parts_of_a_decision_move_together(self, decision):
        got = controls.shuffled(decision, seeded())
        torch.testing.assert_close(got.logits.softmax(-1), got.probabilities)
        torch.testing.assert_close(got.chosen[..., 0], got.probabilities.argmax(-1))

    def test_places_cross_from_picture_to_picture(self, decision):
        got = controls.shuffled(decision, seeded())
        own = [
            {tuple(row) for row in a.tolist()} & {tuple(row) for row in b.tolist()}
            for a, b in zip(decision.logits, got.logits, strict=True)
        ]
        assert any(len(kept) < 4 for kept in own)

    def test_a_single_place(self, decision):
        one = Routing(
            **{name: getattr(decision, name)[:1, :1] for name in ("weights", "chosen", "probabilities", "logits")},
            grid=(1, 1),
        )
        with pytest.raises(ShapeError, match="two places"):
            controls.shuffled(one, seeded())


def test_uniform(decision):
    got = controls.uniform(decision)
    assert torch.equal(got.dense(), torch.full((3, 4, 4), 0.25))
    weights_are_whole(got)


class TestRandom:
    def test_k_distinct_experts_of_equal_weight(self, decision):
        got = controls.random(decision, seeded())
        assert (got.weights == 0.5).all()
        assert got.chosen.shape == decision.chosen.shape
        weights_are_whole(got)

    def test_even_and_independent_of_the_gate(self, decision):
        usage = Usage()
        generator = seeded()
        for _ in range(200):
            usage.add(controls.random(decision, generator))
        torch.testing.assert_close(usage.patch_share, torch.full((4,), 0.5).double(), atol=0.05, rtol=0)
        assert usage.position_information < 0.01

    def test_seed(self, decision):
        same = [controls.random(decision, seeded(3)).chosen for _ in range(2)]
        assert torch.equal(*same)


class TestByPosition:
    def test_by_hand(self, decision):
        means = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.25, 0.25], [0.7, 0.0, 0.0, 0.3]])
        got = controls.by_position(decision, means)
        assert got.chosen[:, 0].tolist() == [[0, 1]] * 3
        torch.testing.assert_close(got.weights[2, 0], torch.tensor([2 / 3, 1 / 3]))
        assert got.chosen[:, 1].tolist() == [[3, 2]] * 3
        torch.testing.assert_close(got.probabilities[1], means)
        weights_are_whole(got)

    def test_means_of_another_grid(self, decision):
        with pytest.raises(ShapeError, match=r"\(4, 4\) for 4 places and 4 experts, not \(9, 4\)"):
            controls.by_position(decision, torch.zeros(9, 4))


def test_forced(decision):
    got = controls.forced(decision, 2)
    assert torch.equal(got.dense(), torch.eye(4)[2].expand(3, 4, 4))
    with pytest.raises(ArgumentError, match="forced:4 asks for an expert that is not there: 0 to 3"):
        controls.forced(decision, 4)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return sparsify(plain, "*", experts=3, k=1, grid=2, initial="fresh").eval()


@pytest.fixture
def x():
    return torch.rand(2, 3, 8, 8, generator=seeded(4))


@torch.no_grad()
def decided(model, x):
    with recording(model):
        y = model(x)
    return y, collect(model)


class TestOnAModel:
    def test_none_changes_nothing(self, model, x):
        plain, _ = decided(model, x)
        with control(model, "none"):
            assert torch.equal(decided(model, x)[0], plain)

    @pytest.mark.parametrize("name", ["shuffled", "uniform", "random", "forced:1"])
    def test_within_the_block_only(self, model, x, name):
        plain, _ = decided(model, x)
        with control(model, name):
            changed, routings = decided(model, x)
        assert not torch.equal(changed, plain)
        assert len(routings) == 2
        assert torch.equal(decided(model, x)[0], plain)

    def test_forced_and_uniform_act_in_every_layer(self, model, x):
        with control(model, "forced:1"):
            assert all((one.chosen == 1).all() for one in decided(model, x)[1].values())
        with control(model, "uniform"):
            assert all((one.dense() == 1 / 3).all() for one in decided(model, x)[1].values())

    def test_position(self, model, x):
        usages = {name: Usage() for name in routed_layers(model)}
        for name, routing in decided(model, x)[1].items():
            usages[name].add(routing)
        means = {name: usage.position_probabilities for name, usage in usages.items()}
        with control(model, "position", positions=means):
            routings = decided(model, x)[1]
        for name, routing in routings.items():
            assert torch.equal(routing.chosen[0], routing.chosen[1])  # the same for every picture
            assert torch.equal(routing.chosen[0, :, 0], means[name].argmax(-1))

    def test_same_seed_same_output(self, model, x):
        outputs = []
        for seed in (5, 5, 6):
            with control(model, "random", seed=seed):
                outputs.append(decided(model, x)[0])
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], outputs[2])

    def test_blocks_within_blocks_and_errors_put_back_what_was_there(self, model):
        layers = list(routed_layers(model).values())
        with control(model, "uniform"):
            with pytest.raises(RuntimeError), control(model, "forced:0"):
                raise RuntimeError
            assert all(layer.control is controls.uniform for layer in layers)
        assert all(layer.control is None for layer in layers)

    @pytest.mark.parametrize("name", ["unifrom", "forced", "forced:", "forced:-1", "forced:x", ""])
    def test_unknown_names(self, model, name):
        with (
            pytest.raises(ArgumentError, match=r"is unknown; choose one of none, shuffled, uniform, random, position"),
            control(model, name),
        ):
            pass

    def test_an_expert_that_is_not_there(self, model):
        with pytest.raises(ArgumentError, match="experts 0 to 2"), control(model, "forced:3"):
            pass

    def test_position_without_means_leaves_the_model_alone(self, model):
        with pytest.raises(ArgumentError, match="positions lacks"), control(model, "position", positions={}):
            pass
        assert all(layer.control is None for layer in routed_layers(model).values())

    def test_a_model_without_routing(self):
        with pytest.raises(ArgumentError, match="no routed layer"), control(nn.Conv2d(1, 1, 1), "uniform"):
            pass


@pytest.mark.parametrize("seed", [-1, 2**63, "x", 1.5, None])
def test_seeds_that_cannot_be(model, seed):
    with pytest.raises(ArgumentError, match="seed is a whole number from 0 to"), control(model, "random", seed=seed):
        pytest.fail("no such seed")
