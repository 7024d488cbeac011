"""Outputs in a folder that fsspec reaches: put into their places by the workers, whole files at a time.

A store takes no line at the end of a file. So the manifest of a run at work is a file and small pages in a hidden
folder, each with the news of some seconds, and one file again at the end. Tasks are written down before they are handed
out, and an output that a killed run has put there without saying so is known as its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from moesaic.batch.carrying import Made
from moesaic.batch.known import gather
from moesaic.batch.manifest import ENDING, NAME, Entry, line_of, manifest_name, parse, parse_lines, whole
from moesaic.batch.plan import Plan, Task
from moesaic.batch.remote import RemoteFolder, Stamp

_PAGE_SECONDS = 10.0  # of work whose news a kill may cost; it is done again
_PAGE_LINES = 1000


@contextmanager
def remote_outputs(plan: Plan, head: Entry, force: bool) -> Iterator[RemoteOutputs]:
    """The folder of a plan's outputs; see `moesaic.batch.outputs.Opened`. No lock keeps a second run from the shard.

    Raises:
        ArgumentError: it cannot be reached or written to, or holds a run with other settings.
        MissingExtraError: the package for this kind of store is missing.
    """
    if not isinstance(plan.out, RemoteFolder):
        raise TypeError(f"{plan.out} is no remote folder")
    files = plan.out.files(recursive=True)
    names = sorted(path for path in files if path.startswith(NAME) and path.endswith(ENDING) and "/" not in path)
    own = _Sheet.of(plan.out, manifest_name(plan.shard), files, own=True)
    others = [_Sheet.of(plan.out, name, files, own=False) for name in names if name != own.name]
    known, mine = gather(plan.out, [*others, own] if own.name in names else others, head, force=force)
    shard = f"{plan.shard.index}/{plan.shard.count}"
    log = PagedManifest(own, {**head, "shard": shard}, mine)
    try:
        yield RemoteOutputs(log, known, files)
    finally:
        log.close()


class RemoteOutputs:
    """See `moesaic.batch.outputs.Outputs`."""

    ahead = 512

    def __init__(self, log: PagedManifest, known: Mapping[str, Sequence[Entry]], files: Mapping[str, Stamp]) -> None:
        self.log, self.known, self._files = log, known, files

    def size(self, path: str) -> int | None:
        """See there; as it was when the run began."""
        return self._files.get(path, (None, None))[0]

    def is_there(self, path: str) -> bool:
        """See there; as it was when the run began."""
        return path in self._files

    def announce(self, tasks: Sequence[Task]) -> None:
        """See there."""
        for task in tasks:
            self.log.write({"status": "moving", "input": task.path, "output": task.output})
        self.log.turn_page()

    def staging(self, number: int) -> None:
        """See there."""

    def take(self, task: Task, source: str, made: Made, *, may_replace: bool) -> tuple[dict[str, int], dict[str, Any]]:
        """See there; the worker has done it."""
        return dict(made.files), dict(made.figures)

    def drop(self, number: int, made: Made | None) -> None:
        """See there; nothing is left."""


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A manifest and its pages."""

    folder: RemoteFolder
    name: str
    pages: tuple[str, ...]  # in their order
    own: bool

    @classmethod
    def of(cls, folder: RemoteFolder, name: str, files: Iterable[str], *, own: bool) -> _Sheet:
        found = cls(folder, name, (), own)
        pages = sorted(path for path in files if path.startswith(f"{found.room}/") and path.endswith(ENDING))
        return cls(folder, name, tuple(pages), own)

    @property
    def room(self) -> str:
        """The hidden folder of the pages."""
        return f".{self.name.removesuffix(ENDING)}"

    def read(self) -> tuple[Entry, Mapping[str, Entry]]:
        head, entries = parse(self.folder.read(self.name), self.folder.named(self.name))
        for page in self.pages:
            entries.update(parse_lines(self.folder.read(page)))
        return head, entries

    def remove(self) -> None:
        for path in (*self.pages, self.name):
            self.folder.remove(path)


class PagedManifest:
    """Writes a manifest in pages; made anew when it is opened and when it is closed, with one line for each input.

    Args:
        sheet: as it was before, with what a killed run has left.
        head: what the run is, for the first line.
        entries: what is known from earlier, which is kept.

    Raises:
        ArgumentError: the store cannot be written to, as from every call.
    """

    def __init__(self, sheet: _Sheet, head: Entry, entries: Iterable[Entry]) -> None:
        self._sheet, self._head = sheet, head
        self._last = {entry["input"]: entry for entry in entries}
        self._lines: list[bytes] = []
        self._pages = list(sheet.pages)
        self._turned = time.monotonic()
        self._write_anew()

    def last(self, path: str) -> Entry | None:
        """What is known of an input."""
        return self._last.get(path)

    def write(self, entry: Entry) -> None:
        """Add a line about one input; it is in the store within some seconds of work."""
        self._last[entry["input"]] = entry
        self._lines.append(line_of(entry))
        if len(self._lines) >= _PAGE_LINES or time.monotonic() - self._turned >= _PAGE_SECONDS:
            self.turn_page()

    def turn_page(self) -> None:
        """All lines are in the store when this returns."""
        if self._lines:
            page = f"{self._sheet.room}/{len(self._pages) + 1:08d}{ENDING}"
            self._sheet.folder.write(page, b"".join(self._lines))
            self._pages.append(page)
            self._lines.clear()
        self._turned = time.monotonic()

    def close(self) -> None:
        """Nothing more will be written: one file has all that counts."""
        self.turn_page()  # first: a page that outlives the next step must not be the older
        self._write_anew()

    def _write_anew(self) -> None:
        self._sheet.folder.write(self._sheet.name, whole(self._head, self._last.values()))
        while self._pages:
            self._sheet.folder.remove(self._pages[0])
            del self._pages[0]
        self._sheet.folder.remove_empty(self._sheet.room)
