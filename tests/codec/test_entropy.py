from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesaic.codec.entropy import TOTAL, Decoder, Encoder, ReferenceCoder
from moesaic.codec.frequencies import normalise
from moesaic.errors import FormatError


def slots(frequencies: np.ndarray) -> list[int]:
    return [0, *np.cumsum(frequencies).tolist()]


@st.composite
def messages(draw):
    """Steps of a stream: tables of frequencies with symbols, and sizes of uniform choices with symbols."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(draw(st.integers(0, 6))):
        count = draw(st.integers(0, 40))
        if draw(st.booleans()):
            rows, size = draw(st.integers(1, 4)), draw(st.integers(1, 80))
            weights = rng.integers(0, 10 ** draw(st.integers(1, 4)), (rows, size)) ** draw(st.sampled_from([1, 2]))
            which = rng.integers(0, rows, count)
            steps.append(("rows", (normalise(weights), which), rng.integers(0, size, count)))
        else:
            sizes = rng.integers(1, draw(st.sampled_from([2, 3, 100, 65537])), count)
            steps.append(("uniform", (sizes,), (rng.random(count) * sizes).astype(np.int64)))
    return steps


def encode(steps) -> bytes:
    encoder = Encoder()
    for kind, arguments, symbols in steps:
        assert getattr(encoder, kind)(*arguments, symbols) is symbols
    return encoder.finish()


def owned(kind, arguments, i) -> list[int]:
    """Where the slots of each symbol begin, by the definition."""
    if kind == "rows":
        return slots(arguments[0][arguments[1][i]])
    size = int(arguments[0][i])
    return [k * (TOTAL // size) for k in range(size)] + [TOTAL]


@given(messages())
def test_symbols_come_back(steps):
    decoder = Decoder(encode(steps))
    for kind, arguments, symbols in steps:
        np.testing.assert_array_equal(getattr(decoder, kind)(*arguments, None), symbols)
    decoder.finish()


@given(messages())
@settings(max_examples=40)
def test_the_reference_writes_the_same_bits(steps):
    reference = ReferenceCoder()
    for kind, arguments, symbols in reversed(steps):
        for i in reversed(range(len(symbols))):
            begin = owned(kind, arguments, i)
            k = int(symbols[i])
            if len(begin) > 2:  # of one possible value, nothing is written
                reference.push(begin[k], begin[k + 1] - begin[k])
    expected = np.array(reference.finish(), "<u4").tobytes().rstrip(b"\0")
    assert encode(steps) == expected


@given(messages())
@settings(max_examples=40)
def test_the_reference_reads_the_same_symbols(steps):
    data = encode(steps)
    reference = ReferenceCoder(np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").tolist())
    for kind, arguments, symbols in steps:
        for i in range(len(symbols)):
            begin = owned(kind, arguments, i)
            assert (reference.pop(begin) if len(begin) > 2 else 0) == symbols[i]
    assert reference.state == 0
    assert reference.words == []


@pytest.mark.parametrize("size", [2, 3, 4096, 16384])
@pytest.mark.parametrize("kind", ["flat", "one", "steep"])
def test_slots_are_exactly_the_frequencies(size, kind):
    """What the module's text proves: no rounding stands between our integers and the coder's slots."""
    weights = {"flat": np.ones(size), "one": np.eye(1, size)[0], "steep": 2.0 ** -np.arange(size).clip(0, 60) * 2**37}
    frequencies = normalise(weights[kind].astype(np.int64)[None])
    begin = slots(frequencies[0])
    symbols = np.unique(np.concatenate([np.arange(min(size, 40)), [size // 2, size - 2, size - 1]]))
    for symbol in symbols:
        for slot in {begin[symbol], begin[symbol + 1] - 1}:  # the first and the last slot decode to the symbol
            stack = ReferenceCoder()
            stack.state = (1 << 40) + slot
            data = np.array(stack.finish(), "<u4").tobytes()
            assert Decoder(data).rows(frequencies, np.zeros(1, np.int64), None) == symbol


def test_cost_is_the_information():
    rng = np.random.default_rng(0)
    frequencies = normalise(np.array([[1000, 100, 10, 1]]))
    symbols = rng.choice(4, 20000, p=frequencies[0] / TOTAL)
    bits = -np.log2(frequencies[0][symbols] / TOTAL).sum()
    encoder = Encoder()
    encoder.rows(frequencies, np.zeros(20000, np.int64), symbols)
    assert bits / 8 <= len(encoder.finish()) <= bits / 8 + 8


def test_bits_that_are_left_over_are_damage():
    steps = [("uniform", (np.full(20, 100),), np.arange(20))]
    decoder = Decoder(encode(steps))
    decoder.uniform(np.full(19, 100), None)
    with pytest.raises(FormatError, match="do not end"):
        decoder.finish()


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_symbols_in_range(data):
    decoder = Decoder(data)
    sizes = np.array([1, 2, 3, 1000, 65536])
    found = decoder.uniform(sizes, None)
    assert ((found >= 0) & (found < sizes)).all()
    found = decoder.rows(normalise(np.arange(12).reshape(2, 6)), np.array([0, 1, 1, 0]), None)
    assert ((found >= 0) & (found < 6)).all()


def test_an_encoder_needs_every_symbol():
    with pytest.raises(ValueError, match="each symbol"):
        Encoder().uniform(np.full(3, 5), None)
