"""The network that estimates: any size, the same whatever the pieces, one clear error for what is no picture."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale import pieces
from moesaic.upscale.pieces import checked, crops, spread
from moesaic.upscale.severity_net import NetEstimator, SeverityNet
from moesaic.upscale.truth import NAMES


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SeverityNet((4, 6, 8, 8), hidden=8)


@pytest.fixture(scope="module")
def estimator(network):
    return NetEstimator(network)


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (8, 300), (40, 33)])
def test_any_size(estimator, size):
    said = estimator(torch.rand(2, 3, *size))
    assert (said.names, said.values.shape, said.severity.shape) == (NAMES, (2, 4), (2,))
    assert (said.values.dtype, said.severity.dtype) == (torch.float32, torch.float32)
    assert not said.values.requires_grad
    assert bool(((said.values > 0) & (said.values < 1)).all())


def test_a_picture_is_judged_alike_alone_and_in_a_batch(estimator):
    x = torch.rand(3, 3, 20, 24)
    torch.testing.assert_close(estimator(x).values[1:2], estimator(x[1:2]).values)


def test_the_callers_precision_changes_nothing(estimator):
    x = torch.rand(1, 3, 20, 24)
    alone = estimator(x).values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(estimator(x).values, alone)


def test_pieces_of_a_large_picture_stand_for_it(estimator, monkeypatch):
    torch.manual_seed(1)
    x = torch.rand(1, 3, 96, 128)  # the same everywhere, as far as moments go
    whole = estimator(x)
    monkeypatch.setattr(spread, "__defaults__", (32, 4))
    assert len(spread(x)) == 4
    torch.testing.assert_close(estimator(x).values, whole.values, atol=0.01, rtol=0)


def test_moments_of_pieces_are_averaged_before_they_are_read(network, estimator, monkeypatch):
    x = torch.rand(1, 3, 32, 64)
    x[..., 32:] *= 0.1
    monkeypatch.setattr(spread, "__defaults__", (32, 1))
    halves = [network.moments(half) for half in x.split(32, dim=3)]
    monkeypatch.setattr("moesaic.upscale.severity_net.spread", lambda x: list(x.split(32, dim=3)))
    read = network.read((halves[0] + halves[1]) / 2).sigmoid()
    torch.testing.assert_close(estimator(x).values, read[:, :-1])


def test_pieces_are_spread_over_the_whole():
    x = torch.arange(1000 * 3000, dtype=torch.float32).view(1, 1, 1000, 3000)
    cut = spread(x, side=100, most=16)
    assert {piece.shape[2:] for piece in cut} == {(100, 100)}
    assert 12 <= len(cut) <= 16
    rows = {int(piece[0, 0, 0, 0]) // 3000 for piece in cut}
    columns = {int(piece[0, 0, 0, 0]) % 3000 for piece in cut}
    assert (len(rows), len(columns)) == (2, 8)
    assert min(rows) < 300 < 600 < max(rows)
    assert spread(x[..., :400, :400], side=100, most=16)[0].shape == (1, 1, 400, 400)


def test_crops_are_never_larger_than_they_may_be():
    assert [piece.shape[2:] for piece in crops(torch.zeros(1, 3, 20, 50), 32, 9)] == [(20, 32)] * 2
    assert [piece.shape[2:] for piece in crops(torch.zeros(1, 3, 8, 8), 32, 9)] == [(8, 8)]


def test_twelve_megapixels_take_pieces_alone(estimator, monkeypatch):
    seen = []
    monkeypatch.setattr(
        estimator.network, "moments", lambda x: seen.append(x.shape) or torch.zeros(1, estimator.network.features)
    )
    estimator(torch.zeros(1, 1, 1, 1).expand(1, 3, 3000, 4000))
    assert set(seen) == {(1, 3, pieces.PIECE, pieces.PIECE)}
    assert len(seen) <= pieces.PIECES


def test_names_follow_the_weights(network):
    torch.manual_seed(0)
    same, other = SeverityNet((4, 6, 8, 8), hidden=8), SeverityNet((4, 6, 8, 8), hidden=8)
    assert NetEstimator(same).identity == NetEstimator(network).identity
    assert NetEstimator(other).identity != NetEstimator(network).identity
    assert NetEstimator(network).identity.startswith("severity_net:")
    assert len(NetEstimator(network).identity) == len("severity_net:") + 12


def test_a_severity_set_by_hand_is_typical_and_rises(estimator):
    points = [estimator.at(place / 20) for place in range(21)]
    values = torch.cat([point.values for point in points])
    assert values.shape == (21, 4)
    assert bool((values.diff(dim=0) >= 0).all())
    torch.testing.assert_close(values[1], (values[0] + values[2]) / 2)
    assert estimator.at(0.35).severity.tolist() == pytest.approx([0.35])
    for wrong in (-0.1, 1.5, float("nan"), True, "high"):
        with pytest.raises(ArgumentError, match="severity"):
            estimator.at(wrong)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (0, 4)}, "channels"),
        ({"hidden": 2.5}, "hidden"),
        ({"names": ("rain",)}, "typical scores of rain"),
        ({"typical": [[0.5] * 4]}, "11 rows of 4"),
        ({"typical": [[1 - place / 10] * 4 for place in range(11)]}, "never fall"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(ArgumentError, match=says):
        SeverityNet(**options)


@pytest.mark.parametrize(
    ("pictures", "kind", "says"),
    [
        (torch.rand(1, 3, 1, 1), ShapeError, "1x1 px is too small"),
        (torch.rand(1, 3, 7, 20), ShapeError, "20x7 px is too small"),
        (torch.rand(3, 20, 20), ShapeError, r"\(B, 3, H, W\)"),
        (torch.rand(1, 1, 20, 20), ShapeError, r"\(B, 3, H, W\)"),
        (torch.full((1, 3, 8, 8), float("nan")), ArgumentError, "no finite numbers"),
        (torch.full((1, 3, 8, 8), float("inf")), ArgumentError, "no finite numbers"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ArgumentError, "uint8"),
        ("photo.jpg", ArgumentError, "str"),
    ],
)
def test_what_is_no_picture(pictures, kind, says):
    with pytest.raises(kind, match=says):
        checked(pictures)


def test_gradients_reach_every_weight():
    net = SeverityNet((4, 6, 8, 8), hidden=8)
    net(torch.rand(2, 3, 24, 24)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
