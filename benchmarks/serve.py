"""The server under load: many uploads at once to a real `moesaic serve`: how soon taken, how soon done, and its memory.

Each upload is a picture of its own, and each result must be that picture, or the run ends with an error.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

import moesaic
from benchmarks.pictures import parser
from benchmarks.record import Record
from benchmarks.timing import summary
from moesaic.image import read_picture

WAIT = 600  # s
NEAR = 8 / 255  # how close a decoded picture of one colour is to it


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--people", type=int, default=50, help="who send a picture at the same moment")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--turns", type=int, default=3)
    asked = options.parse_args(arguments)
    settings = {"people": asked.people, "workers": asked.workers, "picture": "32x24, quick encode"}
    record = Record("serve", settings=settings, folder=asked.results, resume=asked.resume)
    for turn in range(asked.turns):
        if not record.has("load", str(turn)):
            record.put("load", str(turn), row := measure(asked.people, asked.workers))
            print(row, flush=True)


def measure(people: int, workers: int) -> dict[str, Any]:
    """One burst of uploads, from a server that has just begun to its last result."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "moesaic", "serve", "--no-open", "--port", "0", "--folder", folder]
        served = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.PIPE, text=True)
        try:
            address = re.search(r"http://\S+", served.stderr.readline() if served.stderr else "")
            if address is None:
                raise SystemExit("the server did not begin")
            with httpx.Client(base_url=address[0], timeout=WAIT) as calls, _Memory(served.pid) as memory:
                calls.get("/api/about")
                return _burst(calls, people) | {"server_mib": memory.most}
        finally:
            served.send_signal(signal.SIGINT)
            served.wait(WAIT)
            if served.stderr:
                served.stderr.close()


def _burst(calls: httpx.Client, people: int) -> dict[str, Any]:
    pictures = [_coloured(number) for number in range(people)]
    began = time.perf_counter()

    def send(data: bytes) -> tuple[str, float]:
        given = {"verb": "encode", "options": '{"quality": "quick"}'}
        answer = calls.post("/api/jobs", data=given, files={"picture": ("a.png", data)})
        answer.raise_for_status()
        return answer.json()["id"], time.perf_counter() - began

    with ThreadPoolExecutor(people) as crowd:
        sent = list(crowd.map(send, pictures))
    for (identity, _), data in zip(sent, pictures, strict=True):
        while (job := calls.get(f"/api/jobs/{identity}").json())["state"] in ("queued", "running"):
            time.sleep(0.05)
        made = moesaic.decode(io.BytesIO(calls.get(f"/api/jobs/{identity}/result").content)) if job["result"] else None
        if made is None or np.abs(made.pixels - read_picture(data).pixels).max() > NEAR:
            raise SystemExit(f"job {identity} has no result, or that of another: {job}")
    taken = [seconds for _, seconds in sent]
    return {
        "people": people,
        "done": len(sent),
        "taken": summary([1e3 * seconds for seconds in taken]) | {"most_ms": round(1e3 * max(taken), 1)},
        "all_done_s": round(time.perf_counter() - began, 2),
    }


def _coloured(number: int) -> bytes:
    """A picture of one colour, which no other number below 63 has within thirty levels."""
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (number % 7 * 40, number // 7 * 30, 128)).save(file, "PNG")
    return file.getvalue()


class _Memory:
    """Within this the memory of a process is looked at; `most` is in MiB, None where the system does not say."""

    def __init__(self, pid: int) -> None:
        self._place, self._end = Path(f"/proc/{pid}/statm"), threading.Event()
        self.most: float | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            try:
                pages = float(self._place.read_text().split()[1])
            except OSError:
                return
            self.most = max(self.most or 0.0, round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))


if __name__ == "__main__":
    main()
