"""Frozen test sets: a small JSON names pictures and parameters, from which the same bytes come out on every machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.degrade.use import degrade
from moesaic.errors import ArgumentError, PictureError, ShapeError
from moesaic.files import atomic_write
from moesaic.values import is_a, is_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One degraded picture of a test set."""

    picture: str  # name of the clean one
    picture_sha256: str  # of its decoded pixels, uint8, rows of RGB
    kind: str
    params: Mapping[str, Any]
    sha256: str  # of the degraded pixels in the same form


def freeze(
    picture: str,
    pixels: NDArray[np.uint8],
    kind: str,
    *,
    seed: int,
    severity: float | None = None,
    family: str | None = None,
) -> Entry:
    """Degrade a picture once, and keep what is needed to do it again.

    Args:
        picture: a name by which it will be found again.
        pixels: (H, W, 3) uint8.
        kind: as in `moesaic.degrade.use.degrade`, with the options below.
        seed: of the parameters; two entries of one kind want two seeds.
        severity: 0 to 1.
        family: one of the kind's.

    Raises:
        ShapeError: the pixels are no (H, W, 3) in uint8.
        ArgumentError: as from `degrade`.
    """
    _check(pixels)
    degraded = degrade(pixels, kind, seed=seed, severity=severity, family=family)
    return Entry(
        picture=picture,
        picture_sha256=_digest(pixels),
        kind=kind,
        params=degraded.params,
        sha256=_digest(degraded.levels()),
    )


def reproduce(entry: Entry, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The degraded picture of an entry, (H, W, 3), to the byte.

    Args:
        entry: of a test set.
        pixels: of the clean picture, (H, W, 3) uint8.

    Raises:
        ShapeError: the pixels are no (H, W, 3) in uint8.
        PictureError: they are not those of the entry's picture, or the result is not the one that was frozen.
        ArgumentError: `entry` is none, or its parameters are none of its kind.
    """
    if not is_a(entry, Entry):
        raise ArgumentError(f"reproduce takes an Entry of a test set, not {type(entry).__name__}")
    _check(pixels)
    if _digest(pixels) != entry.picture_sha256:
        raise PictureError(f"{entry.picture}: these are not the pixels that the test set was made from")
    levels = degrade(pixels, entry.kind, params=entry.params).levels()
    if _digest(levels) != entry.sha256:
        raise PictureError(f"{entry.picture}: {entry.kind} gives other bytes here than when the test set was made")
    return levels


def write_frozen(path: str | os.PathLike[str], entries: Sequence[Entry], *, force: bool = False) -> None:
    """Write a test set as JSON, one entry a line.

    Raises:
        OutputExistsError: the file is there and `force` is False.
        ArgumentError: what is to be written are no entries, or one holds what JSON has no form for.
    """
    if not is_a(entries, list, tuple) or not all(is_a(entry, Entry) for entry in entries):
        raise ArgumentError("entries are a list of Entry, as freeze makes them")
    try:
        lines = ",\n".join(json.dumps(asdict(entry), allow_nan=False) for entry in entries)
    except (TypeError, ValueError, RecursionError) as cause:
        raise ArgumentError(f"an entry holds what JSON has no form for: {cause}") from cause
    text = f'{{"version": {VERSION}, "entries": [\n{lines}\n]}}\n'
    atomic_write(path, text.encode(), force=force)


def read_frozen(path: str | os.PathLike[str]) -> list[Entry]:
    """The entries of a test set.

    Raises:
        ArgumentError: the file cannot be read, is damaged, or of a version that this moesaic does not know.
    """
    if not is_a(path, str, os.PathLike):
        raise ArgumentError(f"a test set is read from a path, not from {type(path).__name__}")
    try:
        held = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path}: the test set cannot be read: {error}") from error
    if not is_table(held) or not is_a(held.get("entries"), list):
        raise ArgumentError(f"{path}: this is no test set: a table with version and entries is expected")
    if held.get("version") != VERSION:
        raise ArgumentError(f"{path}: version {held.get('version')!r} of test sets is not known, only {VERSION}")
    return [_entry(path, number, one) for number, one in enumerate(held["entries"])]


def _entry(path: str | os.PathLike[str], number: int, held: object) -> Entry:
    names = {field.name for field in fields(Entry)}
    if not isinstance(held, dict) or set(held) != names:
        raise ArgumentError(f"{path}: entry {number} is no table of {', '.join(sorted(names))}")
    texts = names - {"params"}
    if not all(isinstance(held[name], str) for name in texts) or not is_table(held["params"]):
        raise ArgumentError(f"{path}: entry {number} holds a value of the wrong type")
    return Entry(**held)


def _check(pixels: object) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError("a frozen picture has the shape (H, W, 3) in uint8")


def _digest(pixels: NDArray[np.uint8]) -> str:
    """Of the shape and the bytes: a picture and one of other sides may hold the same bytes."""
    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{width}x{height} RGB\n".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
