"""What a batch is to do: each input of a folder with the place of its output, in one order, shared out to shards."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from moesaic.batch.remote import RemoteFolder, Stamp
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

    folder: Path | RemoteFolder  # of the inputs
    out: Path | RemoteFolder  # of the outputs; need not exist
    shard: Shard
    tasks: tuple[Task, ...]  # sorted by path
    total: int  # tasks of all shards
    listed: Mapping[str, Stamp] = field(default_factory=dict)  # inputs of a remote folder as they were found

    def source(self, task: Task) -> str:
        """Where the input is, as a path or an URL."""
        return named_in(self.folder, task.path)

    def target(self, task: Task) -> str:
        """Where the output goes, as a path or an URL."""
        return named_in(self.out, task.output)

    def stamp(self, task: Task) -> Stamp | None:
        """Size and time of the input; None where there is none."""
        if isinstance(self.folder, RemoteFolder):
            return self.listed.get(task.path)
        return stamp_of(self.folder.joinpath(*task.path.split("/")))


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size, bytes, and time of the last change, ns, of a local file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def named_in(folder: Path | RemoteFolder, path: str) -> str:
    """The path or the URL of a file in a folder, from its path there, with slashes."""
    return folder.named(path) if isinstance(folder, RemoteFolder) else str(folder.joinpath(*path.split("/")))


def make_plan(
    folder: Path | RemoteFolder,
    out: Path | RemoteFolder,
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
        folder: of the inputs; see `moesaic.batch.folder_of` for URLs.
        out: of the outputs, in which the tree is mirrored.
        name: the name of an input's output; given its path, which for a remote folder is relative to that.
        accepts: which files are inputs, by the same path.
        recursive: look into folders of folders as well.
        shard: the part to plan; all of it without one.

    Raises:
        ArgumentError: there is no such folder, or a store cannot be reached.
        MissingExtraError: the package for a kind of store is missing.
    """
    part = shard or Shard()
    listed: Mapping[str, Stamp] = {}
    if isinstance(folder, RemoteFolder):
        listed = folder.files(recursive=recursive)
        found = _listed(listed, folder, out, name, accepts)
    elif not folder.is_dir():
        raise ArgumentError(f"{folder} is no folder; a batch works on all files of one{_meant(folder)}")
    else:
        found = _named(folder, _found(folder, out, accepts, recursive), name)
    tasks = sorted(found, key=lambda task: task.path)
    inputs: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        inputs[os.path.normcase(task.output)].append(task.path)
    mine = [_refused(task, inputs) for task in tasks if part.holds(task.path)]
    return Plan(folder, out, part, tuple(mine), len(tasks), {task.path: listed[task.path] for task in mine if listed})


def _meant(folder: Path) -> str:
    """What a path that is like an URL may have been meant as."""
    found = re.match(r"([a-z][a-z0-9+.-]+)(?::/|/)(?!/)(.+)", folder.as_posix())
    if found is None or not (":" in folder.parts[0] or found[1] in ("s3", "gs", "gcs", "az", "abfs")):
        return ""
    return f"; an URL has two slashes, as in {found[1]}://{found[2]}"


def _listed(
    files: Iterable[str],
    folder: RemoteFolder,
    out: Path | RemoteFolder,
    name: Callable[[Path], str],
    accepts: Callable[[Path], bool],
) -> Iterator[Task]:
    """The inputs among the files of a remote folder."""
    below = f"{out.url}/".removeprefix(f"{folder.url}/") if isinstance(out, RemoteFolder) else ""
    within = below != "" and below != f"{out}/"
    for path in files:
        hidden = any(part.startswith(".") for part in path.split("/"))
        if not hidden and not (within and path.startswith(below)) and accepts(Path(path)):
            yield Task(path, str(PurePosixPath(path).with_name(name(Path(path)))))


def _named(folder: Path, tasks: Iterable[Task], name: Callable[[Path], str]) -> Iterator[Task]:
    for task in tasks:
        if task.problem is None:
            yield replace(task, output=str(PurePosixPath(task.path).with_name(name(folder / task.path))))
        else:
            yield task


def _found(folder: Path, out: Path | RemoteFolder, accepts: Callable[[Path], bool], recursive: bool) -> Iterator[Task]:
    """Inputs, whose outputs are still to be named, and folders that cannot be read."""
    unreadable: list[OSError] = []
    outputs = None if isinstance(out, RemoteFolder) else _real(out)
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
