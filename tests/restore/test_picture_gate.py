from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.restore.picture_gate import PictureGate, drawing, imposing, picture_gates
from moesaic.routing import RoutedExperts, collect, recording
from moesaic.routing.controls import control


class Scale(nn.Module):
    """Reads the upper half of its map, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x.chunk(2, dim=1)[0]


def layer(**options) -> RoutedExperts:
    torch.manual_seed(0)
    gate = PictureGate(3, 4, condition_size=5, noise=0.25, **options)
    gate.condition = torch.randn(6, 5)
    return RoutedExperts([Scale(f) for f in (1.0, 2.0, 3.0, 4.0)], gate, grid=1, halo=0)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 6, 5, 4, generator=torch.Generator().manual_seed(1))


def test_scores_read_the_upper_half_and_the_embedding(x):
    gate = layer().gate
    want = x[:, :3].mean((2, 3)) @ gate.level.T + gate.condition @ gate.detail.T
    torch.testing.assert_close(gate.scores(x, (1, 1)), want[:, None])
    with pytest.raises(ShapeError, match="6 channels"):
        gate(x[:, :3], (1, 1))


def test_the_chosen_acts_whole_unless_the_published_gate_is_asked_for(x):
    own, published = layer().eval(), layer(published=True).eval()
    with recording(own), recording(published):
        plain, scaled = own(x), published(x)
    routing = collect(published)[""]
    p = routing.probabilities.gather(-1, routing.chosen)
    assert len(routing.chosen.unique()) > 1
    assert torch.equal(routing.weights, p)
    assert (collect(own)[""].weights == 1).all()
    torch.testing.assert_close(plain, x[:, :3] * (1 + routing.chosen[..., None]))
    torch.testing.assert_close(scaled, plain * p[..., None])


@pytest.mark.parametrize("published", [False, True])
def test_the_gate_learns_through_its_one_weight(x, published):
    routed = layer(published=published)
    routed(x).square().sum().backward()
    assert routed.gate.level.grad.abs().sum() > 0


def test_noise_acts_in_training_only_and_is_drawn_from_the_generator(x):
    routed = layer()

    def choices(seed: int) -> list[torch.Tensor]:
        with drawing(routed, torch.Generator().manual_seed(seed)):
            return [routed.gate(x, (1, 1)).chosen for _ in range(8)]

    first = choices(0)
    assert all(torch.equal(a, b) for a, b in zip(first, choices(0), strict=True))
    assert any(not torch.equal(first[0], other) for other in first)
    assert routed.gate.generator is None
    routed.eval()
    assert all(torch.equal(choices(0)[0], other) for other in choices(1))


def test_a_decision_is_imposed_on_a_batch_of_any_size_and_controls_still_act(x):
    routed = layer().eval()
    model = nn.Sequential(routed)
    with recording(model):
        model(x)
    made = collect(model)["0"]
    one = {"0": routed.gate.routing_of(made.logits[:1], (1, 1))}
    with imposing(model, one, 6):
        got = model(x)
        with control(model, "forced:3"):
            forced = model(x)
    torch.testing.assert_close(got, x[:, :3] * (1 + one["0"].chosen[0, 0, 0]))
    torch.testing.assert_close(forced, x[:, :3] * 4)
    assert routed.gate.imposed is None
    with imposing(model, {"0": made}, 6):
        torch.testing.assert_close(model(x.flip(0)), x.flip(0)[:, :3] * (1 + made.chosen[..., None]))


def test_a_decision_that_does_not_fit_is_refused(x):
    model = nn.Sequential(layer().eval())
    with recording(model):
        model(x)
    made = collect(model)
    with pytest.raises(ShapeError, match="6 pictures, the batch holds 2"), imposing(model, made, 2):
        pass
    with pytest.raises(ArgumentError, match="look"), imposing(model, {"other": made["0"]}, 6):
        pass
    assert picture_gates(model)["0"].imposed is None


def test_copies_hold_nothing_of_a_pass(x):
    model = nn.Sequential(layer().eval())
    with recording(model):
        model(x)
    with imposing(model, collect(model), 6), drawing(model, torch.Generator()):
        twin = copy.deepcopy(model)
    gate = twin[0].gate
    assert (gate.imposed, gate.generator, gate.condition) == (None, None, None)
