"""The best routes that are the same for every picture, found on pictures that are not tested on.

Crops of the training pictures are damaged as in training, each kind as often as the frozen sets hold it, and restored
by every route. So a rival of the gates that looks at nothing knows how often which damage comes, and no more.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import restore_routes as routes
from benchmarks.record import ROOT
from benchmarks.restore_network import network, workers
from benchmarks.restore_sets import NEVER_DRAWN, SETS

TRAIN = ROOT.parent / "shared" / "data" / "train.txt"
BATCHES = 12  # of crops
BATCH = 16
SIDE = 96  # px
BUDGETS = (0.55, 0.6, 0.7, 0.8, 0.9, 1.0)  # shares of the dearest decoder
_SEED = 20_000  # of the first batch; no training draws from such a generator


def mix() -> dict[str, int]:
    """How many frozen sets there are of each kind, of those that training draws."""
    kinds = ("clean" if name == "clean" else damage.kind for name, damage in SETS.items() if name not in NEVER_DRAWN)
    return dict(collections.Counter(kinds))


def worth(model: str, count: int, *, data: Path = TRAIN, batches: int = BATCHES) -> dict[str, float]:
    """What each route reaches on average, dB, by the error that training counts; nothing without pictures."""
    if not data.is_file():
        return {}
    with workers(count, model) as spread:
        found = spread(functools.partial(tried, model, data), range(batches))
    return {route: sum(one[route] for one in found) / len(found) for route in found[0]}


def tried(model: str, data: Path, number: int) -> Mapping[str, float]:
    """All routes on one batch of crops: the mean of their dB."""
    import torch

    from moesaic.degrade.batch import degrade_batch
    from moesaic.restore.loss import FLOOR
    from moesaic.training.store import as_input

    loaded = network(model)
    generator = torch.Generator().manual_seed(_SEED + number)
    found = {}
    with torch.inference_mode():
        clean = as_input(_bank(data).crops(generator, BATCH, SIDE, shrink=0.5))
        held = loaded.encoded(degrade_batch(clean, generator, {k: float(n) for k, n in mix().items()}).pictures)
        for route in routes.every(routes.counts(model)):
            restored = loaded.decoded(held, [torch.full((BATCH,), int(expert)) for expert in route])
            errors = (restored.clamp(0, 1) - clean).square().mean((1, 2, 3))
            found[route] = float(-10 * (errors + FLOOR).log10().mean())
    return found


@functools.lru_cache(maxsize=1)
def _bank(data: Path) -> Any:
    """A quarter of the pictures."""
    from moesaic.training.bank import list_pictures, read_bank

    return read_bank(list_pictures(data)[::4], least=SIDE)
