"""A batch run: tasks to workers, outputs into their places, and a line of the manifest for each.

Workers write into a hidden folder of the shard, and only this process moves a finished output into its place. So
whatever is killed, and when, leaves no half-written output, and what it left in the hidden folder goes at the next run.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from moesaic.batch.manifest import ENDING, NAME, Entry, Manifest, manifest_path, read_manifest
from moesaic.batch.plan import Plan, Task
from moesaic.batch.workers import Assignment, Crew, Prepare, Result
from moesaic.errors import ArgumentError, MoesaicError, OutputExistsError
from moesaic.mixture.backends.threads import default_threads
from moesaic.training.lock import alone_in

_MOST_WORKERS = 8  # unless asked for: each needs memory of its own


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one task."""

    task: Task
    status: Literal["done", "failed", "kept"]
    figures: Mapping[str, Any] = field(default_factory=dict)  # of what was done now
    error: Exception | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks ended in which way."""

    done: int
    failed: int
    kept: int


def run(
    plan: Plan,
    prepare: Prepare,
    *,
    settings: Mapping[str, Any],
    workers: int | None = None,
    force: bool = False,
    tell: Callable[[Outcome], None] | None = None,
) -> Tally:
    """Do what a plan holds, and has not been done yet.

    A task is kept if the manifest says that it is done, its input has the size and time of then, and its outputs the
    sizes of then. Failed ones are tried again.

    Args:
        plan: what to do.
        prepare: called in each worker; returns what makes an output.
        settings: all that outputs depend on besides their inputs, as JSON can hold it.
        workers: processes at a time; without a number one for each processor, at most eight.
        force: replace outputs that no manifest knows, and begin anew where the settings differ from those of before.
        tell: told of each task, in this process.

    Raises:
        ArgumentError: the output folder cannot be written to, holds a run with other settings, another run is at work
            on this shard, or there are to be no workers.
        WorkerError: workers die before they can do anything.
        Exception: what `prepare` raised.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is a number above 0, not {workers}")
    processors = default_threads()
    count = min(processors, _MOST_WORKERS) if workers is None else workers
    head = {**settings, "folder": os.path.realpath(plan.folder)}
    _make_folder(plan.out)
    staging = _staging(plan.out, plan.shard.suffix)
    try:
        with alone_in(staging, _is_at_work):
            _sweep(plan, staging)
            known, mine = _known(plan, head, force=force)
            shard = f"{plan.shard.index}/{plan.shard.count}"
            manifest = Manifest(manifest_path(plan.out, plan.shard), {**head, "shard": shard}, mine)
            try:
                with Crew(prepare, count, max(1, processors // count)) as crew:
                    return _Run(plan, manifest, known, staging, force, tell or _nobody).through(crew)
            finally:
                _sweep(plan, staging)
                manifest.close()
    finally:
        with suppress(OSError):  # it was there before, left by a kill, and is empty now
            staging.rmdir()


def _nobody(_: Outcome) -> None:
    """In the place of whoever is told."""


class _Run:
    def __init__(
        self,
        plan: Plan,
        manifest: Manifest,
        known: Mapping[str, list[Entry]],
        staging: Path,
        force: bool,
        tell: Callable[[Outcome], None],
    ) -> None:
        self._plan, self._manifest, self._known = plan, manifest, known
        self._staging, self._force, self._tell = staging, force, tell
        self._seen: dict[int, tuple[int, int] | None] = {}  # inputs as they were when they were given to workers
        self._count = {"done": 0, "failed": 0, "kept": 0}
        self._token = secrets.token_hex(4)  # a worker of a killed run, about to leave, shares no folder with ours

    def through(self, crew: Crew) -> Tally:
        for result in crew.work(self._assignments()):
            self._settle(result)
        return Tally(**self._count)

    def _assignments(self) -> Iterator[Assignment]:
        """The tasks that need work; the others are told of on the way."""
        for number, task in enumerate(self._plan.tasks):
            source, target = self._plan.source(task), self._plan.target(task)
            stamp = _stamp(source)
            if task.problem is not None:
                self._failed(task, ArgumentError(task.problem), 0.0)
            elif any(_still_done(entry, task, stamp, self._plan.out) for entry in self._known.get(task.path, ())):
                self._told(Outcome(task, "kept"))
            elif os.path.lexists(target) and not self._may_replace(task):
                self._failed(task, _exists(target), 0.0)
            else:
                self._seen[number] = stamp
                yield Assignment(number, source, self._staging / f"{self._token}-{number}" / target.name)

    def _settle(self, result: Result) -> None:
        """Move an output into its place and record it."""
        task, staged = self._plan.tasks[result.given.number], result.given.staged
        stamp = self._seen.pop(result.given.number)
        error = result.error
        if error is None:
            try:
                files = self._moved(task, staged)
            except (OSError, MoesaicError) as cause:
                error = cause
        shutil.rmtree(staged.parent, ignore_errors=True)
        if error is not None:
            self._failed(task, error, result.seconds)
            return
        figures = self._in_place(result.figures or {}, task, staged)
        self._manifest.write(
            {
                "status": "done",
                "input": task.path,
                "output": task.output,
                "seconds": round(result.seconds, 3),
                "bytes": files.pop(task.output),
                "beside": files,
                "source_bytes": None if stamp is None else stamp[0],
                "source_mtime_ns": None if stamp is None else stamp[1],
                "figures": figures,
            }
        )
        self._told(Outcome(task, "done", figures, None, result.seconds))

    def _moved(self, task: Task, staged: Path) -> dict[str, int]:
        """Sizes of the files that are now in their places, in bytes, the output last; by paths as in the manifest."""
        target = self._plan.target(task)
        if not staged.is_file():
            raise MoesaicError(f"no output was written for {self._plan.source(task)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = sorted(path for path in staged.parent.iterdir() if path != staged)
        for path in (*beside, staged):
            if os.path.lexists(place := target.with_name(path.name)) and not self._may_replace(task):
                raise _exists(place)
        # What is moved from here on is ours, also if the line that says so is the last that is ever written.
        self._manifest.write({"status": "moving", "input": task.path, "output": task.output})
        sizes = {}
        for path in (*beside, staged):  # the output last: it says that all is there
            sizes[str(PurePosixPath(task.output).with_name(path.name))] = path.stat().st_size
            path.replace(target.with_name(path.name))
        return sizes

    def _in_place(self, figures: Mapping[str, Any], task: Task, staged: Path) -> dict[str, Any]:
        """Figures in which paths of staged files are those that they have now."""
        folder, place = str(staged.parent) + os.sep, str(self._plan.target(task).parent) + os.sep
        return {
            name: value.replace(folder, place) if isinstance(value, str) else value for name, value in figures.items()
        }

    def _failed(self, task: Task, error: Exception, seconds: float) -> None:
        self._manifest.write(
            {
                "status": "failed",
                "input": task.path,
                "output": task.output,
                "seconds": round(seconds, 3),
                "error": type(error).__name__,
                "message": str(error),
                "earlier": self._is_ours(task),  # an output of before may be there, and may be replaced
            }
        )
        self._told(Outcome(task, "failed", {}, error, seconds))

    def _told(self, outcome: Outcome) -> None:
        self._count[outcome.status] += 1
        self._tell(outcome)

    def _may_replace(self, task: Task) -> bool:
        return self._force or self._is_ours(task)

    def _is_ours(self, task: Task) -> bool:
        entries = [*self._known.get(task.path, ()), self._manifest.last(task.path)]
        return any(
            entry is not None
            and entry.get("output") == task.output
            and (entry["status"] != "failed" or entry.get("earlier") is True)
            for entry in entries
        )


def _known(plan: Plan, head: Entry, *, force: bool) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """What the manifests in the output folder say of each input, and the lines of the one that is to go on.

    Manifests of other shards count, and of another number of shards, too.

    Raises:
        ArgumentError: one is of a run with other settings, and `force` is False.
    """
    found: dict[str, list[Entry]] = {}
    mine: list[Entry] = []
    own = manifest_path(plan.out, plan.shard)
    for path in sorted(plan.out.glob(f"{NAME}*{ENDING}")):
        try:
            held, entries = read_manifest(path)
            _refuse_other(plan.out, held, head)
        except ArgumentError:
            if not force:
                raise
            _remove_unused(path, own)
            continue
        for name, entry in entries.items():
            found.setdefault(name, []).append(entry)
        if path == own:
            mine = list(entries.values())
    return found, mine


def _refuse_other(out: Path, held: Entry, head: Entry) -> None:
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


def _remove_unused(path: Path, own: Path) -> None:
    """Remove the manifest of another run, unless that is at work; of our own shard none is, as we hold its lock."""
    if path == own:
        path.unlink(missing_ok=True)
        return
    suffix = path.name.removeprefix(NAME).removesuffix(ENDING)
    with suppress(ArgumentError), alone_in(_staging(path.parent, suffix), _is_at_work):
        path.unlink(missing_ok=True)


def _still_done(entry: Entry, task: Task, stamp: tuple[int, int] | None, out: Path) -> bool:
    """Whether a line of a manifest still holds for what is on the disk."""
    if entry["status"] != "done" or entry.get("output") != task.output or stamp is None:
        return False
    if (entry.get("source_bytes"), entry.get("source_mtime_ns")) != stamp:
        return False
    beside = entry.get("beside")
    files = {task.output: entry.get("bytes"), **(beside if isinstance(beside, Mapping) else {})}
    return all((found := _stamp(out / path)) is not None and found[0] == size for path, size in files.items())


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size, bytes, and time of the last change, ns, of a file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _exists(path: Path) -> OutputExistsError:
    return OutputExistsError(f"{path} exists, and not from this batch; name another folder, or replace it with --force")


def _is_at_work(folder: Path, holder: str) -> ArgumentError:
    return ArgumentError(f"another run is at work on this shard in {folder.parent}{holder}; wait for it")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as cause:
        raise ArgumentError(f"cannot make {out}: {getattr(cause, 'strerror', None) or cause}") from cause


def _staging(out: Path, suffix: str) -> Path:
    """The hidden folder in which the workers of a shard write."""
    return out / f".{NAME}{suffix}"


def _sweep(plan: Plan, staging: Path) -> None:
    """Remove what a kill has left: of workers, and of a manifest that was being made anew."""
    for part in plan.out.glob(f".{manifest_path(plan.out, plan.shard).name[:32]}.*.part"):
        part.unlink(missing_ok=True)
    for path in staging.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
