"""Control arms of upscaling: adapters of other kinds from one frozen base, several seeds of each, on the same pictures.

Every run enlarges every picture of the frozen sorts at x4. Spreads are standard deviations over seeds. Differences are
of means over seeds, paired by picture, to the first arm; their 95 % intervals are from a bootstrap over pictures and do
not know how far other seeds would be, which the spreads tell. Each arm is told in use what it was told in training:
`--arm NAME=PATTERN` takes weights that were told what an estimator says, and `--arm NAME:TOLD=PATTERN` those that were
told "oracle", "constant" or "shuffled".
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import RESULTS, Record, Row
from benchmarks.restore_scores import gain
from benchmarks.super_resolution import SETS, eight_bits, psnr_y
from benchmarks.upscale import identity, network
from benchmarks.upscale_sets import SORTS, Case, cases, steps_of
from moesaic.upscale.truth import true_scores

TOLD = ("estimator", "oracle", "constant", "shuffled")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--arm", action="append", required=True, metavar="NAME[:TOLD]=PATTERN", help="runs or weights")
    options.add_argument("--every", type=int, default=1, metavar="N", help="each so many-th picture of a set")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    asked = options.parse_args(arguments)
    arms = dict(arm(text) for text in asked.arm)
    record = Record("upscale_arms", settings={"every": asked.every}, folder=asked.results)
    held = [case for sort in SORTS for name in SETS for case in cases(name, sort, every=asked.every)]
    runs: dict[str, list[Row]] = {}
    said: dict[tuple[str, int], Any] = {}  # what is told of each picture, the same for every run
    for name, (told, files) in arms.items():
        for seed, weights in enumerate(files):
            found = [alone(weights, told, case, held, said) for case in held]
            row: Row = {"arm": name, "told": told, "weights": identity(weights)}
            row["psnr_y"] = [one["psnr_y"] for one in found]
            row["ranks"] = [one["ranks"] for one in found]
            row["severity"] = [one["severity"] for one in found]
            record.put("runs", f"{name}/{seed}", row)
            runs.setdefault(name, []).append(row)
            print(f"{name}/{seed}: {_by_sort(row['psnr_y'], held)}", flush=True)
    for name, row in summarised(runs, held).items():
        record.put("arms", name, row)


def arm(text: str) -> tuple[str, tuple[str, list[str]]]:
    """Name, what it is told, and the files of an arm."""
    title, _, pattern = text.partition("=")
    name, _, told = title.partition(":")
    files = sorted(map(str, Path().glob(pattern)))
    if not name or not files or (told or "estimator") not in TOLD:
        raise SystemExit(f"--arm {text!r} names no arm with files; write NAME=PATTERN, or NAME:oracle=PATTERN")
    return name, (told or "estimator", files)


def alone(weights: str, told: str, case: Case, held: Sequence[Case], said: dict[tuple[str, int], Any]) -> Row:
    """PSNR-Y of one picture, the ranks that acted, and the severity that was told."""
    loaded = network(weights)
    low = _batch(case)
    scores = None
    if loaded.mix is not None:
        key = (told, id(case))
        if key not in said:
            said[key] = told_of(told, case, held)
        scores = said[key]
    with torch.inference_mode():
        large = loaded(low, case.scale, None if scores is None else scores.values)
    made = eight_bits(large[0].permute(1, 2, 0).numpy())
    ranks = None
    if scores is not None:
        from moesaic.upscale.use import ranks_used

        ranks = sum(used.active for used in ranks_used(loaded, scores).values())
    severity = None if scores is None else round(float(scores.severity[0]), 4)
    return {"psnr_y": psnr_y(made, case.large, case.scale), "ranks": ranks, "severity": severity}


def told_of(told: str, case: Case, held: Sequence[Case]) -> Any:
    """What an adapter is told of a picture; "shuffled" is what is said of the next but five in the list."""
    from moesaic.upscale.estimators import make_estimator
    from moesaic.upscale.scores import Scores

    if told == "oracle":
        steps, severity = steps_of(case)
        height, width = case.large.shape[:2]
        return true_scores([steps], [severity], height, width)
    if told == "shuffled":
        places = {id(one): place for place, one in enumerate(held)}
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(held), generator=generator).tolist()
        case = held[order[places[id(case)]]]
    said = make_estimator()(_batch(case))
    if told == "constant":
        return Scores(
            names=said.names, values=torch.full_like(said.values, 0.5), severity=torch.full_like(said.severity, 0.5)
        )
    return said


def summarised(runs: Mapping[str, Sequence[Row]], held: Sequence[Case]) -> dict[str, Row]:
    """By arm and sort: mean and spread over seeds, by how much it is ahead of the first arm, ranks and severity."""
    first = next(iter(runs.values()))
    rows: dict[str, Row] = {}
    for name, mine in runs.items():
        row: Row = {"seeds": len(mine), "told": mine[0]["told"], "parameters": mine[0]["weights"].get("parameters")}
        for sort in (*SORTS, "all"):
            places = [place for place, case in enumerate(held) if sort in (case.sort, "all")]
            each = [statistics.fmean(run["psnr_y"][place] for place in places) for run in mine]
            found: Row = {"psnr_y": round(statistics.fmean(each), 3)}
            found["spread"] = round(statistics.stdev(each), 3) if len(each) > 1 else None
            found["ahead"] = gain(
                [_mean(mine, place) - _mean(first, place) for place in places],
                [f"{held[place].set}/{held[place].picture}" for place in places],
            )
            if mine[0]["ranks"][0] is not None:
                found["ranks"] = round(statistics.fmean(run["ranks"][place] for run in mine for place in places), 2)
            row[sort] = found
        rows[name] = row
    return rows


def _mean(runs: Sequence[Row], place: int) -> float:
    return statistics.fmean(run["psnr_y"][place] for run in runs)


def _by_sort(values: Sequence[float], held: Sequence[Case]) -> str:
    told = []
    for sort in SORTS:
        mine = [value for value, case in zip(values, held, strict=True) if case.sort == sort]
        told.append(f"{sort} {statistics.fmean(mine):.3f}")
    return ", ".join(told) + " dB"


def _batch(case: Case) -> torch.Tensor:
    pixels = np.ascontiguousarray(case.small.transpose(2, 0, 1)).astype(np.float32) / 255
    return torch.from_numpy(pixels)[None]


if __name__ == "__main__":
    main()
