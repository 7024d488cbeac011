"""Cheap work for the tests of batches, in a module of its own that worker processes import quickly."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from moesaic.batch import RemoteFolder, Shard, folder_of, make_plan, processes, ray_actors, run
from moesaic.errors import ModelError, PictureError


@dataclass(frozen=True)
class Reversing:
    """Writes the bytes of a file in reverse, the second half after a pause; some contents are orders."""

    pause: float = 0.0  # s
    calls: Path | None = None  # a file that gets a line for each call
    prepares: str = "well"  # or how not

    def __call__(self):
        if self.prepares == "raises":
            raise ModelError("there is no such model")
        if self.prepares == "dies":
            os._exit(7)
        return self.work

    def work(self, source: Path, output: Path):
        if self.calls is not None:
            with self.calls.open("a") as file:
                file.write(f"{source.name!r}\n")
        data = source.read_bytes()
        if data == b"bad":
            raise PictureError(f"{source} is no picture")
        if data == b"bug":
            raise OddError(1, 2)
        if data == b"exit":
            os._exit(3)
        if data == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if data == b"nothing":
            return {}
        if data == b"beside":
            output.with_name(output.stem + ".drawn").write_bytes(b"drawing")
        back = data[::-1]
        with output.open("wb") as file:
            file.write(back[: len(back) // 2])
            file.flush()
            time.sleep(self.pause)
            file.write(back[len(back) // 2 :])
        return {"path": str(output), "share": float("nan"), "threads": os.environ["MOESAIC_THREADS"]}


@dataclass(frozen=True)
class Counting:
    """Tells of each time that it prepares, in a line of a file."""

    file: Path

    def __call__(self):
        with self.file.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return Reversing().work


class OddError(Exception):
    """One that pickle cannot make again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"odd {a}")


def planned(
    folder: Path | RemoteFolder, out: Path | RemoteFolder, shard: Shard | None = None, *, recursive: bool = True
):
    """The plan of turning `.txt` into `.rev`."""
    return make_plan(
        folder,
        out,
        name=lambda source: f"{source.stem}.rev",
        accepts=lambda path: path.suffix == ".txt",
        recursive=recursive,
        shard=shard,
    )


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder but manifests, by their relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("moesaic-batch")
    }


def main(folder: str, out: str, pause: str, engine: str = "processes") -> None:
    """A run in a process of its own, which tests kill."""
    print("begun", flush=True)  # noqa: T201
    tally = run(
        planned(folder_of(folder), folder_of(out)),
        Reversing(float(pause)),
        settings={"verb": "reverse"},
        workers=2,
        engine=ray_actors if engine == "ray" else processes,
    )
    print(tally, flush=True)  # noqa: T201


if __name__ == "__main__":
    from tests.batch import work  # as a module that workers import, too

    work.main(*sys.argv[1:])
