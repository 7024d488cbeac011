"""The manifest of a shard: one JSON object in each line, on the disk before the run goes on, whole after any crash.

The first line says what the run is. Each other line is about one input, and the last one about it counts:

    done    its output is in its place
    failed  it has none, and why
    moving  its output was about to be put into its place when the run was cut off; it will be made again
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from moesaic.batch.plan import Shard
from moesaic.errors import ArgumentError
from moesaic.files import atomic_write

NAME = "moesaic-batch"
ENDING = ".jsonl"
_FORM = 1  # of the lines; it changes when an older moesaic could not go on

Entry = Mapping[str, Any]


class Log(Protocol):
    """What a run writes into, wherever it is."""

    def last(self, path: str) -> Entry | None:
        """What is known of an input."""

    def write(self, entry: Entry) -> None:
        """Append a line about one input."""


class Manifest:
    """Appends to a manifest in a local folder.

    It is made anew when it is opened and when it is closed, with one line for each input.

    Args:
        path: of the file; replaced when it is there.
        head: what the run is, for the first line.
        entries: what is known from earlier, which is kept.

    Raises:
        ArgumentError: the file cannot be written, as from every call.
    """

    def __init__(self, path: Path, head: Entry, entries: Iterable[Entry] = ()) -> None:
        self._path, self._head = path, head
        self._last = {entry["input"]: entry for entry in entries}
        self._write_anew()
        try:
            # Binary and for appending: a kill can cut only the last line off, which reading leaves out.
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError as cause:
            raise self._refusal(cause) from cause

    def last(self, path: str) -> Entry | None:
        """What is known of an input."""
        return self._last.get(path)

    def write(self, entry: Entry) -> None:
        """Append a line about one input; it is on the disk when this returns."""
        line = line_of(entry)
        try:
            if os.write(self._file, line) < len(line):
                raise OSError("the disk is full")
            os.fsync(self._file)
        except OSError as cause:
            raise self._refusal(cause) from cause
        self._last[entry["input"]] = entry

    def close(self) -> None:
        """Nothing more will be written: the lines are sorted, and those that no longer count go."""
        os.close(self._file)
        self._write_anew()

    def _write_anew(self) -> None:
        atomic_write(self._path, whole(self._head, self._last.values()), force=True)

    def _refusal(self, cause: OSError) -> ArgumentError:
        return ArgumentError(f"cannot write {self._path}: {cause.strerror or cause}")


def manifest_name(shard: Shard) -> str:
    """What the manifest of a shard is called in the output folder: `moesaic-batch.2-of-8.jsonl`."""
    return f"{NAME}{shard.suffix}{ENDING}"


def manifest_path(out: Path, shard: Shard) -> Path:
    """Where the manifest of a shard is."""
    return out / manifest_name(shard)


def whole(head: Entry, entries: Iterable[Entry]) -> bytes:
    """A manifest with one line for each input, sorted."""
    lines = [line_of({"manifest": _FORM, **head}), *map(line_of, sorted(entries, key=lambda entry: entry["input"]))]
    return b"".join(lines)


def read_manifest(path: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """What `parse` finds in a file.

    Raises:
        ArgumentError: it cannot be read, or was not written by a batch of this form.
    """
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise ArgumentError(f"cannot read {path}: {cause.strerror or cause}") from cause
    return parse(data, str(path))


def parse(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, Entry]]:
    """The first line, and the last line about each input; lines that a crash has cut off are left out.

    Raises:
        ArgumentError: the data were not written by a batch of this form.
    """
    head, *entries = (_read(line) for line in data.split(b"\n"))
    if head is None or "manifest" not in head:
        raise ArgumentError(f"{name} is no manifest of a batch; move it, or name another output folder")
    if head["manifest"] != _FORM:
        raise ArgumentError(f"{name} is a manifest of form {head['manifest']}, and this moesaic knows {_FORM}")
    return head, _last_of(entries)


def parse_lines(data: bytes) -> dict[str, Entry]:
    """The last line about each input, of lines without a first one."""
    return _last_of(_read(line) for line in data.split(b"\n"))


def _last_of(entries: Iterable[dict[str, Any] | None]) -> dict[str, Entry]:
    return {entry["input"]: entry for entry in entries if entry is not None and _is_entry(entry)}


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        held = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return held if isinstance(held, dict) else None


def _is_entry(held: Entry) -> bool:
    return isinstance(held.get("input"), str) and held.get("status") in ("done", "failed", "moving")


def line_of(entry: Entry) -> bytes:
    """JSON in ASCII: a line end or a byte that is no text in a file's name stays within its line."""
    return json.dumps(_plain(entry), allow_nan=False, default=str).encode() + b"\n"


def _plain(value: Any) -> Any:
    """JSON has no word for infinity and NaN."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
