"""Processes that share the work: one that dies costs the file it was at, and is replaced."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from moesaic.batch.carrying import Assignment, Carrying, Made
from moesaic.errors import WorkerError
from moesaic.mixture.backends.threads import default_threads

_MOST_WORKERS = 8  # unless asked for: each needs memory of its own
_MOST_FALSE_STARTS = 3  # workers in a row that die while they prepare: the next would, too
_SECONDS_TO_LEAVE = 5.0
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an assignment."""

    given: Assignment
    made: Made | None  # None where it failed
    error: Exception | None
    seconds: float


@contextmanager
def processes(prepare: Carrying, workers: int | None) -> Iterator[Team]:
    """Worker processes of this machine, which share its processors; without a number one for each, at most eight."""
    processors = default_threads()
    count = min(processors, _MOST_WORKERS) if workers is None else workers
    with Crew(prepare, count, max(1, processors // count)) as crew:
        yield crew


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    given: Assignment
    began: float
    ready: bool = False


class Team(Protocol):
    """Workers, wherever they are."""

    def work(self, assignments: Iterable[Assignment]) -> Iterator[Result]:
        """Do all assignments, and hand the results back as they come."""


class Crew:
    """Worker processes, begun as they are needed. Within this they live; at its end none is left.

    Args:
        prepare: called once in each.
        count: how many there may be at a time.
        threads: that the compiled loops of each may use. Matrix products get one, whatever this says: their sums
            differ by the number of threads, and outputs must not.
    """

    def __init__(self, prepare: Carrying, count: int, threads: int) -> None:
        self._prepare, self._count, self._threads = prepare, count, threads
        self._busy: dict[Connection, _Worker] = {}
        self._idle: list[_Worker] = []
        self._false_starts = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._busy.values():
            worker.process.kill()
        for worker in (*self._busy.values(), *self._idle):
            worker.pipe.close()  # an idle one leaves when it finds nobody there
        for worker in (*self._busy.values(), *self._idle):
            worker.process.join(_SECONDS_TO_LEAVE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
        self._busy.clear()
        self._idle.clear()

    def work(self, assignments: Iterable[Assignment]) -> Iterator[Result]:
        """Do all assignments, which are taken as workers become free, and hand the results back as they come.

        Raises:
            WorkerError: workers die before they can do anything.
            Exception: what `prepare` raised.
        """
        left, again = iter(assignments), list[Assignment]()
        while True:
            while len(self._busy) < self._count and (given := again.pop() if again else next(left, None)) is not None:
                self._give(given)
            if not self._busy:
                return
            for pipe in wait(list(self._busy)):
                worker = self._busy[pipe]  # type: ignore[index] # these are what was waited for
                try:
                    told = worker.pipe.recv()
                except (EOFError, OSError):
                    if (result := self._bury(worker)) is None:
                        again.append(worker.given)
                    else:
                        yield result
                    continue
                if isinstance(told, Exception):
                    raise told
                if isinstance(told, Result):
                    self._idle.append(self._busy.pop(worker.pipe))
                    yield told
                else:
                    worker.ready, self._false_starts = True, 0

    def _give(self, given: Assignment) -> None:
        if self._idle:
            worker = self._idle.pop()
            worker.given, worker.began = given, time.perf_counter()
        else:
            worker = self._begin(given)
        self._busy[worker.pipe] = worker
        with suppress(OSError):  # it has died; waiting for it will say so
            worker.pipe.send(given)

    def _begin(self, given: Assignment) -> _Worker:
        spawning = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_serve, args=(theirs, self._prepare, self._threads), daemon=True)
        with _ctrl_c_held_back():
            process.start()
        theirs.close()
        return _Worker(process, ours, given, time.perf_counter())

    def _bury(self, worker: _Worker) -> Result | None:
        """The failure of what a dead worker was at; None where it had not begun to work."""
        del self._busy[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        if code < 0:
            how = f"was killed by signal {-code}" + (", as by a system without memory left" if code == -9 else "")
        else:
            how = f"ended with code {code}"
        if not worker.ready:
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise WorkerError(f"the workers die before they begin: the last {how}; try fewer with --workers")
            return None
        error = WorkerError(f"the process that worked on {worker.given.source} {how}")
        return Result(worker.given, None, error, time.perf_counter() - worker.began)


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Within this, Ctrl-C waits, and processes that begin never see it: they end when the first one says so."""
    if sys.platform == "win32":  # there they ignore it a moment later
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it would lift the block as it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, prepare: Carrying, threads: int) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"), MOESAIC_THREADS=str(threads))
    if torch := sys.modules.get("torch"):  # already there, so that it has read these before
        torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # nobody is there any more
        try:
            work = prepare()
        except Exception as error:  # noqa: BLE001 - the first process raises it
            pipe.send(portable(error))
            return
        pipe.send(None)
        while True:
            pipe.send(_done(work, pipe.recv()))


def _done(work: Callable[[Assignment], Made], given: Assignment) -> Result:
    began = time.perf_counter()
    try:
        made = work(given)
    except Exception as error:  # noqa: BLE001 - recorded, and the run goes on
        return Result(given, None, portable(error), time.perf_counter() - began)
    return Result(given, made, None, time.perf_counter() - began)


def portable(error: Exception) -> Exception:
    """The error as it can travel, with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except Exception:  # noqa: BLE001 - an error may refuse in any way it likes
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _leave_with_parent() -> None:
    """End this process when the first one is gone, however it went: nobody would take the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
