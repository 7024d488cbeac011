"""The log of a run: one JSON object in each line, on the disk as soon as it is known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from moesaic.errors import ArgumentError
from moesaic.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


class Log:
    """Appends lines to `log.jsonl`, each with the step that it belongs to.

    Args:
        path: of the file; made when missing.
        step: lines of later steps are dropped first: a resumed run does those steps again.

    Raises:
        ArgumentError: the file cannot be written, as from every call.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self._path = path
        with self._told():
            kept = [line for line in read_log(path) if _step_of(line) <= step] if path.exists() else []
        atomic_write(path, "".join(_line(entry) for entry in kept).encode(), force=True)
        with self._told():
            self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, step: int, **figures: Any) -> None:
        """Append one line: what happened, at which step, and its figures; infinity and NaN become null."""
        with self._told():
            self._file.write(_line({"event": event, "step": step, **figures}))
            self._file.flush()

    def close(self) -> None:
        """Nothing more will be written."""
        with suppress(OSError):  # what a full disk has refused is refused again here, and was told
            self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise ArgumentError(f"cannot write {self._path}: {cause.strerror or cause}") from cause


class Silence:
    """In the place of a log where another process writes it."""

    def write(self, event: str, step: int, **figures: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off by a crash is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _step_of(entry: dict[str, Any]) -> float:
    step = entry.get("step", 0)
    return step if isinstance(step, int | float) else math.inf


def _line(entry: dict[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in entry.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
