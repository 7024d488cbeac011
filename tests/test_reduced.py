"""Pictures made small band by band against the means of squares, taken at once."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.picture import Frame, Picture
from moesaic.reduced import Reduced


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(60, 40), (61, 43), (1, 100), (100, 1), (7, 9)])
def test_squares_become_their_means(size, channels):
    pixels = np.random.default_rng(0).random((*size, channels), np.float32)
    picture = Picture(pixels=pixels, depth=16, icc=b"profile")
    reduced = Reduced(Frame.of(picture), most=10)
    for top in range(0, size[0], 17):
        reduced.add(Picture(pixels=pixels[top : top + 17]))
    small, step = reduced.picture(), reduced.step
    assert max(small.width, small.height) <= 10
    assert (small.depth, small.icc) == (8, b"profile")
    multiplied = picture.premultiplied()
    for row in range(small.height):
        for column in range(small.width):
            square = multiplied[row * step : (row + 1) * step, column * step : (column + 1) * step]
            assert small.premultiplied()[row, column] == pytest.approx(square.mean((0, 1)), abs=1e-5)


def test_a_small_picture_stays_as_it_is():
    picture = Picture(pixels=np.random.default_rng(0).random((8, 9, 3), np.float32))
    reduced = Reduced(Frame.of(picture))
    reduced.add(picture)
    assert np.array_equal(reduced.picture().pixels, picture.pixels)
