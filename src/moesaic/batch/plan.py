"""What a batch is to do: each input of a folder with the place of its output, in one order, shared out to shards."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from moesaic.errors import ArgumentError

_MOST_SHARDS = 10**6


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of the work, which may run on different machines at the same time.

    A file belongs to the shard that a hash of its path says. So it stays there when other files come and go, and each
    belongs to exactly one, also where the shards begin at different times.
    """

    index: int = 1  # from 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """The shard that a text such as `2/8` names.

        Raises:
            ArgumentError: it names none.
        """
        index, _, count = text.partition("/")
        numbers = all(part.isascii() and part.isdecimal() and len(part) < 8 for part in (index, count))
        if not numbers or not 1 <= int(index) <= int(count) <= _MOST_SHARDS:
            raise ArgumentError(f"--shard {text!r} is no shard; write i/n, such as 1/8 for the first of eight")
        return cls(int(index), int(count))

    @property
    def suffix(self) -> str:
        """What the names of its own files hold: `.2-of-8`, and nothing where there is one shard."""
        return "" if self.count == 1 else f".{self.index}-of-{self.count}"

    def holds(self, path: str) -> bool:
        """Whether the file at this path, relative to the input folder, belongs to this shard."""
        digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1


@dataclass(frozen=True, slots=True)
class Task:
    """One input and its output."""

    path: str  # of the input, relative to the input folder, with slashes
    output: str  # relative to the output folder, with slashes
    problem: str | None = None  # why it cannot even be tried


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of one shard."""

    folder: Path  # of the inputs
    out: Path  # of the outputs; need not exist
    shard: Shard
    tasks: tuple[Task, ...]  # sorted by path
    total: int  # tasks of all shards

    def source(self, task: Task) -> Path:
        """Where the input is."""
        return self.folder.joinpath(*task.path.split("/"))

    def target(self, task: Task) -> Path:
        """Where the output goes."""
        return self.out.joinpath(*task.output.split("/"))


def make_plan(
    folder: Path,
    out: Path,
    *,
    name: Callable[[Path], str],
    accepts: Callable[[Path], bool],
    recursive: bool = False,
    shard: Shard | None = None,
) -> Plan:
    """Look through a folder and settle what is to be done there.

    Hidden files and folders are left out, and so is the output folder where it lies within the input folder. Links to
    folders are not followed. Inputs that would share an output, and folders that cannot be read, become tasks with a
    problem: they are failures of their own and stop nothing else.

    Args:
        folder: of the inputs.
        out: of the outputs, in which the tree is mirrored.
        name: the name of an input's output.
        accepts: which files are inputs.
        recursive: look into folders of folders as well.
        shard: the part to plan; all of it without one.

    Raises:
        ArgumentError: there is no such folder.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{folder} is no folder; a batch works on all files of one")
    part = shard or Shard()
    tasks = [
        replace(found, output=str(PurePosixPath(found.path).with_name(name(folder / found.path))))
        if found.problem is None
        else found
        for found in _found(folder, out, accepts, recursive)
    ]
    inputs: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        inputs[os.path.normcase(task.output)].append(task.path)
    mine = [_refused(task, inputs) for task in sorted(tasks, key=lambda task: task.path) if part.holds(task.path)]
    return Plan(folder, out, part, tuple(mine), len(tasks))


def _found(folder: Path, out: Path, accepts: Callable[[Path], bool], recursive: bool) -> Iterator[Task]:
    """Inputs, whose outputs are still to be named, and folders that cannot be read."""
    unreadable: list[OSError] = []
    outputs = _real(out)
    for walked, below, names in os.walk(folder, onerror=unreadable.append):
        here = Path(walked)
        below[:] = [one for one in below if recursive and not one.startswith(".") and _real(here / one) != outputs]
        for file in names:
            if not file.startswith(".") and accepts(here / file):
                yield Task((here / file).relative_to(folder).as_posix(), "")
    for error in unreadable:
        where = Path(os.fsdecode(error.filename)).relative_to(folder).as_posix()
        yield Task(where, where, f"the folder cannot be read: {error.strerror or error}")


def _real(path: Path) -> str:
    """The same text for the same place, whatever way the path takes to it."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a loop of links, a name with a null character: using it will say so
        return str(path)


def _refused(task: Task, inputs: dict[str, list[str]]) -> Task:
    others = [path for path in inputs[os.path.normcase(task.output)] if path != task.path]
    if task.problem is not None or not others:
        return task
    return replace(task, problem=f"{task.output} would be the output of {min(others)}, too; rename one of them")
