from __future__ import annotations

from math import lgamma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from moesaic.codec.entropy import TOTAL
from moesaic.codec.frequencies import Adaptive, bell, normalise, split_table


@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=50), elements=st.integers(0, 2**31)))
def test_normalised_rows_sum_to_all_slots(weights):
    found = normalise(weights)
    assert (found >= 1).all()
    assert (found.sum(axis=1) == TOTAL).all()


def test_normalised_rows_keep_proportions():
    weights = np.array([[1, 2, 3, 4]]) * 2**34
    np.testing.assert_allclose(normalise(weights)[0] / TOTAL, [0.1, 0.2, 0.3, 0.4], atol=1e-6)


@pytest.mark.parametrize("spread", [1, 17, 400, 4095])
def test_a_bell_is_its_formula(spread):
    d = np.arange(-50, 150)
    expected = 2**20 * (spread**2 / (spread**2 + (4.0 * d) ** 2)) ** 2
    np.testing.assert_allclose(bell(200, 50, spread), expected, atol=3.1)


class TestAdaptive:
    def test_it_follows_what_it_sees_context_by_context(self):
        tables = Adaptive(40, 20, 20, contexts=2)
        before = tables.frequencies()
        for _ in range(20):
            tables.learn(np.full(100, 3), np.zeros(100, np.int64))
        after = tables.frequencies()
        assert after[0, 3] > TOTAL // 4 > before[0, 3]
        np.testing.assert_array_equal(after[1], before[1])

    def test_neighbours_gain_too(self):
        tables = Adaptive(64, 32, 32)
        before = tables.frequencies()[0]
        tables.learn(np.full(50, 10), np.zeros(50, np.int64))
        gain = tables.frequencies()[0] / before
        assert gain[10] > gain[11] > gain[12] > 1 > gain[30]

    @pytest.mark.parametrize("symbol", [0, 63])
    def test_the_ends_of_the_table_are_like_the_middle(self, symbol):
        tables = Adaptive(64, 32, 32)
        tables.learn(np.full(5000, symbol), np.zeros(5000, np.int64))
        found = tables.frequencies()[0]
        assert found.argmax() == symbol
        assert found.sum() == TOTAL

    def test_old_symbols_fade(self):
        tables = Adaptive(32, 16, 8)
        zeros = np.zeros(500, np.int64)
        for symbol in (3, 28):
            for _ in range(20):
                tables.learn(np.full(500, symbol), zeros)
        found = tables.frequencies()[0]
        assert found[28] > 20 * found[3]


@pytest.mark.parametrize(("evenness", "most"), [(1, 7), (2, 31), (6, 31), (12, 127)])
def test_splits_follow_the_beta_binomial_law(evenness, most):
    table = split_table(evenness, most)
    assert (table.sum(axis=1) == TOTAL).all()

    def log_beta(a: float, b: float) -> float:
        return lgamma(a) + lgamma(b) - lgamma(a + b)

    for n in (2, 5, most):
        expected = [
            np.exp(
                -log_beta(n - k + 1, k + 1)
                - np.log(n + 1)
                + log_beta(k + evenness, n - k + evenness)
                - log_beta(evenness, evenness)
            )
            for k in range(n + 1)
        ]
        np.testing.assert_allclose(table[n, : n + 1] / TOTAL, expected, atol=1e-5)
        assert (table[n, n + 1 :] == 1).all()
