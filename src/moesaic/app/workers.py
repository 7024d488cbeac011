"""The processes that do the work: kept warm between jobs, ended when a job is cancelled, takes too long or too much."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from moesaic.app.limits import MINUTE, Limits
from moesaic.app.sentences import FULL, is_full, sentence
from moesaic.app.verbs import Asked
from moesaic.errors import MoesaicError

_log = logging.getLogger(__name__)

_LOOK = 0.1  # s, between looks at a worker
_PATIENCE = 3.0  # s
_START = 2 * MINUTE  # that a new process may take to read the library
_SORRY = "Something went wrong with this picture, and not by your doing. Try another size, or save it as PNG first."

Doing = Callable[[Any, Callable[[str, Any], None], Limits], None]
"""What a process does with what it is given: it sends "news" and "done", each with an object, by the second argument.

What it raises before "done" is told as a sentence; what it raises after that is only written down.
"""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job for a worker."""

    folder: Path
    verb: str
    options: Mapping[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How an assignment went: a result, or a sentence that says why there is none."""

    result: dict[str, Any] | None = None
    error: str | None = None
    was_cut_off: bool = False  # its process had to be ended, or died


class Worker:
    """One process and the thread that watches it; begun when there is work.

    Args:
        doing: what the process does with what it is given.
        limits: of the server.
        memory: bytes that the process may take; above, it is ended.
        threads: that compiled loops and matrix products may use.
        seconds: that one assignment may take.
    """

    def __init__(self, doing: Doing, limits: Limits, memory: float, threads: int, *, seconds: float) -> None:
        self._doing, self._limits = doing, limits
        self._memory, self._threads, self._seconds = memory, threads, seconds
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process's, while there is one."""
        return None if self._process is None else self._process.pid

    def run(
        self,
        given: Any,
        news: Callable[[Mapping[str, Any]], None],
        done: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> Ended:
        """Do an assignment; returns once the process is free again, or has been ended.

        Args:
            given: what to do.
            news: takes the progress.
            done: takes the result as soon as it is there; what was decided is drawn after that.
            cancelled: asked now and then.
        """
        result: dict[str, Any] | None = None
        pipe = self._ready()
        deadline = time.monotonic() + _START + self._seconds
        try:
            pipe.send(given)
            while True:
                if pipe.poll(_LOOK):
                    kind, told = pipe.recv()
                    if kind == "begun":  # a process that has just been made reads much of the library first
                        deadline = time.monotonic() + self._seconds
                    elif kind == "news":
                        news(told)
                    elif kind == "done":
                        result = told
                        done(told)
                    elif kind == "free":
                        return Ended(result, told)
                if cancelled():
                    self.end()
                    return Ended(result)
                if time.monotonic() > deadline:
                    self.end()
                    return Ended(
                        result,
                        f"This took longer than the {self._seconds / 60:g} minutes that a picture has here."
                        " Make it smaller first, or choose a quicker quality.",
                        was_cut_off=True,
                    )
                if (taken := _memory_of(self.pid)) > self._memory:
                    _log.warning("a worker took %.0f MiB and was ended", taken / 2**20)
                    self.end()
                    return Ended(
                        result,
                        "This picture needs more memory than the server has for it. Make it smaller first.",
                        was_cut_off=True,
                    )
        except (EOFError, OSError):
            code = self._process.exitcode if self._process is not None else None
            self.end()
            _log.warning("a worker died (exit code %s)", code)
            return Ended(
                result,
                "The work on this picture was cut off, perhaps for lack of memory. Make it smaller first.",
                was_cut_off=True,
            )

    def end(self) -> None:
        """End the process, whatever it is at."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _ready(self) -> Connection:
        if self._process is not None and self._pipe is not None and self._process.is_alive():
            return self._pipe
        self.end()
        spawning = multiprocessing.get_context("spawn")  # a fork would copy the locks of the server's threads
        ours, theirs = spawning.Pipe()
        process = spawning.Process(target=_serve, args=(theirs, self._doing, self._limits, self._threads), daemon=True)
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        return ours


def _memory_of(pid: int | None) -> float:
    """Bytes that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        return float(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError, AttributeError):
        return 0.0


def _serve(pipe: Connection, doing: Doing, limits: Limits, threads: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _leave_to_server)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ["MOESAIC_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):  # nobody is there any more
        while True:
            given = pipe.recv()
            pipe.send(("begun", None))
            pipe.send(("free", _why_not(pipe, doing, given, limits)))


def _why_not(pipe: Connection, doing: Doing, given: Any, limits: Limits) -> str | None:
    """Do an assignment: why it failed; None where it did not."""
    is_done = False

    def send(kind: str, told: Any) -> None:
        nonlocal is_done
        pipe.send((kind, told))
        is_done = is_done or kind == "done"

    try:
        doing(given, send, limits)
    except Exception as error:  # noqa: BLE001 - the server goes on, and its owner reads why
        if is_done or not (told := _told(error)):
            traceback.print_exc(file=sys.stderr)
        return None if is_done else told or _SORRY
    return None


def _told(error: Exception) -> str | None:
    """What people are told of an error; None for one that is no fault of the picture, or names a path of the server."""
    if is_full(error):
        return FULL
    if isinstance(error, MemoryError):
        return "This picture needs more memory than there is. Make it smaller first."
    of_system = isinstance(error.__cause__, OSError) and error.__cause__.errno is not None
    return sentence(error) if isinstance(error, MoesaicError) and not of_system else None


def do_job(given: Assignment, send: Callable[[str, Any], None], limits: Limits) -> None:
    """A job, as `Doing`."""
    from moesaic.app.work import work

    asked = Asked.read(given.verb, given.options)
    result, draw = work(given.folder, asked, given.name, limits, lambda news: send("news", dict(news)))
    send("done", result)
    draw()


def _leave_to_server(*_: Any) -> None:
    """Whoever ends a service tells all of its processes at once: the server ends this one, or else it ends itself."""
    time.sleep(_PATIENCE)
    os._exit(1)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
