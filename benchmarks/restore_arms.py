"""Networks trained alike in other ways, several seeds of each, on the same pictures: what they reach, cost and take.

Every run restores every picture by its chosen experts and by its dearest. Kinds count alike in a mean; clean pictures,
where nothing is to be gained, stand apart. Spreads are standard deviations over seeds. Differences to the first arm are
of means over seeds, paired by picture, their 95 % intervals from a bootstrap over pictures: they do not know how far
other seeds would be, which the spreads tell.
"""

from __future__ import annotations

import argparse
import functools
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import restore_routes as routes
from benchmarks import restore_sets
from benchmarks.record import Record, Row
from benchmarks.restore import thawed
from benchmarks.restore_network import as_batch, identity, network, workers
from benchmarks.restore_scores import gain, psnr
from benchmarks.timing import alternate
from moesaic.degrade.frozen import Entry

SIZE = (321, 481)  # rows and columns at which work and time are told
ROUTES = ("chosen", "dearest")


def work_of(model: str, choices: Sequence[str] = ()) -> Row:
    """Parameters, and multiply-adds at `SIZE`: with the cheapest and the dearest experts, and the mean of routes.

    Of the decoder, too, of which the always-on part follows from the share that the network states.
    """
    from moesaic.restore.cost import work

    loaded = network(model)
    found = work(loaded, *SIZE)
    row = {
        "parameters": identity(model)["parameters"],
        "cheapest_macs": round(found.fixed + sum(min(level) for level in found.experts.values())),
        "dearest_macs": round(found.dearest),
        "decoder_macs": round(sum(map(max, found.experts.values())) / (1 - loaded.fixed_cost)),
    }
    if choices:
        acting = (dict(zip(found.experts, map(int, route), strict=True)) for route in choices)
        row["chosen_macs"] = round(statistics.fmean(found.chosen(experts) for experts in acting))
    return row


def compare(record: Record, arms: Mapping[str, Sequence[str]], entries: list[Entry], count: int, turns: int) -> None:
    """A row for each run in the section "runs", and for each arm in "arms"."""
    names = [entry.picture for entry in entries]
    for name, files in arms.items():
        for seed, weights in enumerate(files):
            key = f"{name}/{seed}"
            if record.has("runs", key) and record.content["results"]["runs"][key]["weights"] == identity(weights):
                continue
            with workers(count, weights) as spread:
                found = spread(functools.partial(alone, weights), entries)
            row: Row = {"arm": name, "weights": identity(weights)}
            row |= {what: [one[what] for one in found] for what in ("input", *ROUTES)}
            record.put("runs", key, row | work_of(weights, [one["route"] for one in found]))
            told = ", ".join(f"{what} {statistics.fmean(row[what]):.3f}" for what in ROUTES)
            print(f"arm {key}: {told} dB", flush=True)
    runs = {name: [record.content["results"]["runs"][f"{name}/{i}"] for i in range(len(f))] for name, f in arms.items()}
    ratios = times({name: files[0] for name, files in arms.items()}, turns)
    for name, row in summarised(runs, names).items():
        record.put("arms", name, row | ratios[name])


def summarised(runs: Mapping[str, Sequence[Row]], names: Sequence[str]) -> dict[str, Row]:
    """What the runs of each arm say together; `names` are those of pictures, as "kind/picture"."""
    kinds = [name.partition("/")[0] for name in names]
    damaged = [place for place, kind in enumerate(kinds) if kind != "clean"]
    first = next(iter(runs.values()))
    unit = first[0]["decoder_macs"]
    rows = {}
    for name, mine in runs.items():
        row: Row = {
            "seeds": len(mine),
            "parameters": mine[0]["parameters"],
            "weights": [run["weights"] for run in mine],
        }
        row["cheapest_macs"], row["dearest_macs"] = mine[0]["cheapest_macs"], mine[0]["dearest_macs"]
        row["chosen_macs"] = round(statistics.fmean(run["chosen_macs"] for run in mine))
        rest = row["dearest_macs"] - mine[0]["decoder_macs"]
        row["decoder"] = {what: round((row[f"{what}_macs"] - rest) / unit, 4) for what in ROUTES}
        for what in ROUTES:
            each = [_by_kind(run[what], kinds) for run in mine]
            before = _by_kind(mine[0]["input"], kinds)
            wrong = [kind for kind in before if kind != "clean"]
            found: Row = {"kinds": {kind: _spread([one[kind] for one in each]) for kind in before}}
            if wrong:
                found["psnr"] = _spread([statistics.fmean(one[kind] for kind in wrong) for one in each])
                found["gain"] = _spread([statistics.fmean(one[k] - before[k] for k in wrong) for one in each])
                found["first_ahead"] = gain(
                    [_mean(first, what, place) - _mean(mine, what, place) for place in damaged],
                    [names[place].partition("/")[2] for place in damaged],
                )
            row[what] = found
        row["input"] = {kind: round(value, 3) for kind, value in _by_kind(mine[0]["input"], kinds).items()}
        rows[name] = row
    return rows


def alone(model: str, entry: Entry) -> Row:
    """The PSNR of one picture as it is and by each of `ROUTES`, dB, and the route that was chosen."""
    damaged, clean = thawed(entry)
    picture = routes.Tried(model, damaged, clean)
    chosen, dearest = picture.chosen(), "".join(str(count - 1) for count in routes.counts(model))
    found = {"input": psnr(damaged, clean), "chosen": picture.psnr(chosen), "dearest": picture.psnr(dearest)}
    return {"route": chosen} | {name: round(value, 4) for name, value in found.items()}


def times(models: Mapping[str, str], turns: int) -> dict[str, Row]:
    """Milliseconds of one thread for a picture of `SIZE`, in turns, and the median ratio to the first network's."""
    import torch

    x = as_batch(thawed(restore_sets.entries("noise_25")[0])[0])[..., : SIZE[0], : SIZE[1]]

    def run(model: str) -> Any:
        with torch.inference_mode():
            return network(model)(x)

    torch.set_num_threads(1)
    spent = alternate({name: functools.partial(run, model) for name, model in models.items()}, turns=turns)
    first = next(iter(spent.values()))
    return {
        name: {
            "milliseconds": round(statistics.median(mine), 1),
            "times_first": round(statistics.median(a / b for a, b in zip(mine, first, strict=True)), 3),
        }
        for name, mine in spent.items()
    }


def arm(text: str) -> tuple[str, list[str]]:
    """NAME=FILE,FILE; a FILE may be a pattern with stars."""
    name, mark, weights = text.partition("=")
    files = [found for one in weights.split(",") for found in _matching(one)]
    if not (name and mark and files and all(files)):
        raise argparse.ArgumentTypeError(f"an arm is NAME=FILE, with files that are there, not {text!r}")
    return name, files


def _matching(pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    path = Path(pattern)
    return sorted(map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor)))))


def together(found: Sequence[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """The files of each arm that was named once or more."""
    arms: dict[str, list[str]] = {}
    for name, files in found:
        arms.setdefault(name, []).extend(files)
    return arms


def without_folders(command: str) -> str:
    """A command line for a record: of each NAME=FILE,FILE with absolute paths, the last parts of the paths."""
    return re.sub(r"(?<=[=,])/[^\s,]*/(?=[^/\s,])", "", command)


def _by_kind(values: Sequence[float], kinds: Sequence[str]) -> dict[str, float]:
    return {
        kind: statistics.fmean(value for value, one in zip(values, kinds, strict=True) if one == kind)
        for kind in dict.fromkeys(kinds)
    }


def _spread(values: Sequence[float]) -> Row:
    deviation = round(statistics.stdev(values), 4) if len(values) > 1 else None
    return {"mean": round(statistics.fmean(values), 4), "spread": deviation}


def _mean(runs: Sequence[Row], what: str, place: int) -> float:
    return statistics.fmean(run[what][place] for run in runs)
