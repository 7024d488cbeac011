"""Rate-distortion curves read at common rates: interpolation in log(bpp) by picture, means with their counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GRID = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)  # bpp


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over those pictures whose curve reaches a rate."""

    value: float  # nan where none does
    count: int


def at_rate(bpp: Sequence[float], values: Sequence[float], rate: float) -> float:
    """A picture's curve at one rate, linear in log(bpp) between its files; nan beyond them."""
    order = np.argsort(bpp, kind="stable")
    x, y = np.log(np.asarray(bpp, float)[order]), np.asarray(values, float)[order]
    place = math.log(rate)
    if not len(x) or place < x[0] - 1e-12 or place > x[-1] + 1e-12:
        return math.nan
    return float(np.interp(place, x, y))


def mean_at(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],  # by picture: bpp, values
    rate: float,
) -> Mean:
    """The mean over pictures at one rate."""
    found = [v for bpp, values in curves.values() if not math.isnan(v := at_rate(bpp, values, rate))]
    return Mean(sum(found) / len(found), len(found)) if found else Mean(math.nan, 0)


def rate_for(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    value: float,
) -> float:
    """The lowest rate at which the mean over all pictures reaches a value, interpolated in log(bpp); nan if none."""
    rates = _common(curves)
    means = [mean_at(curves, rate).value for rate in rates]
    for i, mean in enumerate(means):
        if mean >= value:
            if i == 0:
                return rates[0] if mean == value else math.nan  # reached already below the lowest common rate
            share = (value - means[i - 1]) / (mean - means[i - 1])
            return math.exp(math.log(rates[i - 1]) + share * math.log(rates[i] / rates[i - 1]))
    return math.nan


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two mean curves stand to each other, on the rates that every picture of both reaches."""

    lowest: float  # bpp, nan without common rates
    highest: float
    at: tuple[float, ...]  # bpp of the crossings
    first_ahead_at_lowest: bool


def crossing(
    first: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    second: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> Crossing:
    """Where the first curve's mean lead over the second changes sign, over the pictures that both have."""
    both = sorted(set(first) & set(second))
    first, second = {k: first[k] for k in both}, {k: second[k] for k in both}
    shared = [*_spans(first), *_spans(second)]
    if not shared or max(s[0] for s in shared) >= min(s[1] for s in shared):
        return Crossing(math.nan, math.nan, (), False)
    lowest, highest = max(s[0] for s in shared), min(s[1] for s in shared)
    rates = np.geomspace(lowest, highest, 241)
    lead = [mean_at(first, float(r)).value - mean_at(second, float(r)).value for r in rates]
    at = []
    for i in range(1, len(rates)):
        if (lead[i - 1] > 0) != (lead[i] > 0):
            share = lead[i - 1] / (lead[i - 1] - lead[i])
            at.append(float(rates[i - 1] * (rates[i] / rates[i - 1]) ** share))
    return Crossing(lowest, highest, tuple(at), lead[0] > 0)


def _spans(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[tuple[float, float]]:
    return [(min(bpp), max(bpp)) for bpp, _ in curves.values()]


def _common(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[float]:
    spans = _spans(curves)
    if not spans:
        return []
    lowest, highest = max(s[0] for s in spans), min(s[1] for s in spans)
    return [float(r) for r in np.geomspace(lowest, highest, 241)] if lowest < highest else []


def lead_at(
    first: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    second: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    rate: float,
) -> Mean:
    """The mean lead of the first curve over the second at one rate, over the pictures that reach it in both."""
    leads = [at_rate(*first[k], rate) - at_rate(*second[k], rate) for k in first if k in second]
    leads = [lead for lead in leads if not math.isnan(lead)]
    return Mean(sum(leads) / len(leads), len(leads)) if leads else Mean(math.nan, 0)
