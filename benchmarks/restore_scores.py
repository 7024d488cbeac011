"""Figures of restored pictures: what one is worth, what many are worth, and how much of a choice their damage explains.

Everything is measured on arrays clipped and rounded to 8 bits. A picture that is equal to its source to the last bit
counts as `EQUAL` dB. A gain is taken on the same pictures; its 95 % interval is that of a bootstrap over them.
"""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import rounded
from moesaic import metrics
from moesaic.routing.audit import FEW
from moesaic.routing.resampling import PictureScores, interval, resampled

EQUAL = 60.0  # dB
CLEAN = 45.0  # dB, what a clean picture counts at most in a mean over kinds: as the training loss sees no gain beyond
OURS = "moesaic"
Row = dict[str, Any]


def psnr(pixels: NDArray[np.floating], clean: NDArray[np.floating]) -> float:
    """Of the pixels as 8 bits hold them, at most `EQUAL` dB."""
    return min(metrics.psnr(rounded(pixels), clean), EQUAL)


def counted(kind: str, value: float) -> float:
    """A PSNR as it counts in means over kinds, dB: clean pictures, which are near `EQUAL`, must not rule them."""
    return min(value, CLEAN) if kind == "clean" else value


def score(pixels: NDArray[np.floating], clean: NDArray[np.floating]) -> Row:
    """PSNR (dB) and SSIM of one picture, (H, W, C) both."""
    eight = rounded(pixels)
    return {"psnr": round(psnr(eight, clean), 4), "ssim": round(metrics.ssim(eight, clean), 5)}


def gain(values: Sequence[float], pictures: Sequence[Hashable] | None = None) -> Row:
    """Mean of the differences of two methods, its interval, and the extremes.

    Args:
        values: differences, dB.
        pictures: what each was measured on; differences on one picture are drawn together. Unless given, each has a
            picture of its own.

    Returns:
        "mean", "low" and "high" (None where pictures are too few for an interval), "least" and "most".
    """
    found: Row = {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}
    names = list(range(len(values))) if pictures is None else list(pictures)
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    sums = torch.zeros(len(places), 2, dtype=torch.float64)
    where = torch.tensor([places[name] for name in names])
    sums.index_add_(0, where, torch.tensor([[value, 1.0] for value in values], dtype=torch.float64))
    found["low"] = found["high"] = None
    if len(places) >= FEW:
        draws = resampled([PictureScores(parts=sums, score=lambda parts: parts[..., 0] / parts[..., 1])])
        found["low"], found["high"] = interval(draws[0])
    return {name: None if value is None else round(value, 3) for name, value in found.items()}


def summary(rows: Sequence[Row]) -> Row:
    """What several methods reach on several pictures, from rows {"picture": name, "results": {method: score}}.

    Returns:
        "pictures" and "methods": means, standard deviations over pictures, each picture's PSNR, and by how much OURS
        is ahead; of every further measure that a score holds, the mean.
    """
    methods: dict[str, Row] = {}
    for name in rows[0]["results"]:
        scores = [row["results"][name] for row in rows]
        each = [one["psnr"] for one in scores]
        found: Row = {
            "psnr": round(statistics.fmean(each), 3),
            "deviation": round(statistics.stdev(each), 3) if len(each) > 1 else None,
            "ssim": round(statistics.fmean(one["ssim"] for one in scores), 4),
            "each": " ".join(f"{value:.2f}" for value in each),
        }
        for further in sorted(scores[0].keys() - {"psnr", "ssim"}):
            found[further] = round(statistics.fmean(one[further] for one in scores), 3)
        if name != OURS and OURS in rows[0]["results"]:
            found["ahead"] = gain([row["results"][OURS]["psnr"] - row["results"][name]["psnr"] for row in rows])
        methods[name] = found
    return {"pictures": " ".join(str(row["picture"]) for row in rows), "methods": methods}


def explained(causes: Sequence[Hashable], effects: Sequence[Hashable]) -> float:
    """Mutual information of both over the entropy of the effects, in [0, 1]; NaN where the effects are all the same."""
    (rows, n_rows), (columns, n_columns) = _numbered(causes), _numbered(effects)
    joint = np.zeros((n_rows, n_columns))
    np.add.at(joint, (rows, columns), 1.0 / len(rows))
    effect = _entropy(joint.sum(0))
    shared = _entropy(joint.sum(1)) + effect - _entropy(joint.ravel())
    return min(1.0, max(0.0, shared / effect)) if effect > 1e-12 else float("nan")


def against_chance(
    causes: Sequence[Hashable], effects: Sequence[Hashable], *, shuffles: int = 200, seed: int = 0
) -> Row:
    """`explained`, and what it is where causes and effects are paired by chance: few pictures explain much by chance.

    Returns:
        "information"; "chance" and "chance_most", mean and 95 % quantile over the shuffles; "chance_share", the share
        of the shuffles, the true pairing counted among them, that reach it. None where the effects are all the same.
    """
    found = explained(causes, effects)
    if np.isnan(found):
        return {"information": None, "chance": None, "chance_most": None, "chance_share": None}
    random = np.random.default_rng(seed)
    drawn = [explained(causes, [effects[i] for i in random.permutation(len(effects))]) for _ in range(shuffles)]
    return {
        "information": round(found, 4),
        "chance": round(float(np.mean(drawn)), 4),
        "chance_most": round(float(np.quantile(drawn, 0.95)), 4),
        "chance_share": round((1 + sum(value >= found - 1e-12 for value in drawn)) / (1 + shuffles), 4),
    }


def shares(kinds: Sequence[str], experts: Sequence[int], count: int) -> Mapping[str, list[float]]:
    """Of the pictures of each kind, the share that each expert has."""
    table: dict[str, list[float]] = {}
    for kind in dict.fromkeys(kinds):
        mine = [expert for one, expert in zip(kinds, experts, strict=True) if one == kind]
        table[kind] = [round(mine.count(expert) / len(mine), 4) for expert in range(count)]
    return table


def _numbered(values: Sequence[Hashable]) -> tuple[NDArray[np.int64], int]:
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return np.array([places[value] for value in values], dtype=np.int64), len(places)


def _entropy(p: NDArray[np.float64]) -> float:
    kept = p[p > 0]
    return float(-(kept * np.log(kept)).sum())
