from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from moesaic.mixture.backends.lanes import (
    exp2,
    fetch,
    fill,
    greatest,
    load,
    places_in_row,
    put,
    some_below,
    store,
    totals,
    zero_below,
)

F = np.float32
ROW = np.linspace(-3, 5, 16).astype(np.float32)
OTHER = np.linspace(4, -2.1, 16).astype(np.float32)


def by_lanes(work, *rows):
    """What a compiled function of lanes makes of rows of numbers."""
    compiled = njit(work)
    out = np.empty(16, np.float32)
    if len(rows) == 1:

        @njit
        def run(a, out):
            store(out, 0, compiled(load(a, 0)))
    else:

        @njit
        def run(a, b, out):
            store(out, 0, compiled(load(a, 0), load(b, 0)))

    run(*rows, out)
    return out


@pytest.mark.parametrize(
    "work",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: F(2) * a - b * F(3),
        lambda a, b: (F(1) - a) + (b - F(1)) / F(4),
    ],
)
def test_operators(work):
    np.testing.assert_allclose(by_lanes(work, ROW, OTHER), work(ROW, OTHER), rtol=1e-6, atol=1e-6)


def test_choices():
    larger = by_lanes(lambda a, b: greatest(a, b), ROW, OTHER)  # noqa: PLW0108 - an intrinsic cannot be compiled alone
    assert np.array_equal(larger, np.maximum(ROW, OTHER))
    found = by_lanes(lambda a, b: zero_below(a, b, F(1)), ROW, OTHER)
    assert np.array_equal(found, np.where(OTHER < 1, F(0), ROW))
    assert np.array_equal(by_lanes(lambda a: fill(F(7)) + places_in_row() * F(0.5), ROW), 7 + np.arange(16) / 2)


def test_some_below():
    @njit
    def run(a, limit):
        return some_below(load(a, 0), limit)

    assert not run(ROW, F(-3))
    assert run(ROW, F(-2.99))
    lowest_last = ROW[::-1].copy()
    assert run(lowest_last, F(-2.99))


def test_exp2():
    for start in np.arange(-126, 127, 0.37):
        x = (start + np.linspace(0, 0.999, 16)).astype(np.float32)
        np.testing.assert_allclose(by_lanes_exp2(x), np.exp2(x.astype(np.float64)), rtol=2e-7)
    assert np.all(by_lanes_exp2(np.full(16, -500, np.float32)) == 0)
    assert np.all(by_lanes_exp2(np.linspace(-160, -127, 16).astype(np.float32)) <= 2.0**-126)


@njit
def _exp2(a, out):
    store(out, 0, exp2(load(a, 0)))


def by_lanes_exp2(x):
    out = np.empty(16, np.float32)
    _exp2(x, out)
    return out


@njit
def _one(a):
    return totals((load(a, 0),))


@njit
def _five(a):
    return totals((load(a, 0), load(a, 16), load(a, 32), load(a, 48), load(a, 64)))


@njit
def _sixteen(a):
    rows = (load(a, 0), load(a, 16), load(a, 32), load(a, 48), load(a, 64), load(a, 80), load(a, 96), load(a, 112))
    rest = (load(a, 128), load(a, 144), load(a, 160), load(a, 176), load(a, 192), load(a, 208), load(a, 224))
    return totals((*rows, *rest, load(a, 240)))


@pytest.mark.parametrize(("work", "count"), [(_one, 1), (_five, 5), (_sixteen, 16)])
def test_totals_come_in_order(work, count):
    @njit
    def run(a, out):
        store(out, 0, work(a))

    rows = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    out = np.empty(16, np.float32)
    run(rows.reshape(-1), out)
    np.testing.assert_allclose(out[:count], rows.sum(1)[:count], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 7, 16])
def test_edges_are_neither_read_nor_written_beyond(count):
    @njit
    def run(source, sink, count, room):
        put(sink, 2, fetch(source, 3, count, room) + F(1), count, room)

    source, sink = np.arange(40, dtype=np.float32), np.full(40, -1, np.float32)
    run(source[: 3 + count], sink, count, np.empty(16, np.float32))
    assert np.array_equal(sink[2 : 2 + count], source[3 : 3 + count] + 1)
    assert np.all(sink[:2] == -1)
    assert np.all(sink[2 + count :] == -1)


def test_fetch_fills_up_with_zeros():
    @njit
    def run(source, out, room):
        store(out, 0, fetch(source, 0, 5, room))

    out = np.empty(16, np.float32)
    run(np.ones(5, np.float32), out, np.empty(16, np.float32))
    assert np.array_equal(out, [1] * 5 + [0] * 11)
