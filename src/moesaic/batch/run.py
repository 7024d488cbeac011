"""A batch run: tasks to workers, outputs into their places, and a line of the manifest for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

from moesaic.batch.carrying import Assignment, Carrying, Prepare, exists
from moesaic.batch.known import is_ours, still_done
from moesaic.batch.local_outputs import local_outputs
from moesaic.batch.outputs import Opened, Outputs
from moesaic.batch.plan import Plan, Task
from moesaic.batch.remote import RemoteFolder, Stamp
from moesaic.batch.remote_outputs import remote_outputs
from moesaic.batch.workers import Result, Team, processes
from moesaic.errors import ArgumentError, MoesaicError, OutputExistsError

Engine = Callable[[Carrying, int | None], AbstractContextManager[Team]]
"""Makes workers: from what prepares each of them, and their number, or None for as many as suit."""


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
    engine: Engine = processes,
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
        workers: at a time; without a number as many as suit the engine: of processes one for each processor, at most
            eight.
        engine: makes the workers: `moesaic.batch.processes`, or `moesaic.batch.ray_actors`.
        force: replace outputs that no manifest knows, and begin anew where the settings differ from those of before.
        tell: told of each task, in this process.

    Raises:
        ArgumentError: the output folder cannot be written to, holds a run with other settings, another run is at work
            on this shard, or there are to be no workers.
        MissingExtraError: the package for a kind of store, or for the engine, is missing.
        WorkerError: workers die before they can do anything.
        Exception: what `prepare` raised.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is a number above 0, not {workers}")
    folder = plan.folder.url if isinstance(plan.folder, RemoteFolder) else os.path.realpath(plan.folder)
    opened: Opened = remote_outputs if isinstance(plan.out, RemoteFolder) else local_outputs
    with (
        opened(plan, {**settings, "folder": folder}, force) as outputs,
        engine(Carrying(prepare, plan.folder, plan.out), workers) as team,
    ):
        return _Run(plan, outputs, force, tell or _nobody).through(team)


def _nobody(_: Outcome) -> None:
    """In the place of whoever is told."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A task when it was given to a worker."""

    stamp: Stamp | None  # of the input
    may_replace: bool


class _Run:
    def __init__(self, plan: Plan, outputs: Outputs, force: bool, tell: Callable[[Outcome], None]) -> None:
        self._plan, self._outputs, self._force, self._tell = plan, outputs, force, tell
        self._given: dict[int, _Given] = {}  # to workers
        self._count = {"done": 0, "failed": 0, "kept": 0}

    def through(self, team: Team) -> Tally:
        for result in team.work(self._assignments()):
            self._settle(result)
        return Tally(**self._count)

    def _assignments(self) -> Iterator[Assignment]:
        """What workers are to do, announced before."""
        numbers = self._needing_work()
        while some := list(islice(numbers, self._outputs.ahead)):
            tasks = [self._plan.tasks[number] for number in some]
            for number, task in zip(some, tasks, strict=True):
                self._given[number] = _Given(self._plan.stamp(task), self._may_replace(task))
            self._outputs.announce(tasks)  # from here on what is in their places may be ours
            for number, task in zip(some, tasks, strict=True):
                yield Assignment(
                    number,
                    task.path,
                    self._plan.source(task),
                    task.output,
                    self._outputs.staging(number),
                    self._given[number].may_replace,
                )

    def _needing_work(self) -> Iterator[int]:
        """Numbers of the tasks that need work; the others are told of on the way."""
        for number, task in enumerate(self._plan.tasks):
            stamp = self._plan.stamp(task)
            if task.problem is not None:
                self._failed(task, ArgumentError(task.problem), 0.0)
            elif any(
                still_done(entry, task, stamp, self._outputs.size) for entry in self._outputs.known.get(task.path, ())
            ):
                self._told(Outcome(task, "kept"))
            elif self._outputs.is_there(task.output) and not self._may_replace(task):
                self._failed(task, exists(self._plan.target(task)), 0.0)
            else:
                yield number

    def _settle(self, result: Result) -> None:
        """See to it that an output is in its place, and record it."""
        number, error = result.given.number, result.error
        task, given = self._plan.tasks[number], self._given.pop(number)
        files: dict[str, int] = {}
        figures: dict[str, Any] = {}
        if result.made is not None:
            try:
                files, figures = self._outputs.take(
                    task, result.given.source, result.made, may_replace=given.may_replace
                )
            except (OSError, MoesaicError) as cause:
                error = cause
        self._outputs.drop(number, result.made)
        if error is not None:
            if isinstance(error, OutputExistsError):  # it was not touched
                self._failed(task, error, result.seconds, earlier=given.may_replace and not self._force)
            else:
                self._failed(task, error, result.seconds)
            return
        self._outputs.log.write(
            {
                "status": "done",
                "input": task.path,
                "output": task.output,
                "seconds": round(result.seconds, 3),
                "bytes": files.pop(task.output),
                "beside": files,
                "source_bytes": None if given.stamp is None else given.stamp[0],
                "source_mtime_ns": None if given.stamp is None else given.stamp[1],
                "figures": figures,
            }
        )
        self._told(Outcome(task, "done", figures, None, result.seconds))

    def _failed(self, task: Task, error: Exception, seconds: float, *, earlier: bool | None = None) -> None:
        self._outputs.log.write(
            {
                "status": "failed",
                "input": task.path,
                "output": task.output,
                "seconds": round(seconds, 3),
                "error": type(error).__name__,
                "message": str(error),
                # Whether an output of before may be there, and may be replaced.
                "earlier": self._is_ours(task) if earlier is None else earlier,
            }
        )
        self._told(Outcome(task, "failed", {}, error, seconds))

    def _told(self, outcome: Outcome) -> None:
        self._count[outcome.status] += 1
        self._tell(outcome)

    def _may_replace(self, task: Task) -> bool:
        return self._force or self._is_ours(task)

    def _is_ours(self, task: Task) -> bool:
        entries = [*self._outputs.known.get(task.path, ()), self._outputs.log.last(task.path)]
        return any(is_ours(entry, task) for entry in entries)
