"""Networks trained in other ways, on the same pictures: what they reach, what they cost, and how long they take."""

from __future__ import annotations

import argparse
import functools
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import restore_sets
from benchmarks.record import Record, Row
from benchmarks.restore import thawed
from benchmarks.restore_network import as_batch, identity, network, restored, workers
from benchmarks.restore_scores import gain, psnr
from benchmarks.timing import alternate
from moesaic.degrade.frozen import Entry

SIZE = (321, 481)  # rows and columns at which work and time are told


def work_of(model: str, choices: Sequence[Mapping[str, int]] = ()) -> Row:
    """Parameters, and multiply-adds at `SIZE`: with the cheapest and the dearest experts, and the mean of choices."""
    from moesaic.restore.cost import work

    found = work(network(model), *SIZE)
    row = {
        "parameters": identity(model)["parameters"],
        "cheapest_macs": round(found.fixed + sum(min(level) for level in found.experts.values())),
        "dearest_macs": round(found.dearest),
    }
    if choices:
        row["chosen_macs"] = round(statistics.fmean(found.chosen(experts) for experts in choices))
    return row


def compare(record: Record, model: str, arms: dict[str, str], entries: list[Entry], count: int, turns: int) -> None:
    """A row for each network: PSNR by kind, by how much the model is ahead, work, and time beside it."""
    kinds, names = zip(*(entry.picture.split("/") for entry in entries), strict=True)
    scores: dict[str, list[float]] = {}
    spent: dict[str, Row] = {}
    for name, weights in {"model": model, **arms}.items():
        with workers(count, weights) as spread:
            found = spread(functools.partial(alone, weights), entries)
        scores[name] = [decibels for decibels, _ in found]
        spent[name] = work_of(weights, [experts for _, experts in found])
    ratios = times({"model": model, **arms}, turns)
    for name, weights in {"model": model, **arms}.items():
        mine = scores[name]
        row: Row = {"weights": identity(weights), **spent[name], **ratios[name]}
        row["psnr"] = round(statistics.fmean(mine), 4)
        row["kinds"] = {
            kind: round(statistics.fmean(p for p, k in zip(mine, kinds, strict=True) if k == kind), 3)
            for kind in dict.fromkeys(kinds)
        }
        row["model_ahead"] = gain([a - b for a, b in zip(scores["model"], mine, strict=True)], names)
        record.put("arms", name, row)
        print(f"arm {name}: {row['psnr']:.3f} dB, {row['times_model']:.2f} of the model's time", flush=True)


def alone(model: str, entry: Entry) -> tuple[float, dict[str, int]]:
    """The PSNR of one picture, dB, and the experts that acted on it by the layer's name."""
    import torch

    damaged, clean = thawed(entry)
    with torch.inference_mode():
        looked = network(model).look([as_batch(damaged)])
    acting = {name: int(routing.chosen.flatten()[0]) for name, routing in looked.routings.items()}
    return psnr(restored(model, damaged), clean), acting


def times(models: dict[str, str], turns: int) -> dict[str, Row]:
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
            "times_model": round(statistics.median(a / b for a, b in zip(mine, first, strict=True)), 3),
        }
        for name, mine in spent.items()
    }


def arm(text: str) -> tuple[str, str]:
    """NAME=FILE."""
    name, mark, weights = text.partition("=")
    if not (name and mark and weights) or name == "model":
        raise argparse.ArgumentTypeError(f"an arm is NAME=FILE, and its name not model; not {text!r}")
    return name, weights


def without_folders(command: str) -> str:
    """A command line for a record: of each NAME=FILE with an absolute path, the last part of the path."""
    return re.sub(r"=/\S*/(?=[^/\s])", "=", command)
