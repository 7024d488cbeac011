"""Outputs in a local folder: written into a hidden folder of the shard, and moved into their places by the run alone.

So whatever is killed, and when, leaves no half-written output, and what it left in the hidden folder goes at the next
run.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from moesaic.batch.carrying import Made, exists
from moesaic.batch.known import gather
from moesaic.batch.manifest import ENDING, NAME, Entry, Manifest, manifest_path, read_manifest
from moesaic.batch.plan import Plan, Shard, Task, stamp_of
from moesaic.errors import ArgumentError, MoesaicError
from moesaic.training.lock import alone_in


@contextmanager
def local_outputs(plan: Plan, head: Entry, force: bool) -> Iterator[LocalOutputs]:
    """The folder of a plan's outputs, held by this run; see `moesaic.batch.outputs.Opened`.

    Raises:
        ArgumentError: it cannot be written to, holds a run with other settings, or another run is at work there.
    """
    out = Path(str(plan.out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as cause:
        raise ArgumentError(f"cannot make {out}: it is a file; the output of a batch is a folder") from cause
    except (OSError, ValueError) as cause:
        raise ArgumentError(f"cannot make {out}: {getattr(cause, 'strerror', None) or cause}") from cause
    staging = _staging(out, plan.shard.suffix)
    try:
        with alone_in(staging, _is_at_work):
            _sweep(out, plan.shard, staging)
            sheets = [_Sheet(path, plan.shard) for path in sorted(out.glob(f"{NAME}*{ENDING}"))]
            known, mine = gather(out, sheets, head, force=force)
            shard = f"{plan.shard.index}/{plan.shard.count}"
            log = Manifest(manifest_path(out, plan.shard), {**head, "shard": shard}, mine)
            try:
                yield LocalOutputs(out, staging, log, known)
            finally:
                _sweep(out, plan.shard, staging)
                log.close()
    finally:
        with suppress(OSError):  # it was there before, left by a kill, and is empty now
            staging.rmdir()


class LocalOutputs:
    """See `moesaic.batch.outputs.Outputs`."""

    ahead = 1

    def __init__(self, out: Path, staging: Path, log: Manifest, known: Mapping[str, Sequence[Entry]]) -> None:
        self._out, self._staging = out, staging
        self.log, self.known = log, known
        self._token = secrets.token_hex(4)  # a worker of a killed run, about to leave, shares no folder with ours

    def size(self, path: str) -> int | None:
        """See there."""
        found = stamp_of(self._place(path))
        return None if found is None else found[0]

    def is_there(self, path: str) -> bool:
        """See there."""
        return os.path.lexists(self._place(path))

    def announce(self, tasks: Sequence[Task]) -> None:
        """Nothing to do: a line is written when an output is about to be moved."""

    def staging(self, number: int) -> Path:
        """See there."""
        return self._staging / f"{self._token}-{number}"

    def take(self, task: Task, source: str, made: Made, *, may_replace: bool) -> tuple[dict[str, int], dict[str, Any]]:
        """See there."""
        staged, target = made.staged, self._place(task.output)
        if staged is None or not staged.is_file():
            raise MoesaicError(f"no output was written for {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = sorted(path for path in staged.parent.iterdir() if path != staged)
        for path in (*beside, staged):
            if os.path.lexists(place := target.with_name(path.name)) and not may_replace:
                raise exists(place)
        # What is moved from here on is ours, also if the line that says so is the last that is ever written.
        self.log.write({"status": "moving", "input": task.path, "output": task.output})
        sizes = {}
        for path in (*beside, staged):  # the output last: it says that all is there
            sizes[str(PurePosixPath(task.output).with_name(path.name))] = path.stat().st_size
            path.replace(target.with_name(path.name))
        before, now = str(staged.parent) + os.sep, str(target.parent) + os.sep
        figures = {
            name: value.replace(before, now) if isinstance(value, str) else value
            for name, value in made.figures.items()
        }
        return sizes, figures

    def drop(self, number: int, made: Made | None) -> None:
        """See there."""
        folder = self.staging(number) if made is None or made.staged is None else made.staged.parent
        shutil.rmtree(folder, ignore_errors=True)

    def _place(self, path: str) -> Path:
        return self._out.joinpath(*path.split("/"))


@dataclass(frozen=True, slots=True)
class _Sheet:
    path: Path
    shard: Shard

    @property
    def own(self) -> bool:
        return self.path == manifest_path(self.path.parent, self.shard)

    def read(self) -> tuple[Entry, Mapping[str, Entry]]:
        return read_manifest(self.path)

    def remove(self) -> None:
        """Of our own shard no other run is at work, as we hold its lock."""
        if self.own:
            self.path.unlink(missing_ok=True)
            return
        suffix = self.path.name.removeprefix(NAME).removesuffix(ENDING)
        with suppress(ArgumentError), alone_in(_staging(self.path.parent, suffix), _is_at_work):
            self.path.unlink(missing_ok=True)


def _is_at_work(folder: Path, holder: str) -> ArgumentError:
    return ArgumentError(f"another run is at work on this shard in {folder.parent}{holder}; wait for it")


def _staging(out: Path, suffix: str) -> Path:
    """The hidden folder in which the workers of a shard write."""
    return out / f".{NAME}{suffix}"


def _sweep(out: Path, shard: Shard, staging: Path) -> None:
    """Remove what a kill has left: of workers, and of a manifest that was being made anew."""
    for part in out.glob(f".{manifest_path(out, shard).name[:32]}.*.part"):
        part.unlink(missing_ok=True)
    for path in staging.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
