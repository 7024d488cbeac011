"""A picture restored from disk to disk: read, worked on and handed on in bands of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from moesaic.restore.tiled import decide_of, restore_bands
from moesaic.restore.use import (
    Decided,
    as_it_shows,
    as_picture,
    check_network,
    check_options,
    choices_of,
    finished,
    in_use,
    priced,
)
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.picture import Picture
    from moesaic.rows import Rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RestoredRows(Decided):
    """What was decided about a picture, and how much it was changed."""

    change: float  # as `Restored.change`, rounded otherwise


def restore_rows(
    source: Rows,
    write: Callable[[NDArray[np.float32]], None],
    network: nn.Module,
    *,
    strength: float = 1.0,
    price: float | None = None,
    tile: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[Picture, Picture], None] | None = None,
) -> RestoredRows:
    """What `moesaic.restore` does, without the whole picture in memory: the same pixels.

    Args:
        source: an open picture.
        write: takes the restored rows from top to bottom, each (rows, W, C) in [0, 1], with the source's frame.
        network: as `moesaic.restore.use.load_network` gives it.
        strength: as there.
        price: as there.
        tile: as there.
        progress: told the number of tiles done and of all.
        watch: told each band, as it came and as it was restored.

    Raises:
        PictureError: the file turns out to be damaged.
        ModelError: what the network makes are no numbers.
        ArgumentError: an option is out of range, or the model is no restoration network.
        LimitError: memory ran out.
    """
    check_options(strength, price, tile)
    check_network(network, price)
    frame = source.frame
    size = (frame.height, frame.width)
    change, done = 0.0, 0

    def take(top: int, bottom: int, left: int, right: int) -> Tensor:
        shown = as_it_shows(frame.filled(source.band(top, bottom, left, right)))
        return shown.expand(3, -1, -1)[None]

    def hand_on(before: Picture, after: Picture) -> None:
        nonlocal change
        change += float((as_it_shows(after) - as_it_shows(before)).abs_().sum(dtype=torch.float64))
        write(after.pixels)
        if watch is not None:
            watch(before, after)

    with in_use(network), priced(network, price):
        if strength == 0:
            decision = decide_of(network, take, size)
            for before in _bands(source):
                hand_on(before, before)
        else:
            finish = partial(finished, channels=1 if frame.channels < 3 else 3)
            bands, decision = restore_bands(network, take, size, tile=tile, finish=finish, progress=progress)
            for restored in bands:
                band = restored[0].cpu()
                before = frame.filled(source.band(done, done + band.shape[1]))
                if strength < 1:
                    band = torch.lerp(as_it_shows(before), band, strength)
                hand_on(before, as_picture(band, before))
                done += len(before.pixels)
        choices = choices_of(network, decision)
    colours = frame.channels - frame.has_alpha
    return RestoredRows(
        decision=decision,
        labels=tuple(getattr(network, "labels", ())),
        choices=choices,
        card=card_of(network),
        change=change / (size[0] * size[1] * colours) * 255,
    )


def _bands(source: Rows, rows: int = 256) -> Iterator[Picture]:
    """The picture in bands."""
    for top in range(0, source.frame.height, rows):
        yield source.frame.filled(source.band(top, min(top + rows, source.frame.height)))
