"""What the arms of a comparison cost: parameters, multiply-adds and latency, beside the dense network in one run.

Multiply-adds are counted as they run (`torch.utils.flop_counter`), at 480x360 and batch 1: those of convolutions,
transposed ones too, and of matrix products. For a routed layer these are one convolution for each patch, whatever k is,
the mixing of its kernel, and the gate. Not counted: norms, activations, pooling, resampling, and additions of biases.

Latency is that of the network alone on the CPU, without reading the picture and enlarging the logits, in the layout in
which `moesaic segment` runs it. The arms of a network take turns; an arm's ratio is the median over turns of its time
by that of the dense network in the same turn.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import RESULTS, Record, Row
from benchmarks.segment import ARMS, SCRATCH
from benchmarks.timing import alternate, summary
from moesaic.segment.arms import arm
from moesaic.segment.build import build, parameters
from moesaic.segment.networks import NETWORKS

if TYPE_CHECKING:
    from torch import nn

    from moesaic.segment.recipe import SegmentRecipe

SIZE = (360, 480)  # rows and columns, px
CLASSES = 11
COMPARED = ("enet", "erfnet")  # whose arms are all trained; of the others there are the dense and the routed one


def main(arguments: list[str] | None = None) -> None:
    asked = _options().parse_args(arguments)
    torch.set_num_threads(asked.threads)
    settings = {
        "size": list(SIZE),
        "classes": CLASSES,
        "batch": 1,
        "threads": asked.threads,
        "precision": "float32",
        "layout": "contiguous",
        "experts": SCRATCH.experts,
        "k": SCRATCH.k,
        "grid": SCRATCH.grid,
        "gate": SCRATCH.gate,
    }
    record = Record("segment_cost", settings=settings, folder=asked.results, resume=asked.resume)
    for network in asked.networks.split(","):
        recipes = arms_of(network)
        if all(record.has("arms", f"{network}/{label}") for label in recipes):
            continue
        for label, row in measure(recipes, turns=asked.turns, budget=asked.budget).items():
            record.put("arms", f"{network}/{label}", row)
            time = row["time"]["median_ms"]
            print(f"{network}/{label}: {row['multiply_adds'] / 1e6:,.1f} M, {time:.1f} ms", flush=True)


def arms_of(network: str) -> dict[str, SegmentRecipe]:
    """The recipe of each arm, the dense one first."""
    routed = replace(SCRATCH, network=network)
    labels = ("dense", *(label for label in ARMS if label != "dense")) if network in COMPARED else ("dense", "moe")
    return {label: arm(routed, label, classes=CLASSES) for label in labels}


@torch.inference_mode()
def measure(
    recipes: dict[str, SegmentRecipe], *, size: tuple[int, int] = SIZE, turns: int = 31, budget: float = 60.0
) -> dict[str, Row]:
    """A row for each arm of one network; one of them is "dense"."""
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    models = {label: build(recipe, CLASSES).eval() for label, recipe in recipes.items()}
    counts = {label: multiply_adds(model, x) for label, model in models.items()}
    rivals = {label: lambda model=model: model(x) for label, model in models.items()}
    spent = alternate(rivals, turns=turns, budget=budget)
    return {
        label: {
            "network": recipes[label].network,
            "arm": label,
            "width": recipes[label].width,
            "parameters": parameters(model),
            "multiply_adds": counts[label],
            "time": summary(spent[label]),
            "times_dense": round(
                statistics.median(ours / theirs for ours, theirs in zip(spent[label], spent["dense"], strict=True)), 3
            ),
        }
        for label, model in models.items()
    }


def multiply_adds(model: nn.Module, x: torch.Tensor) -> int:
    """Those of convolutions and matrix products in one forward pass."""
    with FlopCounterMode(display=False) as counter:
        model(x)
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition apart


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas between them")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--turns", type=int, default=31, help="of each arm")
    options.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="for the turns of a network")
    options.add_argument("--resume", action="store_true", help="keep the networks of an earlier run of the same commit")
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the record")
    return options


if __name__ == "__main__":
    main()
