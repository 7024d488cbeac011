from __future__ import annotations

import math
import statistics

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing.balance import (
    COST_LOSSES,
    LOSSES,
    Balance,
    choice_shares,
    cost_weighted,
    degradation_aware,
    entropy,
    expected_cost,
    importance,
    load,
    marginal_entropy,
    switch,
    z_loss,
)
from moesaic.routing.choice import choose
from moesaic.routing.record import Routing

COSTS = (8976.0, 20000.0, 48192.0, 129152.0)  # parameters of MoCE-IR-S's experts, C = 128


def routed(logits, k=2):
    weights, chosen, probabilities = choose(logits, k)
    return Routing(
        weights=weights, chosen=chosen, probabilities=probabilities, logits=logits, grid=(1, logits.shape[1])
    )


def of(probabilities, k=2):
    """A routing with these probabilities (B, P, E)."""
    return routed(torch.as_tensor(probabilities).log(), k)


def at_random(k=2, experts=4, pictures=3, places=5, dtype=torch.float64):
    return routed(torch.randn(pictures, places, experts, dtype=dtype, generator=torch.Generator().manual_seed(1)), k)


def even(experts=4, places=4, k=2):
    """Every place turned to another expert, all experts alike."""
    return of(torch.full((1, places, experts), 0.1) + (1 - 0.1 * experts) * torch.eye(experts)[None, :places], k)


def collapsed(experts=4, places=6):
    logits = torch.full((2, places, experts), -200.0)
    logits[..., 0] = 0
    return routed(logits, 1)


def rows(routing):
    """Probabilities, scores and choices as plain lists, one for each place of the batch."""
    return (tensor.flatten(0, 1).tolist() for tensor in (routing.probabilities, routing.logits, routing.chosen))


def cv2(values):
    return (statistics.stdev(values) / statistics.fmean(values)) ** 2


def entropy_of(p):
    return -sum(x * math.log(x) for x in p)


def phi(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def descended(name, logits):
    """Scores after a while of following the gradient, in steps of one length."""
    for _ in range(80):
        logits = logits.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(LOSSES[name](routed(logits, 1)), logits)
        logits = logits - gradient / (2 * gradient.norm() + 1e-6)
    return logits.detach()


class TestFormulas:
    """Each loss against its sentence, written in plain Python."""

    def test_importance(self):
        routing = at_random()
        p, _, _ = rows(routing)
        assert importance(routing).item() == pytest.approx(cv2([sum(column) for column in zip(*p, strict=True)]))

    @pytest.mark.parametrize("k", [1, 2, 3])
    @pytest.mark.parametrize("noise", [None, 0.7])
    def test_load(self, k, noise):
        routing = at_random(k)
        _, logits, _ = rows(routing)
        mean = [
            statistics.fmean(
                phi((score[j] - sorted(score[:j] + score[j + 1 :])[-k]) / (noise or 1 / 4)) for score in logits
            )
            for j in range(4)
        ]
        assert load(routing, noise).item() == pytest.approx(cv2(mean))

    def test_load_is_the_chance_of_being_chosen(self):
        """One score drawn anew with noise, many times, beside Phi."""
        routing = at_random(k=2, pictures=1, places=1)
        logits = routing.logits[0, 0]
        j, noise, draws = 2, 0.8, 20000
        scores = logits.expand(draws, 4).clone()
        scores[:, j] += noise * torch.randn(draws, generator=torch.Generator().manual_seed(0))
        counted = (scores.topk(2, dim=-1).indices == j).any(-1).double().mean().item()
        rival = sorted(logits[torch.arange(4) != j].tolist())[-2]
        assert counted == pytest.approx(phi((logits[j].item() - rival) / noise), abs=0.01)

    @pytest.mark.parametrize("k", [1, 2])
    def test_switch_counts_first_choices(self, k):
        routing = at_random(k)
        p, _, _ = rows(routing)
        first = [row.index(max(row)) for row in p]
        want = 4 * sum(first.count(j) / 15 * statistics.fmean(row[j] for row in p) for j in range(4)) - 1
        assert switch(routing).item() == pytest.approx(want)

    def test_entropies(self):
        routing = at_random()
        p, _, _ = rows(routing)
        mean = [statistics.fmean(column) for column in zip(*p, strict=True)]
        assert marginal_entropy(routing).item() == pytest.approx(-entropy_of(mean))
        want = statistics.fmean(map(entropy_of, p)) - entropy_of(mean)
        assert entropy(routing).item() == pytest.approx(want)

    def test_z(self):
        routing = at_random()
        _, logits, _ = rows(routing)
        want = statistics.fmean(math.log(sum(map(math.exp, row))) ** 2 for row in logits)
        assert z_loss(routing).item() == pytest.approx(want)

    def test_costs(self):
        routing = at_random()
        p, _, _ = rows(routing)
        sums = [sum(column) for column in zip(*p, strict=True)]
        want = cv2([c * s for c, s in zip(COSTS, sums, strict=True)])
        assert cost_weighted(routing, COSTS).item() == pytest.approx(want)
        assert cost_weighted(routing, torch.tensor(COSTS)).item() == pytest.approx(want)
        want = statistics.fmean(sum(c * x for c, x in zip(COSTS, row, strict=True)) for row in p)
        assert expected_cost(routing, COSTS).item() == pytest.approx(want)

    @pytest.mark.parametrize("zero", [0, 1, 3])
    def test_degradation_aware(self, zero):
        routing, severity = at_random(), [0.2, 1.0, 0.0]
        p, _, chosen = rows(routing)
        count = [sum(place.count(j) for place in chosen) / 30 for j in range(4)]
        want = 4 * statistics.fmean(
            sum((severity[t // 5] if j >= 4 - zero else 1) * count[j] * row[j] for j in range(4))
            for t, row in enumerate(p)
        )
        got = degradation_aware(routing, torch.tensor(severity, dtype=torch.float64), zero)
        assert got.item() == pytest.approx(want)
        torch.testing.assert_close(choice_shares(routing).double(), torch.tensor(count, dtype=torch.float64))
        again = degradation_aware(routing, torch.tensor(severity, dtype=torch.float64), zero, choice_shares(routing))
        torch.testing.assert_close(again, got)


class TestMeaning:
    def test_balanced_is_least(self):
        for loss in (importance, load, switch):
            assert loss(even()).item() == pytest.approx(0, abs=1e-6)
        assert marginal_entropy(even()).item() == pytest.approx(-math.log(4))

    def test_collapse(self):
        routing = collapsed()
        assert importance(routing).item() == pytest.approx(4)  # unbiased CV^2 of one in four
        assert load(routing).item() == pytest.approx(4)
        assert switch(routing).item() == pytest.approx(3)
        assert marginal_entropy(routing).item() == pytest.approx(0)
        assert entropy(routing).item() == pytest.approx(0)

    def test_entropy_wants_decisions_and_marginal_entropy_does_not(self):
        undecided = of(torch.full((2, 4, 4), 0.25))
        assert entropy(undecided).item() == pytest.approx(0, abs=1e-6)
        assert marginal_entropy(undecided).item() == pytest.approx(-math.log(4))
        decided = routed(200 * torch.eye(4)[None])
        assert entropy(decided).item() == pytest.approx(-math.log(4))

    def test_published_figures_of_the_cost_weighted_loss(self):
        """MoCE-IR-S at C = 128, mean of importance and load: always the cheapest 4.0, even 0.55."""
        assert (cost_weighted(collapsed(), COSTS) + load(collapsed())).item() / 2 == pytest.approx(4.0, abs=0.01)
        mean = (cost_weighted(even(), COSTS) + load(even(), 0.25)).item() / 2
        assert mean == pytest.approx(0.55, abs=0.01)
        inverse = torch.tensor([1 / cost for cost in COSTS])
        shares = inverse / inverse.sum()
        assert [round(s, 2) for s in shares.tolist()] == [0.59, 0.26, 0.11, 0.04]
        assert cost_weighted(of(shares.expand(1, 3, 4)), COSTS).item() == pytest.approx(0, abs=1e-6)

    def test_zero_experts_are_free_in_clean_pictures(self):
        routing = even(k=1)
        clean, ruined = (degradation_aware(routing, torch.tensor([s]), 1).item() for s in (0.0, 1.0))
        assert ruined == pytest.approx(1)
        assert clean == pytest.approx(0.75)

    @pytest.mark.parametrize("name", ["importance", "load", "switch", "marginal_entropy"])
    def test_descent_balances_a_gate(self, name):
        torch.manual_seed(0)
        logits = torch.randn(4, 9, 4) / 2 + torch.tensor([1.5, 0.5, 0, 0])
        after = descended(name, logits).softmax(-1).mean((0, 1)).max().item()
        assert after < 0.33 < logits.softmax(-1).mean((0, 1)).max().item()

    def test_descent_of_entropy_makes_each_place_decided(self):
        torch.manual_seed(0)
        p = descended("entropy", torch.randn(4, 9, 4) / 10).softmax(-1)
        assert p.max(-1).values.min() > 0.95
        assert p.mean((0, 1)).max() < 0.5

    def test_z_loss_shrinks_scores(self):
        assert z_loss(routed(10 * torch.randn(1, 9, 4))) > z_loss(routed(torch.randn(1, 9, 4)))


class TestEveryLoss:
    @pytest.mark.parametrize("name", LOSSES)
    @pytest.mark.parametrize("k", [1, 2, 4])
    def test_gradients(self, name, k):
        logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
        assert LOSSES[name](routed(logits, k)).shape == ()
        assert torch.autograd.gradcheck(lambda logits: LOSSES[name](routed(logits, k)), logits)

    @pytest.mark.parametrize("name", LOSSES)
    def test_order_of_places_does_not_matter(self, name):
        routing = at_random()
        flat = routing.logits.flatten(0, 1)
        moved = routed(flat[torch.randperm(15)].view(5, 3, 4))  # places are pooled over the batch
        torch.testing.assert_close(LOSSES[name](moved), LOSSES[name](routing))

    @pytest.mark.parametrize("name", LOSSES)
    def test_extremes_have_finite_gradients(self, name):
        logits = (1000 * torch.eye(4)[None]).requires_grad_()
        (gradient,) = torch.autograd.grad(LOSSES[name](routed(logits)), logits)
        assert gradient.isfinite().all()

    @pytest.mark.parametrize("name", LOSSES)
    def test_one_expert(self, name):
        routing = routed(torch.ones(2, 3, 1), 1)
        assert LOSSES[name](routing).item() == pytest.approx(1 if name == "z" else 0, abs=1e-6)

    @pytest.mark.parametrize("name", LOSSES)
    def test_in_one_graph(self, name):
        torch.compiler.reset()
        loss = torch.compile(lambda logits: LOSSES[name](routed(logits)), backend="eager", fullgraph=True)
        logits = torch.randn(2, 3, 4)
        torch.testing.assert_close(loss(logits), LOSSES[name](routed(logits)))


class TestBalance:
    def test_weight(self):
        routing = at_random()
        torch.testing.assert_close(Balance("entropy", 0.5)(routing), 0.5 * entropy(routing))
        torch.testing.assert_close(Balance()(routing), 0.01 * switch(routing))
        got = Balance("cost_weighted", 2, costs=COSTS)(routing)
        torch.testing.assert_close(got, 2 * cost_weighted(routing, COSTS))

    def test_none_is_exactly_zero(self):
        loss = Balance("none", 5.0)(at_random())
        assert loss.shape == ()
        assert loss == 0

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("swich",), "unknown; choose one of none, importance"),
            (("switch", math.nan), "finite"),
            (("switch", "1"), "finite"),
            (("switch", 1.0, COSTS), "costs go with"),
            (("cost_weighted",), "costs go with"),
        ],
    )
    def test_bad_arguments(self, arguments, says):
        with pytest.raises(ArgumentError, match=says):
            Balance(*arguments)

    @pytest.mark.parametrize("name", COST_LOSSES)
    def test_bad_costs(self, name):
        with pytest.raises(ShapeError, match="4 experts"):
            COST_LOSSES[name](at_random(), [1.0, 2.0])
        with pytest.raises(ArgumentError, match="above 0"):
            COST_LOSSES[name](at_random(), [1.0, 2.0, 0.0, 3.0])

    def test_bad_calls(self):
        with pytest.raises(ArgumentError, match="noise"):
            load(at_random(), 0.0)
        with pytest.raises(ShapeError, match="one number for each picture"):
            degradation_aware(at_random(), torch.ones(2), 1)
        with pytest.raises(ArgumentError, match="from 0 to 4"):
            degradation_aware(at_random(), torch.ones(3), 5)
        with pytest.raises(ShapeError, match="4 experts"):
            degradation_aware(at_random(), torch.ones(3), 1, torch.ones(3))
