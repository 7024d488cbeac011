"""The network whose restoration is measured: loaded by name or file, and at work in a process on each core.

Each process has one thread, which is faster over many pictures than threads within each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import RESULTS, Row

if TYPE_CHECKING:
    from moesaic.restore.network import MoceLite

Pixels = NDArray[np.float32]  # (H, W, 3) in [0, 1]
DEFAULT = "moce_lite_restore"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_held: dict[str, Any] = {}  # the networks of this process, by name or file


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every measurement of a network has."""
    options = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    options.add_argument("--model", default=DEFAULT, metavar="NAME|FILE", help="weights by name, file or run's folder")
    options.add_argument("--only", type=int, metavar="K", help="each K-th picture of every set")
    options.add_argument("--workers", type=int, default=cores(), help="processes, of one thread each")
    options.add_argument("--results", type=Path, metavar="DIR", default=RESULTS, help="where the JSON goes")
    options.add_argument("--resume", action="store_true", help="keep the rows of an earlier run of the same code")
    return options


def cores() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def network(model: str) -> MoceLite:
    """The network of that name or file, loaded once in each process."""
    from moesaic.restore.models import registry
    from moesaic.training.device import channels_last

    if model not in _held:
        loaded = registry.load(model)
        channels_last(loaded)
        _held[model] = loaded
    found: MoceLite = _held[model]
    return found


def identity(model: str) -> Row:
    """What a record says of the weights, so that nobody mistakes them for others."""
    from moesaic.weights_file import card_of

    loaded = network(model)
    card = card_of(loaded)
    return {
        "architecture": card.architecture if card else type(loaded).__name__,
        "name": card.name if card else "",
        "sha256": card.sha256 if card else "",
        "parameters": sum(parameter.numel() for parameter in loaded.parameters()),
        "price": getattr(loaded, "price", None),
    }


def restored(model: str, pixels: Pixels) -> Pixels:
    """A picture as the network restores it in one piece, not clipped."""
    import torch

    with torch.inference_mode():
        found = network(model)(as_batch(pixels))
    return np.ascontiguousarray(found[0].permute(1, 2, 0).numpy())


def as_batch(pixels: NDArray[np.floating]) -> Any:  # (1, 3, H, W)
    """The tensor that networks take."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))[None]


@contextlib.contextmanager
def workers(count: int, model: str) -> Iterator[Callable[[Callable[[_Item], _Result], Iterable[_Item]], list[_Result]]]:
    """A map over pictures, in the order of the pictures; with one worker in this process.

    The function is one of a module, and items can be pickled. In each process the network is there already.
    """
    if count <= 1:
        _begin(model)
        yield lambda function, items: [function(item) for item in items]
        return
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=_begin, initargs=(model,)) as pool:
        yield lambda function, items: list(pool.map(function, items))


def _begin(model: str) -> None:
    import torch

    torch.set_num_threads(1)
    network(model)
