"""Estimators by name, those that estimate nothing, and the call around all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import moesaic
from moesaic import zoo
from moesaic.errors import ArgumentError, ModelError, PictureError, ShapeError
from moesaic.registry import Registry
from moesaic.upscale.estimators import make_estimator
from moesaic.upscale.fixed_scores import Constant, Oracle
from moesaic.upscale.models import DEFAULT_ESTIMATOR
from moesaic.upscale.rank_correlation import order_loss, rank_correlation
from moesaic.upscale.scores import Scores
from moesaic.upscale.severity_net import SeverityNet
from moesaic.upscale.truth import NAMES, true_scores
from moesaic.upscale.typical import Typical
from moesaic.weights_file import Card

SHIPPED = pytest.mark.skipif(
    DEFAULT_ESTIMATOR not in zoo.list_models(), reason="the shipped estimator is not in this installation"
)


@pytest.fixture
def weights(tmp_path):
    """A file of a small estimator."""
    options = {"channels": [4, 4], "hidden": 4}
    torch.manual_seed(0)
    card = Card(name="tiny", architecture="severity_net", task="estimate", options=options)
    zoo.save_model(tmp_path / "tiny.safetensors", SeverityNet((4, 4), 4), card)
    return tmp_path / "tiny.safetensors"


def test_a_constant_says_the_same_of_everything():
    constant = Constant(0.25)
    said = constant(torch.rand(3, 3, 8, 8))
    assert (said.values.shape, said.severity.tolist()) == ((3, 4), [0.25] * 3)
    assert bool((said.values == 0.25).all())
    assert constant.at(0.9).severity.tolist() == [0.25]
    assert (constant.names, constant.identity) == (NAMES, "constant:0.25")
    assert constant.identity != Constant().identity
    for wrong in (-1, 2, "half", float("nan")):
        with pytest.raises(ArgumentError, match="constant score"):
            Constant(wrong)


def test_an_oracle_says_what_it_was_told():
    truth = true_scores([[{"step": "jpeg", "quality": 30}], []], [None, 0.0], 16, 16)
    oracle = Oracle()
    with pytest.raises(ArgumentError, match="call tell"):
        oracle(torch.rand(2, 3, 16, 16))
    oracle.tell(truth)
    said = oracle(torch.rand(2, 3, 16, 16))
    assert torch.equal(said.values, truth.values)
    assert torch.equal(said.severity, truth.severity)
    with pytest.raises(ShapeError, match="told of 2 pictures, not of 1"):
        oracle(torch.rand(1, 3, 16, 16))
    assert (oracle.names, oracle.identity, oracle.at(0.4).values.shape) == (NAMES, "oracle:1", (1, 4))
    oracle.tell(Scores(names=("rain",), values=torch.zeros(1, 1), severity=torch.zeros(1)))
    with pytest.raises(ArgumentError, match="not of rain"):
        oracle.at(0.4)


def test_names(weights):
    assert make_estimator("analytic").identity == "analytic:1"
    assert make_estimator("constant").identity == "constant:0.5"
    by_path, by_text = make_estimator(weights), make_estimator(str(weights))
    assert by_path.identity == by_text.identity
    assert make_estimator(by_path) is by_path
    oracle = Oracle()
    assert make_estimator(oracle) is oracle


@SHIPPED
def test_the_shipped_one_is_the_default():
    assert (
        make_estimator().identity
        == make_estimator("severity_net").identity
        == make_estimator(DEFAULT_ESTIMATOR).identity
    )


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("analytik", ArgumentError, "did you mean 'analytic'"),
        ("telepathy", ArgumentError, "known are severity_net, analytic"),
        ("nowhere.safetensors", ModelError, "cannot be read"),
        ("severity_nets", ArgumentError, "did you mean"),
        ("clip:", ArgumentError, "write clip:FOLDER"),
        (7, ArgumentError, "not int"),
        (torch.nn.ReLU(), ArgumentError, "not ReLU"),
    ],
)
def test_names_that_are_none(name, kind, says):
    with pytest.raises(kind, match=says):
        make_estimator(name)


def test_missing_and_damaged_weights(weights, tmp_path):
    missing = Registry()
    missing.add_weights(DEFAULT_ESTIMATOR, tmp_path / "none.safetensors", missing="train it with `x`")
    with pytest.raises(ModelError, match="train it with"):
        make_estimator(registry=missing)
    data = bytearray(weights.read_bytes())
    data[-3] ^= 0x55
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        make_estimator(tmp_path / "bad.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:300])
    with pytest.raises(ModelError, match="cut off"):
        make_estimator(tmp_path / "cut.safetensors")


def test_weights_of_something_else(tmp_path):
    own = Registry()
    own.add("line", lambda: torch.nn.Linear(1, 1))
    zoo.save_model(tmp_path / "l.safetensors", torch.nn.Linear(1, 1), Card(name="l", architecture="line", task="x"))
    with pytest.raises(ModelError, match="Linear, which estimates nothing"):
        make_estimator(tmp_path / "l.safetensors", registry=own)


@pytest.mark.parametrize("shape", [(20, 24, 3), (20, 24, 1), (20, 24, 2), (20, 24, 4)])
def test_estimate_takes_every_kind_of_picture(weights, shape):
    pixels = np.random.default_rng(0).random(shape).astype(np.float32)
    said = moesaic.estimate(pixels, weights)
    assert tuple(said.scores) == NAMES
    assert all(0 <= score <= 1 for score in (*said.scores.values(), said.severity))
    assert said.estimator == make_estimator(weights).identity


def test_estimate_of_files_and_of_what_is_none(tmp_path, weights):
    Image.new("RGB", (16, 12), (90, 120, 30)).save(tmp_path / "a.png")
    assert moesaic.estimate(tmp_path / "a.png", "constant").severity == 0.5
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(ShapeError, match="1x1 px is too small"):
        moesaic.estimate(tmp_path / "dot.png", weights)
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"no\.png"):
        moesaic.estimate(tmp_path / "no.png", weights)
    with pytest.raises(ArgumentError, match="nan"):
        moesaic.estimate(np.full((9, 9, 3), np.nan, dtype=np.float32), weights)


def test_typical_scores_are_measured_and_rise():
    rng = np.random.default_rng(0)
    severity = np.repeat(np.linspace(0, 1, 11), 20)
    values = np.stack([severity + rng.normal(0, 0.3, 220), 0.5 - severity / 4], axis=1).clip(0, 1)
    typical = Typical.measured(("up", "down"), severity.tolist(), values)
    table = np.array(typical.rows)
    assert (np.diff(table, axis=0) >= 0).all()
    assert np.corrcoef(table[:, 0], np.linspace(0, 1, 11))[0, 1] > 0.9
    assert np.ptp(table[:, 1]) == 0  # what falls is flat at best
    assert table[0, 1] == pytest.approx(values[:, 1].mean(), abs=1e-4)
    with pytest.raises(ArgumentError, match="all severities"):
        Typical.measured(("up",), [0.0, 1.0], np.zeros((2, 1)))


def test_rank_correlations():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 25, 99]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486833)  # ties at the mean of their ranks
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0
    with pytest.raises(ShapeError, match="one length"):
        rank_correlation([1, 2], [1, 2, 3])


def test_the_loss_on_order_is_small_where_the_order_is_right():
    true = torch.tensor([[0.1], [0.5], [0.9]])
    right, wrong = order_loss(true, true), order_loss(1 - true, true)
    assert float(right) < 0.1 < 2 < float(wrong)
    assert float(order_loss(true, torch.zeros(3, 1))) == 0
    said = torch.tensor([[0.9], [0.5], [0.1]], requires_grad=True)
    order_loss(said, true).backward()
    assert said.grad[0] > 0 > said.grad[2]
