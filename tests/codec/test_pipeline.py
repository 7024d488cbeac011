"""encode() and decode() as users call them: targets, bad numbers, sources of every kind."""

import io

import numpy as np
import pytest
import torch

import moesaic
from moesaic.errors import ArgumentError, LimitError
from moesaic.predict.network import MixturePredictor


@pytest.fixture(scope="module")
def photo_part():
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[60:124, 170:266])


def test_a_rate_is_hit(photo_part):
    made = moesaic.encode(photo_part, bpp=1.5, steps=120)
    assert made.bpp == pytest.approx(1.5, rel=0.03)
    assert made.bpp == pytest.approx(8 * len(made.data) / photo_part[..., 0].size)


def test_a_quality_is_hit(photo_part):
    made = moesaic.encode(photo_part, psnr=27.0, steps=120)
    assert made.psnr == pytest.approx(27.0, abs=0.1)


def test_the_same_seed_gives_the_same_bytes(photo_part):
    first, second = (moesaic.encode(photo_part, experts=60, steps=60).data for _ in range(2))
    assert first == second


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return MixturePredictor(hidden=8).eval()


class TestFast:
    def test_a_prediction_becomes_a_file_like_any_other(self, photo_part, network, tmp_path):
        made = moesaic.encode(photo_part, tmp_path / "fast.moe", experts=150, fast=True, model=network)
        assert len(made.mixture) == 150
        assert made.psnr > 20.0
        shown = moesaic.decode(tmp_path / "fast.moe")
        assert (shown.width, shown.height) == (96, 64)
        assert (tmp_path / "fast.moe").read_bytes() == made.data

    def test_steps_of_a_fit_make_it_better(self, photo_part, network):
        alone, refined = (
            moesaic.encode(photo_part, experts=150, fast=True, refine=refine, model=network) for refine in (0, 60)
        )
        assert refined.psnr > alone.psnr + 0.5
        assert len(refined.mixture) == 150

    def test_rates_and_qualities_are_hit(self, photo_part, network):
        assert moesaic.encode(photo_part, bpp=1.5, fast=True, model=network).bpp == pytest.approx(1.5, rel=0.03)
        assert moesaic.encode(photo_part, psnr=26.0, fast=True, model=network).psnr == pytest.approx(26.0, abs=0.1)

    def test_the_same_seed_gives_the_same_bytes(self, photo_part, network):
        first, second = (
            moesaic.encode(photo_part, experts=60, fast=True, refine=5, model=network).data for _ in range(2)
        )
        assert first == second

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            ({"refine": 5}, "go with fast"),
            ({"model": "stages_predict"}, "go with fast"),
            ({"fast": True, "seconds": 1.0}, "seconds and fast exclude"),
            ({"fast": True, "steps": 5}, "steps and fast exclude"),
            ({"fast": True, "order": 1}, "order=1 exclude"),
            ({"fast": True, "refine": -1}, "refine is a whole number"),
            ({"fast": True, "refine": 1.5}, "refine is a whole number"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, photo_part, wrong, text):
        with pytest.raises(ArgumentError, match=text):
            moesaic.encode(photo_part, experts=10, **wrong)


@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (12, 20, 4)])
@pytest.mark.parametrize("value", [0, 255])
def test_plain_pictures_do_better_than_asked(shape, value):
    made = moesaic.encode(np.full(shape, value, np.uint8), psnr=30.0, steps=5)
    assert made.psnr >= 30.0
    assert len(made.mixture) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"experts": 0},
        {"experts": 2.5},
        {"steps": 0},
        {"steps": float("nan")},
        {"seed": -1},
        {"seed": 0.5},
        {"bpp": 0.0},
        {"bpp": float("nan")},
        {"bpp": "1"},
        {"psnr": -3.0},
        {"psnr": "30"},
        {"seconds": 0.0},
        {"experts": 5, "bpp": 1.0},
        {"metadata": "some"},
    ],
)
def test_wrong_numbers_are_refused(photo_part, wrong):
    with pytest.raises(ArgumentError):
        moesaic.encode(photo_part, **wrong)


def test_a_rate_below_one_kernel_is_refused(photo_part):
    with pytest.raises(LimitError, match="cannot be hit"):
        moesaic.encode(photo_part, bpp=0.001, steps=5)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
def test_files_are_decoded_from_what_holds_bytes(photo_part, kind):
    data = moesaic.encode(photo_part, experts=20, steps=5).data
    assert moesaic.decode(kind(data)).pixels.shape == photo_part.shape


@pytest.mark.parametrize("source", [None, 5, []])
def test_other_sources_are_refused(source):
    with pytest.raises(ArgumentError):
        moesaic.decode(source)


@pytest.mark.parametrize("layers", [0, 1.5])
def test_layers_are_whole_numbers_from_one(photo_part, layers):
    data = moesaic.encode(photo_part, experts=20, steps=5).data
    with pytest.raises(ArgumentError):
        moesaic.decode(data, layers=layers)
