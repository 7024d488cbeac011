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

from moesaic.app.limits import Limits
from moesaic.app.verbs import Asked
from moesaic.errors import MoesaicError

_log = logging.getLogger(__name__)

_LOOK = 0.1  # s, between looks at a worker
_SORRY = "Something went wrong with this picture, and not by your doing. Try another size, or save it as PNG first."


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is given."""

    folder: Path
    verb: str
    options: Mapping[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How an assignment went: a result, or a sentence that says why there is none."""

    result: dict[str, Any] | None = None
    error: str | None = None


class Worker:
    """One process and the thread that watches it; begun when there is work.

    Args:
        limits: of the server.
        memory: bytes that the process may take; above, it is ended.
        threads: that compiled loops and matrix products may use.
    """

    def __init__(self, limits: Limits, memory: float, threads: int) -> None:
        self._limits, self._memory, self._threads = limits, memory, threads
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The process's, while there is one."""
        return None if self._process is None else self._process.pid

    def run(
        self,
        given: Assignment,
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
        deadline = time.monotonic() + self._limits.seconds
        result: dict[str, Any] | None = None
        pipe = self._ready()
        try:
            pipe.send(given)
            while True:
                if pipe.poll(_LOOK):
                    kind, told = pipe.recv()
                    if kind == "news":
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
                        f"This took longer than the {self._limits.seconds / 60:g} minutes that a picture has here."
                        " Make it smaller first, or choose a quicker quality.",
                    )
                if (taken := _memory_of(self.pid)) > self._memory:
                    _log.warning("a worker took %.0f MiB and was ended", taken / 2**20)
                    self.end()
                    return Ended(
                        result, "This picture needs more memory than the server has for it. Make it smaller first."
                    )
        except (EOFError, OSError):
            code = self._process.exitcode if self._process is not None else None
            self.end()
            _log.warning("a worker died (exit code %s) at %s", code, given.verb)
            return Ended(
                result,
                "The work on this picture was cut off, perhaps for lack of memory. Make it smaller first.",
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
        process = spawning.Process(target=_serve, args=(theirs, self._limits, self._threads), daemon=True)
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


def _serve(pipe: Connection, limits: Limits, threads: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends it
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ["MOESAIC_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):  # nobody is there any more
        while True:
            pipe.send(("free", _done(pipe, pipe.recv(), limits)))


def _done(pipe: Connection, given: Assignment, limits: Limits) -> str | None:
    """Why an assignment failed; None where it did not."""
    from moesaic.app.work import work

    try:
        asked = Asked.read(given.verb, given.options)
        result, draw = work(given.folder, asked, given.name, limits, lambda news: pipe.send(("news", dict(news))))
    except MoesaicError as error:
        return sentence(error)
    except MemoryError:
        return "This picture needs more memory than there is. Make it smaller first."
    except Exception:  # noqa: BLE001 - the server goes on, and its owner reads why
        traceback.print_exc(file=sys.stderr)
        return _SORRY
    pipe.send(("done", result))
    try:
        draw()
    except Exception:  # noqa: BLE001 - the result is there all the same
        traceback.print_exc(file=sys.stderr)
    return None


def sentence(error: MoesaicError) -> str:
    """The text of an error as a sentence, without what is for programs."""
    text = str(error).partition(": pass Limits(")[0].strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
