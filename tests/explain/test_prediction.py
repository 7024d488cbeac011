"""Sheets about predictions: what the kernels draw after so many stages of the same prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic import metrics
from moesaic.errors import ArgumentError
from moesaic.explain.prediction import SHOWN, explain_prediction
from moesaic.mixture.render import render
from moesaic.picture import Picture
from moesaic.predict.network import MixturePredictor
from moesaic.predict.use import STAGES, load_network, predict


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MixturePredictor(hidden=16, depth=2, stages=4).eval()


def test_quality_by_stage(photo):
    network = load_network()
    found = explain_prediction(Picture(pixels=photo), network, name="a.png")
    told = found.figures
    assert list(told["psnr"]) == [str(stages) for stages in SHOWN] == ["0", "1", "2", "4", str(STAGES)]
    for stages in (1, STAGES):
        drawn = render(predict(photo, model=network, stages=stages)).numpy().transpose(1, 2, 0)
        exact = metrics.psnr(np.rint(255 * drawn.clip(0, 1)) / 255, np.rint(255 * photo) / 255)
        assert told["psnr"][str(stages)] == pytest.approx(exact, abs=1e-3)
    assert list(told["psnr"].values()) == sorted(told["psnr"].values())  # every stage adds
    assert (found.kind, found.picture.width) == ("prediction", 1200)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (70, 20), (5, 80)])
def test_any_picture(network, channels, size):
    pixels = np.random.default_rng(0).uniform(0, 1, (size[1], size[0], channels)).astype(np.float32)
    found = explain_prediction(Picture(pixels=pixels), network)
    assert found.picture.width == 1200
    assert found.figures["kernels"] == max(1, round(size[0] * size[1] / 40))


def test_the_same_bytes_each_time(network, photo):
    one, other = (explain_prediction(Picture(pixels=photo), network, experts=90) for _ in range(2))
    assert one.picture.pixels.tobytes() == other.picture.pixels.tobytes()


def test_too_many_kernels(network, photo):
    with pytest.raises(ArgumentError, match="experts"):
        explain_prediction(Picture(pixels=photo), network, experts=10**9)
