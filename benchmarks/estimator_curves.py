"""The curves of the analytic estimator, fitted on training pictures and printed as they stand in its module.

What is measured on crops that are damaged in known ways is ranked, and the true scores become the nearest curve that
never falls (isotonic regression), told by a few of its points. The severity is a sum of the four scores with weights
that are not negative, and one more curve.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from moesaic.training.bank import list_pictures, read_bank
from moesaic.training.seeds import generator_for
from moesaic.training.store import as_input
from moesaic.upscale.analytic import measure
from moesaic.upscale.estimator_inputs import SHRINKS, draw_inputs
from moesaic.upscale.truth import NAMES
from moesaic.upscale.typical import POINTS, Typical, rising

MIX = {"wild": 0.3, "noise": 0.18, "blur": 0.18, "jpeg": 0.18, "resolution": 0.06, "clean": 0.1}
CROP = 80  # px
KNOTS = (0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94, 0.975, 1)  # quantiles that become points of a curve
Curve = tuple[list[float], list[float]]


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--fit", type=Path, required=True, metavar="FOLDER|LIST", help="training pictures")
    options.add_argument("--crops", type=int, default=1600)
    asked = options.parse_args(arguments)
    bank = read_bank(list_pictures(asked.fit), least=CROP * max(SHRINKS))
    measures, truth = [], []
    for turn in range(asked.crops // 16):
        inputs = _inputs(bank, turn, MIX)
        measures.append(measure(inputs.pictures))
        truth.append(torch.cat([inputs.truth.values, inputs.truth.severity[:, None]], 1).double().numpy())
    seen, true = np.concatenate(measures), np.concatenate(truth)
    curves = {name: _curve(seen[:, place], true[:, place]) for place, name in enumerate(NAMES)}
    scores = _scored(seen, curves)
    weights = _weights(scores, true[:, -1])
    severity = _curve(scores @ weights, true[:, -1])
    levels, chains = [], []
    for turn in range(asked.crops // 16):
        level = turn % POINTS / (POINTS - 1)
        inputs = _inputs(bank, 10**6 + turn, {"wild" if level else "clean": 1.0}, strength=level)
        chains.append(_scored(measure(inputs.pictures), curves))
        levels += [level] * len(inputs.pictures)
    typical = Typical.measured(NAMES, levels, np.concatenate(chains))
    print("CURVES:", curves)
    print("SEVERITY:", (weights.round(4).tolist(), *severity))
    print("TYPICAL:", typical.rows)


def _inputs(bank, turn, mix, strength=None):  # type: ignore[no-untyped-def]
    shrink = SHRINKS[turn % len(SHRINKS)]
    clean = as_input(bank.crops(generator_for(0, "curves", turn), 16, CROP * shrink, shrink=0.5))
    strengths = None if strength is None else torch.full((16,), float(strength))
    return draw_inputs(clean, generator_for(0, "damage of curves", turn), shrink, mix, strengths)


def _curve(measured: np.ndarray, true: np.ndarray) -> Curve:
    order = np.argsort(measured, kind="stable")
    fitted = rising(true[order], np.ones(len(order), dtype=np.int64))
    places = np.round(np.array(KNOTS) * (len(order) - 1)).astype(int)
    wide = max(1, len(order) // 150)
    xs = [float(np.mean(measured[order][max(0, at - wide) : at + wide])) for at in places]
    ys = [float(np.mean(fitted[max(0, at - wide) : at + wide])) for at in places]
    return [round(x, 4) for x in xs], [round(y, 4) for y in ys]


def _scored(measured: np.ndarray, curves: dict[str, Curve]) -> np.ndarray:
    return np.stack([np.interp(measured[:, place], *curves[name]) for place, name in enumerate(NAMES)], axis=1)


def _weights(scores: np.ndarray, severity: np.ndarray) -> np.ndarray:
    """Least squares with weights that are not negative, by coordinate descent."""
    weights = np.full(scores.shape[1], 0.25)
    for _ in range(200):
        for column in range(len(weights)):
            rest = severity - scores @ weights + scores[:, column] * weights[column]
            weights[column] = max(0.0, rest @ scores[:, column] / max(1e-9, scores[:, column] @ scores[:, column]))
    return weights


if __name__ == "__main__":
    main()
