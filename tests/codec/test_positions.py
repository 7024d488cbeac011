from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesaic.codec.entropy import Decoder, Encoder
from moesaic.codec.positions import (
    DEPTH_MOST,
    UNIT_BITS,
    Square,
    centres,
    code_parts,
    curve_keys,
    depth_for,
    offsets,
)
from moesaic.errors import FormatError


@pytest.mark.parametrize(("width", "height"), [(1, 1), (768, 512), (512, 768), (1, 100000), (2**18, 3)])
def test_the_square_holds_the_canvas_with_a_margin(width, height):
    square = Square.around(width, height)
    side = 2 ** (square.bits - UNIT_BITS)
    assert max(square.left, square.top) <= 0
    assert square.left + side >= width
    assert square.top + side >= height
    assert side <= 4 * max(width, height)


def code(x, y, square, depth):
    keys = curve_keys(x, y, square, depth)
    order = np.argsort(keys, kind="stable")
    encoder = Encoder()
    written = code_parts(encoder, len(x), square, depth, keys[order])
    decoder = Decoder(encoder.finish())
    read = code_parts(decoder, len(x), square, depth, None)
    decoder.finish()
    for a, b in zip(
        (written.x, written.y, written.width_bits, written.height_bits),
        (read.x, read.y, read.width_bits, read.height_bits),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    return order, read


@given(
    st.integers(1, 400), st.integers(0, 2**32 - 1), st.sampled_from([(1, 1), (96, 64), (3, 3000)]), st.integers(0, 14)
)
def test_every_kernel_lies_in_its_part(n, seed, canvas, leaf_bits):
    square = Square.around(*canvas)
    rng = np.random.default_rng(seed)
    spread = rng.choice([1.0, 0.01])
    x, y = (rng.random((2, n)) * spread * 2**square.bits).astype(np.int64)
    depth = depth_for(square, leaf_bits)
    order, parts = code(x, y, square, depth)
    x, y = x[order], y[order]
    assert ((x >= parts.x) & (x < parts.x + (1 << parts.width_bits))).all()
    assert ((y >= parts.y) & (y < parts.y + (1 << parts.height_bits))).all()
    places, counts = np.unique(np.stack([parts.x, parts.y]), axis=1, return_counts=True)
    crowded = np.isin(parts.x + (parts.y << 40), places[0][counts > 1] + (places[1][counts > 1] << 40))
    assert (parts.width_bits[crowded] == square.bits - depth).all()  # only the smallest parts hold several
    assert (parts.height_bits[crowded] == square.bits - depth).all()


@pytest.mark.parametrize("n", [1, 2, 500])
def test_all_kernels_in_one_place(n):
    square = Square.around(64, 64)
    _, parts = code(np.full(n, 12345), np.full(n, 777), square, depth_for(square, 0))
    assert len(parts.x) == n
    if n > 1:
        assert (parts.x == 12345).all()
        assert (parts.y == 777).all()


def test_order_costs_nothing():
    """Of the log2(N!) bits that an order would cost, nearly all are saved."""
    n, square = 4000, Square.around(900, 900)
    rng = np.random.default_rng(0)
    x, y = (rng.random((2, n)) * 2**square.bits).astype(np.int64)
    depth = depth_for(square, UNIT_BITS - 2)
    encoder = Encoder()
    parts = code_parts(encoder, n, square, depth, np.sort(curve_keys(x, y, square, depth)))
    rest = (parts.width_bits + parts.height_bits - 2 * (square.bits - depth)).sum()  # raw bits down to the leaves
    bits = 8 * len(encoder.finish()) + rest
    plain = 2 * depth * n
    assert plain - bits > 0.97 * n * np.log2(n / np.e)


def test_depth_is_limited():
    assert depth_for(Square(0, 0, 40), 0) == DEPTH_MOST
    assert depth_for(Square(0, 0, 20), 25) == 0


@given(st.integers(0, 33), st.integers(1, 2**16), st.integers(0, 2**33), st.data())
def test_offsets_are_the_inverse_of_centres(bits, levels, edge, data):
    levels = min(levels, 1 << max(bits - 1, 0))
    step = data.draw(st.integers(0, levels - 1))
    one = [np.array([v]) for v in (step, edge, bits, levels)]
    middle = centres(*one)
    assert edge <= middle[0] < edge + (1 << bits)
    assert offsets(middle, one[1], one[2], one[3]) == step


def test_a_half_cannot_hold_more_than_the_whole():
    class Liar:
        def rows(self, frequencies, which, known):
            return which + 1

        def uniform(self, sizes, known):
            return sizes - 1

    with pytest.raises(FormatError, match="more kernels"):
        code_parts(Liar(), 5, Square.around(8, 8), 6, None)
