"""The log of a run: one JSON object in each line, on the disk as soon as it is known."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from moesaic.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path


class Log:
    """Appends lines to `log.jsonl`, each with the step that it belongs to.

    Args:
        path: of the file; made when missing.
        step: lines of later steps are dropped first: a resumed run does those steps again.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        kept = [line for line in read_log(path) if line.get("step", 0) <= step] if path.exists() else []
        atomic_write(path, "".join(_line(entry) for entry in kept).encode(), force=True)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, step: int, **figures: Any) -> None:
        """Append one line: what happened, at which step, and its figures; infinity and NaN become null."""
        self._file.write(_line({"event": event, "step": step, **figures}))
        self._file.flush()

    def close(self) -> None:
        """Nothing more will be written."""
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one that was cut off by a crash is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def _line(entry: dict[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in entry.items()}, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
