"""What a worker does for one input: fetched where it is far away, worked on, and put into its place where that is far.

A local output is written into a folder that was made for it, from which the run moves it; a remote one is put where it
belongs by the worker, so that no picture takes the way through the machine that leads.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from moesaic.batch.remote import RemoteFolder
from moesaic.errors import MoesaicError, OutputExistsError

_ROOM = "moesaic-batch-"

Work = Callable[[Path, Path], Mapping[str, Any]]
"""Makes the output, the second path, from the input, the first; returns its figures."""

Prepare = Callable[[], Work]
"""Called once in each worker: loads what all inputs share. It travels there by pickle."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is given."""

    number: int  # of the task
    path: str  # of the input, relative to its folder
    source: str  # the same as a path or an URL
    output: str  # relative to its folder
    staging: Path | None  # where a folder for a local output may be made
    replace: bool  # an output that is there may be replaced


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker has made."""

    figures: Mapping[str, Any]
    staged: Path | None = None  # a local output
    files: Mapping[str, int] = field(default_factory=dict)  # remote ones and their sizes, bytes, the output last


@dataclass(frozen=True, slots=True)
class Carrying:
    """Prepares a worker. It travels there by pickle, as `prepare` does."""

    prepare: Prepare
    folder: Path | RemoteFolder
    out: Path | RemoteFolder

    def __call__(self) -> Callable[[Assignment], Made]:
        """Load what all inputs share; what comes back does an assignment."""
        if isinstance(self.folder, RemoteFolder) or isinstance(self.out, RemoteFolder):
            _sweep()
        work = self.prepare()
        return lambda given: self._through(work, given)

    def _through(self, work: Work, given: Assignment) -> Made:
        if not isinstance(self.folder, RemoteFolder):
            return self._made(work, self.folder.joinpath(*given.path.split("/")), given)
        with _room() as room:
            fetched = Path(room, PurePosixPath(given.path).name)
            self.folder.fetch(given.path, fetched)
            try:
                made = self._made(work, fetched, given)
            except MoesaicError as error:
                raise _renamed(error, str(fetched), given.source) from error
            return Made(_renamed_in(made.figures, str(fetched), given.source), made.staged, made.files)

    def _made(self, work: Work, source: Path, given: Assignment) -> Made:
        name = PurePosixPath(given.output).name
        if not isinstance(self.out, RemoteFolder):
            if given.staging is None:
                raise RuntimeError("a local output needs a folder to be written into")
            staged = _own_folder(given.staging) / name
            return Made(dict(work(source, staged)), staged)
        with _room() as room:
            staged = Path(room, name)
            figures = dict(work(source, staged))
            if not staged.is_file():
                raise MoesaicError(f"no output was written for {given.source}")
            files = self._put(self.out, staged, given)
            far = self.out.named(given.output)[: -len(name)]
            return Made(_renamed_in(figures, room + os.sep, far), None, files)

    def _put(self, out: RemoteFolder, staged: Path, given: Assignment) -> dict[str, int]:
        beside = sorted(path for path in staged.parent.iterdir() if path != staged)
        places = {str(PurePosixPath(given.output).with_name(path.name)): path for path in (*beside, staged)}
        if not given.replace and (there := [path for path in places if out.has(path)]):
            raise exists(out.named(there[0]))
        for path, made in places.items():  # the output last: it says that all is there
            out.put(made, path)
        return {path: made.stat().st_size for path, made in places.items()}


def exists(place: str | Path) -> OutputExistsError:
    """The error for an output that is there and not ours."""
    return OutputExistsError(
        f"{place} exists, and not from this batch; name another folder, or replace it with --force"
    )


def _room() -> TemporaryDirectory[str]:
    """A folder for what is on its way; its name tells whose it is."""
    return TemporaryDirectory(prefix=f"{_ROOM}{os.getpid()}-")


def _sweep() -> None:
    """Remove the rooms of processes that were killed on this machine."""
    for room in Path(gettempdir()).glob(f"{_ROOM}*-*"):
        owner = room.name.removeprefix(_ROOM).partition("-")[0]
        if owner.isdecimal() and not _is_alive(int(owner)):
            shutil.rmtree(room, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # there the call below would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's
        return True
    return True


def _own_folder(staging: Path) -> Path:
    """A folder for one output. A worker that died may have left one, and one thought dead may still write into it."""
    while True:
        try:
            staging.mkdir()
        except FileExistsError:
            shutil.rmtree(staging, ignore_errors=True)
            staging = staging.with_name(f"{staging.name}-{secrets.token_hex(4)}")
        else:
            return staging


def _renamed_in(figures: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {name: value.replace(old, new) if isinstance(value, str) else value for name, value in figures.items()}


def _renamed(error: MoesaicError, old: str, new: str) -> MoesaicError:
    """The same kind of error, about the place that the user knows."""
    return type(error)(str(error).replace(old, new))
