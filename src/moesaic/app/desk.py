"""The desk: takes jobs in, gives them to workers one after another, and keeps them for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moesaic.app.jobs import Job, Store
from moesaic.app.limits import Limits
from moesaic.app.workers import Assignment, Worker, do_job
from moesaic.errors import MoesaicError
from moesaic.memory import machine_bytes
from moesaic.mixture.backends.threads import default_threads

_log = logging.getLogger(__name__)

_SWEEP = 20.0  # s, between looks for what has expired
_REMEMBERED = 20_000  # ids of jobs that are gone


class BusyError(MoesaicError):
    """There is no room just now; `wait` are the seconds after which to ask again."""

    def __init__(self, text: str, wait: int) -> None:
        super().__init__(text)
        self.wait = wait


class Desk:
    """All jobs of a server. Its calls may come from any thread.

    Args:
        store: of the jobs; those that it holds are taken up again.
        limits: of the server.
        workers: processes at a time.
    """

    def __init__(self, store: Store, limits: Limits, workers: int) -> None:
        self.store, self.limits = store, limits
        self._lock = threading.Condition()
        self._jobs = {job.id: job for job in store.load()}
        self._waiting = deque(job.id for job in self._jobs.values() if job.state == "queued")
        self._sending: list[int] = []  # bytes of the uploads for which there is a place in the queue
        self._gone: deque[str] = deque(maxlen=_REMEMBERED)
        self._pace = 10.0  # s that a job takes, of late
        self._stopped = False
        self._bytes = store.bytes()
        memory = limits.memory_share * machine_bytes() / workers
        threads = max(1, default_threads() // workers)
        self._workers = [Worker(do_job, limits, memory, threads, seconds=limits.seconds) for _ in range(workers)]
        self._threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers]
        self._threads.append(threading.Thread(target=self._sweep, daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """Of the worker processes that live."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def stop(self) -> None:
        """End all work; what was not finished is taken up by the next server."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(timeout=5)
        for worker in self._workers:
            worker.end()

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """A place in the queue, kept within this: whoever has one and sends a picture is served.

        Args:
            size: bytes that are being sent.

        Raises:
            BusyError: there is none.
        """
        with self._lock:
            if len(self._waiting) + len(self._sending) >= self.limits.queue:
                raise BusyError("Many pictures are waiting just now. Try again in a little while.", self._wait())
            full = self._bytes + sum(self._sending) + size > self.limits.disk_bytes
            if full or len(self._jobs) + len(self._sending) >= self.limits.jobs:
                raise BusyError("There is no room for more pictures just now. Try again later.", 60)
            self._sending.append(size)
        try:
            yield
        finally:
            with self._lock:
                self._sending.remove(size)

    def _wait(self) -> int:
        return max(1, min(300, round(self._pace / len(self._workers))))

    def take(self, job: Job) -> None:
        """A job whose picture is in the store's new folder; within `place`."""
        self.store.settle(job)
        with self._lock:
            self._jobs[job.id] = job
            self._waiting.append(job.id)
            self._bytes += job.input["bytes"]
            self._lock.notify_all()

    def find(self, identity: str) -> Job | None:
        """A job by its id."""
        with self._lock:
            return self._jobs.get(identity)

    def was_here(self, identity: str) -> bool:
        """Whether there was a job of that id, which has expired or was removed."""
        with self._lock:
            return identity in self._gone

    def told(self, job: Job) -> dict[str, Any]:
        """What a client is told of a job."""
        with self._lock:
            ahead = self._waiting.index(job.id) if job.id in self._waiting else None
            return job.told(ahead=ahead, keep_seconds=self.limits.keep_seconds)

    def cancel(self, job: Job) -> None:
        """Stop the work on a job; one that is over is removed with all that it holds."""
        with self._lock:
            if job.is_over:
                self._forget(job)
                over = True
            else:
                if job.id in self._waiting:
                    self._waiting.remove(job.id)
                job.state, job.ended = "cancelled", time.time()
                over = False
        if over:
            self.store.remove(job)
        else:
            self._save(job)

    def _forget(self, job: Job) -> None:
        if self._jobs.pop(job.id, None) is not None:
            self._gone.append(job.id)

    def _save(self, job: Job) -> None:
        """Write how a job is. On a full disk the server goes on, and only a restart would find the job as it was."""
        try:
            self.store.save(job)
        except (OSError, MoesaicError):
            _log.exception("a job could not be written")

    def _work(self, worker: Worker) -> None:
        """The life of the thread that watches a worker."""
        while True:
            with self._lock:
                while not self._waiting and not self._stopped:
                    self._lock.wait()
                if self._stopped:
                    return
                job = self._jobs[self._waiting.popleft()]
                job.state, job.tries, job.began = "running", job.tries + 1, time.time()
                job.done = job.left = job.step = None
            try:
                self._run(worker, job)
            except Exception:  # noqa: BLE001 - the desk must not lose a worker, whatever happens to one job
                _log.exception("the work on a job could not be ended as it should")
                self._end(job, "failed", error="The server could not finish this picture. Try again.")

    def _run(self, worker: Worker, job: Job) -> None:
        self._save(job)

        def news(told: Mapping[str, Any]) -> None:
            with self._lock:
                job.done, job.left, job.step = told.get("done"), told.get("left"), told.get("step")

        def done(result: dict[str, Any]) -> None:
            self._end(job, "done", result=result)

        def cancelled() -> bool:
            return self._stopped or job.state == "cancelled" or job.id not in self._jobs

        given = Assignment(self.store.path(job), job.verb, job.options, job.name)
        ended = worker.run(given, news, done, cancelled)
        if self._stopped and not job.is_over:  # the next server takes it up, and this was no fault of the picture
            job.state, job.tries = "queued", job.tries - 1
            self._save(job)
            return
        if job.state == "running":
            self._end(job, "failed", error=ended.error or "The server could not finish this picture. Try again.")
        if job.state == "done":
            with self._lock:
                job.explained = (self.store.path(job) / "explain").exists()
            self._save(job)

    def _end(self, job: Job, state: Any, *, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        with self._lock:
            if job.is_over:
                return
            job.state, job.ended, job.result, job.error = state, time.time(), result, error
            if job.began is not None:
                self._pace += 0.2 * (job.ended - job.began - self._pace)
        self._save(job)

    def _sweep(self) -> None:
        """Remove what has expired, and count what is there."""
        while True:
            with self._lock:
                if self._stopped or self._lock.wait_for(lambda: self._stopped, timeout=_SWEEP):
                    return
            try:
                self.expire()
            except OSError:
                _log.exception("what has expired could not be removed")

    def expire(self) -> None:
        """Remove the jobs that have been over for long enough."""
        now = time.time()
        with self._lock:
            old = [
                job
                for job in self._jobs.values()
                if job.ended is not None and now - job.ended > self.limits.keep_seconds
            ]
            for job in old:
                self._forget(job)
        for job in old:
            self.store.remove(job)
        total = self.store.bytes()
        with self._lock:
            self._bytes = total
