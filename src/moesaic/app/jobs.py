"""A job and its folder: what a client is told of it, written so that it survives any end of the server."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from moesaic.files import atomic_write

State = Literal["queued", "running", "done", "failed", "cancelled"]

ID = re.compile(r"[A-Za-z0-9_-]{22}")
RECORD = "job.json"
NEW = ".new-"  # how the folders of jobs begin that are still being sent
_TRIES = 2  # that a job has whose server ends in the middle of it


@dataclass(slots=True, kw_only=True)
class Job:
    """One picture and what is done to it."""

    id: str
    verb: str
    options: dict[str, Any]
    name: str  # of the picture as its owner calls it; never a path
    input: dict[str, Any]  # bytes, width, height, and kind: "picture" or "moe"
    made: float  # s since the epoch
    state: State = "queued"
    tries: int = 0  # how often its work was begun
    error: str | None = None
    result: dict[str, Any] | None = None
    ended: float | None = None  # s since the epoch
    explained: bool | None = None  # whether there is a sheet; None while it, or a map, may still be drawn
    # What is not kept on the disk:
    done: float | None = field(default=None, repr=False)
    left: float | None = field(default=None, repr=False)
    step: str | None = field(default=None, repr=False)
    began: float | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ("done", "failed", "cancelled")

    def told(self, *, ahead: int | None, keep_seconds: float) -> dict[str, Any]:
        """What a client is told.

        Args:
            ahead: jobs that come first, for one that waits.
            keep_seconds: that it is kept once it is over.
        """
        until = self.ended or time.time()
        return {
            "id": self.id,
            "verb": self.verb,
            "options": self.options,
            "name": self.name,
            "state": self.state,
            "ahead": ahead if self.state == "queued" else None,
            "done": self.done if self.state == "running" else None,
            "left": self.left if self.state == "running" else None,
            "step": self.step if self.state == "running" else None,
            "seconds": round(until - self.began, 2) if self.began is not None else 0.0,
            "error": self.error,
            "expires": self.ended + keep_seconds if self.ended is not None else None,
            "input": self.input,
            "result": self.result,
        }


class Store:
    """The folder of all jobs. Every change of a job is whole on the disk, or not there.

    Args:
        folder: made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()  # so that what is written last is what a job is last
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, job: Job) -> Path:
        """The folder of a job."""
        return self.folder / job.id

    def begin(self) -> tuple[str, Path]:
        """A new id, and a folder for what is being sent, which is no job before `settle`."""
        identity = secrets.token_urlsafe(16)
        path = self.folder / f"{NEW}{identity}"
        path.mkdir(mode=0o700)
        return identity, path

    def settle(self, job: Job) -> None:
        """What was sent is there: from now on it is a job."""
        new = self.folder / f"{NEW}{job.id}"
        _write(job, new)
        new.replace(self.path(job))

    def save(self, job: Job) -> None:
        """Write how a job is; one whose folder has gone stays gone."""
        with self._writing:
            path = self.path(job)
            if path.is_dir():
                _write(job, path)

    def remove(self, job: Job) -> None:
        """A job and all of its files, at once for everybody who looks."""
        gone = self.folder / f"{NEW}{secrets.token_urlsafe(16)}"
        try:
            self.path(job).replace(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    def load(self) -> list[Job]:
        """All jobs that an earlier server left, the oldest first, and nothing half-sent.

        One that was being worked on is queued again, unless that has ended its server before: then it has failed.
        """
        jobs = []
        for path in sorted(self.folder.iterdir()):
            if not path.is_dir() or path.is_symlink():
                continue
            job = _read(path) if ID.fullmatch(path.name) else None
            if job is None:
                if path.name.startswith(NEW) or ID.fullmatch(path.name):  # nothing else here is ours
                    shutil.rmtree(path, ignore_errors=True)
                continue
            for part in path.iterdir():  # a link would show whatever it leads to
                if part.is_symlink() or part.suffix == ".part" or part.name.startswith("."):
                    part.unlink(missing_ok=True)
            if not job.is_over:
                job.began = None
                if job.tries >= _TRIES:
                    job.state, job.ended = "failed", time.time()
                    job.error = "The server ended twice while it worked on this picture. Try a smaller one."
                else:
                    job.state = "queued"
                _write(job, path)
            elif job.explained is None:
                job.explained = (path / "explain").exists()
            jobs.append(job)
        return sorted(jobs, key=lambda job: job.made)

    def bytes(self) -> int:
        """The bytes of all files, also of those that are being sent."""
        total = 0
        for folder, _, files in os.walk(self.folder):  # which passes over what is being removed
            for name in files:
                with suppress(FileNotFoundError):
                    total += (Path(folder) / name).lstat().st_size
        return total


_NOT_KEPT = ("done", "left", "step")
_KINDS = {"verb": str, "options": dict, "name": str, "input": dict, "tries": int}


def _write(job: Job, folder: Path) -> None:
    held = {name: value for name, value in asdict(job).items() if name not in _NOT_KEPT}
    atomic_write(folder / RECORD, json.dumps(held).encode(), force=True)


def _read(folder: Path) -> Job | None:
    if any((folder / name).is_symlink() for name in (RECORD, "input")):
        return None
    try:
        held: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
        job = Job(**held)
        is_sound = (
            held["id"] == folder.name
            and held["state"] in get_args(State)
            and all(isinstance(held[name], kind) for name, kind in _KINDS.items())
            and all(isinstance(held["input"][name], int) for name in ("bytes", "width", "height"))
            and math.isfinite(held["made"])
            and (math.isfinite(held["ended"]) if job.is_over else held["ended"] is None)
            and (isinstance(held["result"], dict) or job.state != "done")
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return job if is_sound and (folder / "input").is_file() else None
