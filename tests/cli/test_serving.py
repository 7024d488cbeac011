"""`moesaic serve` as a process: what it says, how it ends, and what a kill leaves."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

WAIT = 120  # s


def png(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(60, 190, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [
            sys.executable,
            "-m",
            "moesaic",
            "serve",
            "--no-open",
            "--port",
            "0",
            "--folder",
            str(folder),
            *options,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + self.process.stderr.read()
        self.calls = httpx.Client(base_url=found[0], timeout=60)
        end = time.monotonic() + WAIT
        while True:
            try:
                self.calls.get("/api/about")
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.05)

    def send(self, seed: int, **options: Any) -> Any:
        given = {"verb": "encode", "options": '{"quality": "quick"}', **options}
        return self.calls.post("/api/jobs", data=given, files={"picture": (f"{seed}.png", png(seed))})

    def state(self, identity: str) -> Any:
        return self.calls.get(f"/api/jobs/{identity}").json()

    def result(self, identity: str) -> bytes:
        end = time.monotonic() + WAIT
        while (job := self.state(identity))["state"] in ("queued", "running"):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert job["state"] == "done", job
        data: bytes = self.calls.get(f"/api/jobs/{identity}/result").content
        return data

    def end(self, how: int = signal.SIGINT) -> int:
        self.calls.close()
        self.process.send_signal(how)
        code = self.process.wait(WAIT)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


def test_ctrl_c_ends_it_at_once(tmp_path):
    served = Served(tmp_path)
    identity = served.send(1).json()["id"]
    assert served.result(identity)
    began = time.monotonic()
    assert served.end() == 0
    assert time.monotonic() - began < 10  # two seconds where nobody else works


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_killed_again_and_again_it_loses_nothing(tmp_path):
    chance = random.Random(0)
    wanted: dict[str, int] = {}
    for turn in range(4):
        served = Served(tmp_path, "--workers", "1")
        for seed in (10 * turn, 10 * turn + 1):
            answer = served.send(seed)
            assert answer.status_code == 201
            wanted[answer.json()["id"]] = seed
        time.sleep(chance.uniform(0.0, 2.5))
        served.end(signal.SIGKILL)
    served = Served(tmp_path)
    states = {identity: served.state(identity)["state"] for identity in wanted}
    assert set(states.values()) <= {"queued", "running", "done", "failed"}, states  # and none is unknown
    whole = {identity: served.result(identity) for identity, state in states.items() if state != "failed"}
    assert len(whole) >= len(wanted) - 2  # a picture that was at work in two kills is given up, with a sentence
    alone = {seed: served.result(served.send(seed).json()["id"]) for seed in set(wanted.values())}
    assert all(data == alone[wanted[identity]] for identity, data in whole.items())
    assert not list((tmp_path / "jobs").glob(".new-*"))
    served.end()


def test_fifty_at_once(tmp_path):
    served = Served(tmp_path, "--workers", "1")
    with ThreadPoolExecutor(50) as people:
        answers = list(people.map(served.send, range(50)))
    assert [answer.status_code for answer in answers] == [201] * 50
    rss = _resident(served.process.pid)
    results = [served.result(answer.json()["id"]) for answer in answers]
    assert len(set(results)) == 50  # each has its own
    if rss is not None:
        assert rss < 400 * 2**20
    served.end()


def test_two_servers_do_not_share_a_folder(tmp_path, moe):
    served = Served(tmp_path / "jobs")
    ran = moe("serve", "--no-open", "--port", "0", "--folder", tmp_path / "jobs")
    assert ran.code == 2
    assert "another server works in" in ran.err
    served.end()


def test_a_port_that_is_taken_and_addresses_that_are_none(moe):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = moe("serve", "--no-open", "--port", taken.getsockname()[1])
        assert ran.code == 2
        assert "try --port 0" in ran.err
    for host in ("203.0.113.7", "no host", ""):
        assert moe("serve", "--no-open", "--port", "0", "--host", host).code == 2


def test_a_folder_that_cannot_be_made(moe, tmp_path):
    (tmp_path / "file").write_text("")
    ran = moe("serve", "--no-open", "--port", "0", "--folder", tmp_path / "file" / "below")
    assert ran.code == 2
    assert "cannot write into" in ran.err


def test_without_the_extra(moe, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ran = moe("serve")
    assert ran.code == 2
    assert "pip install 'moesaic[app]'" in ran.err


def _resident(pid: int) -> float | None:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return float(pages) * os.sysconf("SC_PAGE_SIZE")
