"""audit() on a model whose gate is set by hand, so that it is known what each control must do to it."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.routing.audit import Audit, Comparison, audit
from moesaic.routing.collect import collect, routed_layers
from moesaic.routing.convert import sparsify
from moesaic.routing.resampling import PictureScores
from moesaic.routing.usage import Usage

CONTROLS = ("shuffled", "uniform", "random", "position", "forced")


def sign_model(*, inverted=False, slope=10.0):
    """Channel 0 holds values, channel 1 a sign that is constant over a patch; two experts, +value and -value.

    The gate reads the sign and picks the expert that multiplies by it; the inverted one picks the other.
    """
    model = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False))
    model = sparsify(model, "0", experts=2, k=1, grid=2, gate="linear")
    layer = routed_layers(model)["0"]
    with torch.no_grad():
        layer.experts.kernels[:, 0, :, 0, 0] = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        sign = -1 if inverted else 1
        layer.gate.weight.copy_(sign * slope * torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        layer.gate.bias.zero_()
    return model


def pictures(n=40, *, fixed=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, 1, 8, 8, generator=generator)
    signs = torch.randint(0, 2, (1 if fixed else n, 1, 2, 2), generator=generator) * 2.0 - 1
    if fixed:
        signs = torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 1, 2, 2)
    signs = signs.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(n, -1, -1, -1)
    return torch.cat([values, signs], dim=1)


def negative_error(x, *, labels=None, batch=8):
    """An evaluation: minus the mean squared error of each picture against value times sign."""

    def evaluate(model, seen):
        errors = []
        for part in x.split(batch):
            assert not model.training
            assert not torch.is_grad_enabled()
            y = model(part)
            seen(None if labels is None else labels[: len(part)])
            errors.append((y - part[:, :1] * part[:, 1:]).square().mean((1, 2, 3)))
        return PictureScores.of_means(-torch.cat(errors), name="-MSE", unit="")

    return evaluate


def by_name(found):
    return {comparison.name: comparison for comparison in found.comparisons}


@pytest.fixture(scope="module")
def found():
    return audit(sign_model(), negative_error(pictures()), controls=CONTROLS)


class TestAGateThatMatters:
    def test_every_control_loses(self, found):
        assert found.score == pytest.approx(0, abs=1e-9)
        assert [c.name for c in found.comparisons] == [*CONTROLS[:4], "forced:0", "forced:1"]
        for comparison in found.comparisons:
            assert comparison.outcome == "helps"
            assert comparison.low <= comparison.gain <= comparison.high
            assert comparison.gain == pytest.approx(found.score - comparison.score)

    def test_by_how_much(self, found):
        # Zero in the place of +-v costs E[v^2] = 1; a wrong sign costs 4, which every second place has.
        gains = {name: c.gain for name, c in by_name(found).items()}
        assert gains["uniform"] == pytest.approx(1, rel=0.1)
        for name in ("shuffled", "random", "forced:0", "forced:1"):
            assert gains[name] == pytest.approx(2, rel=0.25)

    def test_verdict(self, found):
        assert found.outcome == "helps"
        assert found.verdict().startswith(
            "Routing helps here: whatever it is held against scores less; closest is uniform (+"
        )
        assert "trained without it would do as well" in found.verdict()
        assert found.warnings() == []

    def test_usage(self, found):
        usage = found.usage["0"]
        assert (usage.pictures, usage.places) == (40, 160)  # of the model itself, none of the controls'
        assert usage.flatness < 0.01

    def test_figures_are_json(self, found):
        figures = json.loads(json.dumps(found.figures(), allow_nan=False))
        assert figures["outcome"] == "helps"
        assert figures["verdict"] == found.verdict()
        assert [c["name"] for c in figures["comparisons"]] == [c.name for c in found.comparisons]
        assert figures["usage"]["0"]["experts"] == 2
        assert figures["score"]["value"] == found.score


def test_a_gate_that_only_knows_positions_is_told_by_its_position_control():
    found = audit(sign_model(), negative_error(pictures(fixed=True)), controls=CONTROLS)
    outcomes = {name: c.outcome for name, c in by_name(found).items()}
    assert outcomes.pop("position") == "undecided"
    assert set(outcomes.values()) == {"helps"}
    assert found.outcome == "undecided"
    assert "but the gain may be 0 against position (+0.00 [+0.00, +0.00])." in found.verdict()
    assert found.usage["0"].position_information == pytest.approx(1.0)


def test_a_gate_that_is_wrong_everywhere():
    found = audit(sign_model(inverted=True), negative_error(pictures()), controls=CONTROLS)
    assert found.outcome == "does not help"
    assert found.verdict().startswith("Routing does not help here: ")
    assert "uniform (-3." in found.verdict()


def test_equal_experts_leave_it_undecided():
    model = sparsify(nn.Sequential(nn.Conv2d(2, 1, 3, padding=1)), "0", experts=3, k=2, grid=2)
    found = audit(model, negative_error(pictures(12)), controls=("shuffled", "uniform"))
    assert [c.outcome for c in found.comparisons] == ["undecided"] * 2
    assert all(abs(c.gain) < 1e-6 for c in found.comparisons)


def test_other_models():
    dense = nn.Conv2d(2, 1, 1)  # cannot multiply
    found = audit(sign_model(), negative_error(pictures()), controls=(), against={"dense": dense, "twin": sign_model()})
    assert [(c.name, c.trained, c.outcome) for c in found.comparisons] == [
        ("dense", True, "helps"),
        ("twin", True, "undecided"),
    ]
    assert "may be 0 against twin, trained apart" in found.verdict()
    assert "Controls tell" not in found.verdict()


def test_same_seed_same_audit():
    runs = [audit(sign_model(), negative_error(pictures()), seed=seed).figures() for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0]["comparisons"] != runs[2]["comparisons"]


def test_few_pictures_have_no_intervals():
    found = audit(sign_model(), negative_error(pictures(9)), controls=("uniform",))
    assert math.isnan(found.low)
    assert found.outcome == "undecided"
    assert found.verdict().startswith("Undecided: 9 pictures are too few")
    json.dumps(found.figures(), allow_nan=False)
    blocks = audit(sign_model(), negative_error(pictures(40)), controls=("uniform",), block=5)
    assert blocks.verdict().startswith("Undecided: 40 pictures in blocks of 5 are too few")


def test_the_model_is_left_as_it_was():
    model = sign_model().train()
    model[0].gate.eval()
    audit(model, negative_error(pictures(12)), controls=("random",))
    assert model.training
    assert not model[0].gate.training
    assert model[0].control is None
    assert not model[0].record


def test_classes():
    x = pictures(16)
    labels = (x[:8, 1] > 0).long()  # wrong for the second batch, which does not matter here
    found = audit(sign_model(), negative_error(x[:8], labels=labels), controls=(), classes=2)
    torch.testing.assert_close(found.usage["0"].class_table, torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double())
    assert found.usage["0"].class_information == pytest.approx(1.0)


def test_progress_and_controls_stated_twice():
    told = []
    audit(
        sign_model(),
        negative_error(pictures(12)),
        controls=("uniform", "forced:1", "forced", "uniform"),
        progress=lambda *news: told.append(news),
    )
    assert told == [("as it is", 0, 4), ("uniform", 1, 4), ("forced:1", 2, 4), ("forced:0", 3, 4)]


class TestErrors:
    def test_a_dense_model(self):
        with pytest.raises(ArgumentError, match="no routed layer to audit"):
            audit(nn.Conv2d(2, 1, 1), negative_error(pictures(12)))

    def test_an_unknown_control_before_any_work(self):
        def evaluate(model, seen):
            raise AssertionError

        with pytest.raises(ArgumentError, match="'shufled' is unknown"):
            audit(sign_model(), evaluate, controls=("uniform", "shufled"))

    def test_forgotten_seen(self):
        with pytest.raises(ArgumentError, match="never called seen"):
            audit(sign_model(), lambda model, seen: PictureScores.of_means(torch.ones(12)))

    def test_settings_of_the_draws_before_any_work(self):
        def evaluate(model, seen):
            raise AssertionError

        with pytest.raises(ArgumentError, match="resamples and block"):
            audit(sign_model(), evaluate, block=0)


def comparison(name, gain, low, high, trained=False):
    return Comparison(name=name, trained=trained, score=50 - gain, gain=gain, low=low, high=high)


def an_audit(*comparisons, usage=None):
    return Audit(
        name="mIoU", unit="points", score=50.0, low=48.0, high=52.0, comparisons=comparisons, usage=usage or {},
        pictures=233, block=1, resamples=2000, seed=0,
    )  # fmt: skip


class TestWords:
    WON, OPEN, LOST = (1.0, 0.5, 1.5), (0.2, -0.1, 0.5), (-1.0, -1.5, -0.5)

    def test_helps(self):
        found = an_audit(comparison("shuffled", *self.WON), comparison("uniform", 0.8, 0.1, 1.6))
        assert found.outcome == "helps"
        assert "closest is uniform (+0.80 [+0.10, +1.60] points)." in found.verdict()

    def test_undecided(self):
        found = an_audit(comparison("shuffled", *self.WON), comparison("uniform", *self.OPEN))
        assert found.outcome == "undecided"
        assert found.verdict().startswith(
            "Undecided whether routing helps here: it is ahead of shuffled, but the gain may be 0 against uniform"
            " (+0.20 [-0.10, +0.50] points)."
        )

    def test_one_loss_is_enough(self):
        found = an_audit(
            comparison("shuffled", *self.WON), comparison("uniform", *self.OPEN), comparison("dense", *self.LOST, True)
        )
        assert found.outcome == "does not help"
        assert found.verdict().startswith(
            "Routing does not help here: dense, trained apart (-1.00 [-1.50, -0.50] points) scores more."
        )

    def test_an_interval_that_touches_zero_is_undecided(self):
        assert comparison("uniform", 0.0, 0.0, 0.0).outcome == "undecided"
        assert comparison("uniform", 0.5, 0.0, 1.0).outcome == "undecided"

    def test_rounding_is_no_gain(self):
        # Sums in another order differ in their last bits, on every picture alike.
        assert comparison("uniform", 2e-6, 1e-6, 3e-6).outcome == "undecided"
        assert comparison("uniform", -2e-6, -3e-6, -1e-6).outcome == "undecided"

    def test_nothing_to_compare_with(self):
        assert an_audit().outcome == "undecided"
        assert an_audit().verdict().startswith("Undecided: there is nothing to compare with.")


class TestWarnings:
    def usage_of(self, model, x):
        usage = Usage()
        model(x)
        usage.add(collect(model)["0"])
        return an_audit(usage={"head": usage}).warnings()

    def test_flat(self):
        (warning,) = self.usage_of(sign_model(slope=0.001), pictures(8))
        assert warning.startswith("head: routing is flat: the entropy at a place is 1.000 of its largest")

    def test_collapsed_and_dead(self):
        x = pictures(8)
        x[:, 1] = 1
        collapsed, dead = self.usage_of(sign_model(), x)
        assert "one expert acts in 100% of the places, routing entropy is 0.00 of 1" in collapsed
        assert dead == "head: 1 of 2 experts never act: 1."

    def test_idle(self):
        model = sparsify(nn.Sequential(nn.Conv2d(2, 1, 1)), "0", experts=3, k=2, grid=2, gate="linear")
        with torch.no_grad():
            model[0].gate.weight.zero_()
            model[0].gate.bias.copy_(torch.tensor([9.0, 0.0, -9.0]))
        warnings = self.usage_of(model, pictures(4))
        assert warnings[0] == "head: 1 of 3 experts never act: 2."
        assert warnings[1].endswith("get less than a tenth of an even share of the weight: 1.")

    def test_all_experts_everywhere(self):
        model = sparsify(nn.Sequential(nn.Conv2d(2, 1, 1)), "0", experts=2, k=2, grid=2, gate="uniform")
        assert any("all 2 experts act everywhere" in warning for warning in self.usage_of(model, pictures(4)))
