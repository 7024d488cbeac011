import math

import pytest

from benchmarks.rates import at_rate, crossing, lead_at, mean_at, rate_for


def test_a_curve_is_linear_in_the_logarithm_of_the_rate() -> None:
    assert at_rate([0.1, 0.4], [20.0, 30.0], 0.2) == pytest.approx(25.0)
    assert at_rate([0.4, 0.1], [30.0, 20.0], 0.2) == pytest.approx(25.0)  # in any order
    assert at_rate([0.1, 0.4], [20.0, 30.0], 0.1) == pytest.approx(20.0)


@pytest.mark.parametrize("rate", [0.09, 0.41])
def test_beyond_its_files_a_curve_has_no_value(rate: float) -> None:
    assert math.isnan(at_rate([0.1, 0.4], [20.0, 30.0], rate))


def test_the_mean_counts_those_that_reach_the_rate() -> None:
    curves = {"a": ([0.1, 0.4], [20.0, 30.0]), "b": ([0.2, 0.8], [30.0, 40.0])}
    assert mean_at(curves, 0.2).value == pytest.approx(27.5)
    assert mean_at(curves, 0.2).count == 2
    assert mean_at(curves, 0.1).value == pytest.approx(20.0)
    assert mean_at(curves, 0.1).count == 1
    assert mean_at(curves, 2.0).count == 0
    assert math.isnan(mean_at(curves, 2.0).value)


def test_the_rate_of_a_quality_inverts_the_mean_curve() -> None:
    curves = {"a": ([0.1, 0.4], [20.0, 30.0]), "b": ([0.1, 0.4], [22.0, 32.0])}
    assert rate_for(curves, 26.0) == pytest.approx(0.2, rel=1e-3)
    assert math.isnan(rate_for(curves, 40.0))
    assert math.isnan(rate_for(curves, 5.0))  # reached already below all files: the rate is not known
    assert math.isnan(rate_for({}, 5.0))


def test_crossings_are_where_the_lead_changes_sign() -> None:
    flat = {"a": ([0.1, 1.6], [25.0, 25.0])}
    steep = {"a": ([0.1, 1.6], [20.0, 30.0])}
    found = crossing(flat, steep)
    assert found.at == (pytest.approx(0.4, rel=1e-3),)
    assert found.first_ahead_at_lowest
    assert (found.lowest, found.highest) == (0.1, 1.6)
    assert not crossing(steep, flat).first_ahead_at_lowest
    assert crossing(steep, {"a": ([0.1, 1.6], [21.0, 31.0])}).at == ()


def test_crossings_need_common_rates_and_pictures() -> None:
    assert math.isnan(crossing({"a": ([0.1, 0.2], [1.0, 2.0])}, {"a": ([0.3, 0.4], [1.0, 2.0])}).lowest)
    assert math.isnan(crossing({"a": ([0.1, 0.2], [1.0, 2.0])}, {"b": ([0.1, 0.2], [1.0, 2.0])}).lowest)


def test_a_lead_is_over_the_pictures_that_both_reach() -> None:
    first = {"a": ([0.1, 0.4], [20.0, 30.0]), "b": ([0.2, 0.8], [30.0, 40.0])}
    second = {"a": ([0.1, 0.4], [19.0, 29.0]), "b": ([0.5, 0.8], [0.0, 0.0]), "c": ([0.1, 0.4], [0.0, 0.0])}
    assert lead_at(first, second, 0.2).value == pytest.approx(1.0)
    assert lead_at(first, second, 0.2).count == 1
    assert lead_at(first, second, 3.0).count == 0
