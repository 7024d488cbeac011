"""A picture segmented from disk to disk: read in bands of rows, and the label map or the overlay handed on so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.image import PIXEL_LIMIT
from moesaic.segment.overlay import legend_of, tinted
from moesaic.segment.use import TILE, as_input, best, device_of, enlarged_bands, in_use, named, scaled_size
from moesaic.tiling import run_tiled, stream_tiled
from moesaic.weights_file import card_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from torch import Tensor

    from moesaic.picture import Frame
    from moesaic.rows import Rows
    from moesaic.segment.overlay import Colour

    Opened = Callable[[Frame], AbstractContextManager[Callable[[NDArray[np.float32]], None]]]

_ROWS = 256  # that are read, or drawn, at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """The classes of a picture's pixels, written one after another into a file."""

    file: BinaryIO  # width * height bytes
    counts: NDArray[np.int64]  # of the pixels of each class
    names: tuple[str, ...]  # of the classes
    colours: tuple[Colour, ...]  # of the classes, sRGB, 0 to 255

    @property
    def shares(self) -> dict[str, float]:
        """The share of the picture's pixels that each class has, by name; they sum to 1."""
        return {name: int(n) / int(self.counts.sum()) for name, n in zip(self.names, self.counts, strict=True)}


def label(
    source: Rows,
    file: BinaryIO,
    network: nn.Module,
    *,
    scale: Literal["trained", "full"] = "trained",
    tile: int | None = None,
    pixel_limit: int = PIXEL_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> Labels:
    """What `moesaic.segment` finds, without the whole picture in memory: the same classes.

    Args:
        source: an open picture.
        file: takes the classes, a byte for each pixel; it must be readable, too, for `draw_overlay`.
        network: a model for segmentation.
        scale: as there.
        tile: as there.
        pixel_limit: as there.
        progress: told the number of tiles done and of all.

    Raises:
        PictureError: the file turns out to be damaged.
        ShapeError: as there.
        ArgumentError: as there, or the file cannot be written.
        LimitError: the picture as scaled has more than `pixel_limit` pixels, or memory ran out.
    """
    if scale not in ("trained", "full"):
        raise ArgumentError(f"scale is 'trained' or 'full', not {scale!r}")
    if tile is not None and tile < 1:
        raise ArgumentError(f"tile is a number of px, at least 1, not {tile}")
    classes = 0

    def watched(piece: Tensor) -> Tensor:
        nonlocal classes
        logits: Tensor = network(piece)
        classes = logits.shape[1]
        return logits

    card = card_of(network)
    small = None
    if scale == "trained" and card is not None and card.size is not None:
        small = _scaled(source, network, min(card.size), pixel_limit)
    elif tile is None:
        tile = max(card.size) if card is not None and card.size is not None else TILE
    height, width = source.frame.height, source.frame.width
    with in_use(network), torch.no_grad():
        how: dict[str, Any] = {
            "overlap": (tile or TILE) // 4,
            "multiple_of": int(getattr(network, "multiple_of", 1)),
            "device": device_of(network),
        }
        if small is not None:
            logits = run_tiled(watched, small, tile=tile, progress=progress, **how)
            bands = enlarged_bands(logits[0], height, width)
        else:
            take = _taker(source, network)
            streamed = stream_tiled(watched, take, (height, width), tile=tile, finish=best, progress=progress, **how)
            bands = (band[0, 0] for band in streamed)
        counts = np.zeros(256, np.int64)
        for band in bands:
            labels = band.cpu().numpy()
            counts += np.bincount(labels.ravel(), minlength=256)
            try:
                file.write(np.ascontiguousarray(labels).tobytes())
            except OSError as cause:
                raise ArgumentError(f"cannot write the classes: {cause.strerror or cause}") from cause
    names, colours = named(card, classes)
    return Labels(file=file, counts=counts[:classes], names=names, colours=colours)


def draw_labels(labels: Labels, frame: Frame, write: Callable[[NDArray[np.float32]], None]) -> None:
    """Hand on the label map, a grey picture of 8 bits whose values are classes; see `Segmentation.label_map`."""
    for _, _, band in _read(labels, frame):
        write(band[..., None].astype(np.float32) / np.float32(255))


def draw_overlay(labels: Labels, source: Rows, opened: Opened, *, legend: bool = True, opacity: float = 0.5) -> None:
    """Hand on the picture tinted by class, with a legend below it; see `Segmentation.overlay`.

    Args:
        labels: as `label` gives them.
        source: the picture.
        opened: gives what takes the rows of a picture with the frame that it is told.
        legend: whether there is one.
        opacity: of the colours.
    """
    frame = source.frame
    below: NDArray[np.float32] = np.empty((0, 0, 3), np.float32)
    if legend:
        below = legend_of(labels.counts, labels.colours, labels.names, frame.width)
    becomes = replace(
        frame,
        width=max(frame.width, below.shape[1]),
        height=frame.height + below.shape[0],
        channels=3 + frame.has_alpha,
        depth=8,
        icc=frame.icc if frame.channels >= 3 else None,
    )
    with opened(becomes) as write:
        for top, bottom, band in _read(labels, frame):
            came = frame.filled(source.band(top, bottom))
            shown = np.clip(tinted(came, band, labels.colours, opacity), 0, 1, dtype=np.float32)
            write(_on_white(shown, becomes.width))
        if legend:
            write(_on_white(below, becomes.width, becomes.channels))


def _on_white(
    pixels: NDArray[np.float32],  # (h, w, C')
    width: int,
    channels: int | None = None,
) -> NDArray[np.float32]:  # (h, W, C)
    sheet = np.ones((len(pixels), width, channels or pixels.shape[2]), np.float32)
    sheet[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return sheet


def _read(labels: Labels, frame: Frame) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Bands of classes, each with its first row and one past its last."""
    labels.file.seek(0)
    for top in range(0, frame.height, _ROWS):
        bottom = min(top + _ROWS, frame.height)
        data = labels.file.read((bottom - top) * frame.width)
        yield top, bottom, np.frombuffer(data, np.uint8).reshape(bottom - top, frame.width)


def _taker(source: Rows, network: nn.Module) -> Callable[[int, int, int, int], Tensor]:
    channels = int(getattr(network, "channels", 3))

    def take(top: int, bottom: int, left: int, right: int) -> Tensor:
        return as_input(source.frame.filled(source.band(top, bottom, left, right)), channels)

    return take


def _scaled(source: Rows, network: nn.Module, short: int, pixel_limit: int) -> Tensor | None:
    """The picture with another short side, smoothed before it is made smaller; None where it has it already.

    Torch scales along rows first and along columns then. So does this, and has only narrow rows in memory in between:
    those grow with the height of the picture, by some 5 KB for each row.
    """
    height, width = source.frame.height, source.frame.width
    size = scaled_size(height, width, short, pixel_limit)
    if size == (height, width):
        return None
    take = _taker(source, network)
    if short >= min(height, width):  # it is small, then
        return F.interpolate(take(0, height, 0, width), size, mode="bilinear")
    narrow = []
    for top, bottom in itertools.pairwise([*range(0, height, _ROWS), height]):
        rows = take(top, bottom, 0, width)
        narrow.append(F.interpolate(rows, (bottom - top, size[1]), mode="bilinear", antialias=True))
    return F.interpolate(torch.cat(narrow, dim=2), size, mode="bilinear", antialias=True)
