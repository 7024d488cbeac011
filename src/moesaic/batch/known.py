"""What earlier runs, and other shards, have left to know: which of their outputs still hold, and which are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from moesaic.batch.manifest import Entry
from moesaic.batch.plan import Task
from moesaic.batch.remote import Stamp
from moesaic.errors import ArgumentError


class Sheet(Protocol):
    """A manifest in the output folder."""

    @property
    def own(self) -> bool:
        """Whether it is that of the shard that this run does."""

    def read(self) -> tuple[Entry, Mapping[str, Entry]]:
        """Its first line, and the last line about each input."""

    def remove(self) -> None:
        """Remove it, unless another run is at work with it."""


def gather(
    out: object, sheets: Iterable[Sheet], head: Entry, *, force: bool
) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """What manifests say of each input, and the lines of the one that is to go on.

    Manifests of other shards count, and of another number of shards, too.

    Args:
        out: the output folder, as it is told.
        sheets: all that are there.
        head: what this run is.
        force: remove those of other runs.

    Raises:
        ArgumentError: one is of a run with other settings, and `force` is False.
    """
    found: dict[str, list[Entry]] = {}
    mine: list[Entry] = []
    for sheet in sheets:
        try:
            held, entries = sheet.read()
            _refuse_other(out, held, head)
        except ArgumentError:
            if not force:
                raise
            sheet.remove()
            continue
        for name, entry in entries.items():
            found.setdefault(name, []).append(entry)
        if sheet.own:
            mine = list(entries.values())
    return found, mine


def still_done(entry: Entry, task: Task, stamp: Stamp | None, size: Callable[[str], int | None]) -> bool:
    """Whether a line of a manifest still holds.

    Args:
        entry: the line.
        task: what it is about.
        stamp: of the input now; None where it is gone.
        size: of an output that is there, by its path in the output folder, bytes; None of one that is not.
    """
    if entry["status"] != "done" or entry.get("output") != task.output or stamp is None:
        return False
    if (entry.get("source_bytes"), entry.get("source_mtime_ns")) != stamp:
        return False
    beside = entry.get("beside")
    files = {task.output: entry.get("bytes"), **(beside if isinstance(beside, Mapping) else {})}
    return all((found := size(path)) is not None and found == stated for path, stated in files.items())


def is_ours(entry: Entry | None, task: Task) -> bool:
    """Whether a line says that an output which is there was made, or may have been, by a batch like this one."""
    if entry is None or entry.get("output") != task.output:
        return False
    return entry["status"] != "failed" or entry.get("earlier") is True


def _refuse_other(out: object, held: Entry, head: Entry) -> None:
    for name, wanted in head.items():
        if held.get(name) == wanted:
            continue
        was, now = held.get(name), wanted
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            name = next(key for key in (*now, *was) if now.get(key) != was.get(key))
            was, now = was.get(name), now.get(name)
        raise ArgumentError(
            f"{out} holds a batch with another {name}: {was} there, {now} now; name another folder, or do all anew "
            "with --force"
        )
