"""The shipped segmentation weights on CamVid: mean IoU on val and test, and on test with the gate replaced."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.comparisons import scored
from benchmarks.record import RESULTS, Record
from benchmarks.segment import CAMVID
from moesaic.metrics import intersection_over_union, mean_iou
from moesaic.routing.collect import routed_layers
from moesaic.routing.controls import control
from moesaic.routing.usage import Usage
from moesaic.segment.data import FolderData
from moesaic.segment.models import DEFAULT_MODEL
from moesaic.weights_file import card_of
from moesaic.zoo import load_model

CONTROLS = ("none", "shuffled", "uniform", "random", "position")


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=Path, default=RESULTS, help="folder of the record")
    asked = options.parse_args(arguments)
    if not CAMVID.is_dir():
        raise SystemExit("the folder ../shared/data/camvid is not there; see docs/segmentation.md for where CamVid is")
    model = load_model(DEFAULT_MODEL).eval()
    card = card_of(model)
    if card is None or card.size is None:
        raise SystemExit(f"{DEFAULT_MODEL} has no card that states its size")
    data = FolderData(CAMVID)
    settings = {
        "model": card.name,
        "sha256": card.sha256,
        "seen at": f"{card.size[1]}x{card.size[0]}",
        "scored": "logits enlarged to 480x360, one confusion matrix, void left out",
        "threads": torch.get_num_threads(),
    }
    record = Record("segment_shipped", settings=settings, folder=asked.results)
    for split in ("val", "test"):
        frames, whole = data.read(split, card.size), data.read(split)
        usage = {name: Usage(len(data.classes)) for name in routed_layers(model)}
        for name in CONTROLS if split == "test" else CONTROLS[:1]:
            positions = None
            if name == "position":
                positions = {layer: of_layer.position_probabilities for layer, of_layer in usage.items()}
            with control(model, name, positions=positions):
                total = scored(model, frames, whole, usage if name == "none" else {}).sum(0)
            row = {
                "split": split,
                "gate": "its own" if name == "none" else name,
                "miou": round(100 * mean_iou(total), 3),
                "iou": [round(100 * value, 2) for value in intersection_over_union(total).tolist()],
            }
            record.put("scores", f"{split}/{row['gate']}", row)
            print(f"{split}/{row['gate']}: {row['miou']:.2f} mIoU", flush=True)


if __name__ == "__main__":
    main()
