"""encode() and decode() as users call them: targets, bad numbers, sources of every kind."""

import io

import numpy as np
import pytest

import moesaic
from moesaic.errors import ArgumentError, LimitError


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
