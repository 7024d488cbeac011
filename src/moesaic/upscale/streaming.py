"""A picture enlarged from disk to disk: read, worked on and handed on in bands of rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional as F

from moesaic.errors import LimitError
from moesaic.image import PIXEL_LIMIT
from moesaic.upscale.explanation import RanksUsed, explanation
from moesaic.upscale.network import CompactUpscaler
from moesaic.upscale.pieces import SMALLEST, spread_places
from moesaic.upscale.tiled import upscale_bands
from moesaic.upscale.use import (
    as_it_shows,
    as_picture,
    check_options,
    finished,
    in_use,
    ranks_used,
    refuse_unfit,
    scores_of,
)
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.picture import Frame, Picture
    from moesaic.rows import Rows
    from moesaic.upscale.scores import PieceEstimator, Scores
    from moesaic.weights_file import Card

_AROUND = 8  # rows of the input beside a band that alpha is interpolated from


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpscaledRows:
    """What was decided about a picture while it was enlarged; see `moesaic.upscale.use.Upscaled`."""

    frame: Frame  # of the result
    scores: dict[str, float]
    severity: float | None
    ranks: dict[str, RanksUsed] = field(repr=False)
    card: Card | None

    def drawn(self, before: Picture, after: Picture) -> Picture:
        """Before and after, how degraded the source is, and which ranks act; see `moesaic.upscale.explanation`."""
        model = "" if self.card is None else self.card.name
        return explanation(before, after, self.ranks, scores=self.scores, severity=self.severity, model=model)


def enlarged_frame(frame: Frame, scale: int, *, pixel_limit: int = PIXEL_LIMIT) -> Frame:
    """The frame of the result.

    Raises:
        LimitError: it has more than `pixel_limit` pixels.
    """
    made = frame.width * frame.height * scale**2
    if made > pixel_limit:
        raise LimitError(
            f"x{scale} of {frame.width} x {frame.height} px are {made:,} pixels, more than the limit of "
            f"{pixel_limit:,}; raise pixel_limit, or take a smaller scale"
        )
    return replace(frame, width=frame.width * scale, height=frame.height * scale)


def upscale_rows(
    source: Rows,
    write: Callable[[NDArray[np.float32]], None],
    scale: int,
    network: CompactUpscaler,
    *,
    severity: float | None = None,
    estimator: PieceEstimator | None = None,
    tile: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[Picture, Picture], None] | None = None,
) -> UpscaledRows:
    """What `moesaic.upscale` does with the compact network, without whole pictures in memory: the same pixels.

    Args:
        source: an open picture.
        write: takes the enlarged rows from top to bottom, each (rows, scale * W, C) in [0, 1], with the frame of
            `enlarged_frame`.
        scale: as there.
        network: as `moesaic.upscale.use.load_network` gives it.
        severity: as there.
        estimator: needed where the network has ranks, and no severity is given.
        tile: as there.
        progress: told the number of tiles done and of all.
        watch: told each band, as it came and as it was enlarged.

    Raises:
        PictureError: the file turns out to be damaged.
        ModelError: what the network makes are no numbers, or it learned with another estimator.
        ArgumentError: an option is out of range.
        LimitError: memory ran out.
    """
    check_options(scale, severity, tile)
    refuse_unfit(network, scale, severity=severity, estimator=estimator)
    frame = source.frame
    size = (frame.height, frame.width)
    colours = 3 if frame.channels >= 3 else 1

    def came(top: int, bottom: int) -> tuple[Picture, Tensor]:
        band = frame.filled(source.band(top, bottom))
        return band, as_it_shows(band)

    def take(top: int, bottom: int, left: int, right: int) -> Tensor:
        x = as_it_shows(frame.filled(source.band(top, bottom, left, right)))
        return x[:, :colours].expand(1, 3, -1, -1)

    scores: Scores | None = None
    if network.mix is not None and estimator is not None:
        judge = estimator
        scores = scores_of(judge, lambda: judge.of_pieces(_pieces(take, size)), severity)
    merged = nullcontext() if network.mix is None or scores is None else network.mix.merged(scores.values)
    with in_use(network), merged:
        bands = upscale_bands(
            network, take, size, scale, tile=tile, finish=lambda band: finished(band, colours), progress=progress
        )
        done = 0
        for band in bands:
            until = done + band.shape[2] // scale
            first = max(0, done - _AROUND) if frame.has_alpha else done
            around, x = came(first, min(size[0], until + _AROUND) if frame.has_alpha else until)
            after = as_picture(band.cpu(), x, scale, frame, above=done - first)
            write(after.pixels)
            if watch is not None:
                watch(replace(around, pixels=around.pixels[done - first : until - first]), after)
            done = until
    return UpscaledRows(
        frame=enlarged_frame(frame, scale, pixel_limit=2**62),
        scores={} if scores is None else dict(zip(scores.names, scores.values[0].tolist(), strict=True)),
        severity=None if scores is None else float(scores.severity[0]),
        ranks={} if scores is None else ranks_used(network, scores),
        card=card_of(network),
    )


def _pieces(take: Callable[[int, int, int, int], Tensor], size: tuple[int, int]) -> list[Tensor]:
    """What an estimator looks at; sides that are too short for it are filled up by their rim."""
    height, width = (max(SMALLEST, side) for side in size)
    pieces = []
    for top, bottom, left, right in spread_places(height, width):
        piece = take(top, min(bottom, size[0]), left, min(right, size[1]))
        more = (0, right - left - piece.shape[3], 0, bottom - top - piece.shape[2])
        pieces.append(F.pad(piece, more, mode="replicate") if any(more) else piece.contiguous())
    return pieces
