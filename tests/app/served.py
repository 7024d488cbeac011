"""Real servers for the tests: `moesaic serve` as a process, and the app in a thread."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from moesaic.app.connections import patient
from moesaic.app.limits import Limits
from tests.app.calls import WAIT, ended


class Served:
    """`moesaic serve` in a process of its own."""

    def __init__(self, *options: str | Path, **variables: str) -> None:
        command = [sys.executable, "-m", "moesaic", "serve", "--no-open", "--port", "0", *map(str, options)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        assert self.process.stderr is not None
        self.line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", self.line)
        assert found, self.line + self.process.stderr.read()
        self.calls = httpx.Client(base_url=found[0], timeout=WAIT)
        self.calls.get("/api/about")  # the socket listens already; so this waits until the server answers

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    def result(self, identity: str) -> bytes:
        job = ended(self.calls, identity)
        assert job["state"] == "done", job
        data: bytes = self.calls.get(f"/api/jobs/{identity}/result").content
        return data

    @property
    def workers(self) -> list[int]:
        """Its processes that work."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = status.read_text().rpartition(")")[2].split()[1]
                command = status.with_name("cmdline").read_text()
            except OSError:
                continue
            if int(parent) == self.process.pid and "spawn_main" in command:
                found.append(int(status.parent.name))
        return found

    def end(self, how: int = signal.SIGINT) -> tuple[int, str]:
        """Its exit code, and what else it said."""
        self.calls.close()
        self.process.send_signal(how)
        code = self.process.wait(WAIT)
        assert self.process.stderr is not None
        with self.process.stderr as said:
            return code, said.read()


@contextmanager
def in_thread(app: Any, limits: Limits) -> Iterator[int]:
    """Within this the app is served by uvicorn as `moesaic serve` does it; the port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        config = uvicorn.Config(app, http=patient(limits), log_level="error", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        end = time.monotonic() + WAIT
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < end
            time.sleep(0.02)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=20)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def resident(pid: int) -> float:
    """Bytes of memory that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0.0
    return float(pages) * os.sysconf("SC_PAGE_SIZE")
