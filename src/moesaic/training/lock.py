"""One run in a folder at a time: a lock that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from moesaic.errors import ArgumentError, MoesaicError, TrainingError

_log = logging.getLogger(__name__)

_NAME = ".lock"


Refusal = Callable[[Path, str], MoesaicError]
"""Makes the error for a folder that is taken, from the folder and who holds it: " (process 12)", or "" if unknown."""


def _is_training(folder: Path, holder: str) -> TrainingError:
    return TrainingError(
        f"{folder}: another run is training in this folder{holder}; wait for it, or name another folder"
    )


@contextmanager
def alone_in(folder: Path, refusal: Refusal = _is_training) -> Iterator[None]:
    """Within this block no other run works in the folder, which is made when missing.

    The lock is the system's own, on the file `.lock`: a process that is killed, or a machine that fails, leaves none.
    The file goes with the block, and so does a folder that this call made and nothing was written into.

    Args:
        folder: of the run.
        refusal: makes the error for a folder that is taken.

    Raises:
        TrainingError: another run, of this process or another, works there; or what `refusal` makes.
        ArgumentError: the folder cannot be made or written to.
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(folder, refusal)
    except (OSError, ValueError) as cause:  # ValueError: a name that holds a null character
        raise ArgumentError(f"cannot write into {folder}: {getattr(cause, 'strerror', None) or cause}") from cause
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open; it then stays, unlocked
            (folder / _NAME).unlink()
        file.close()
        if made:
            with suppress(OSError):  # there is a run in it now
                folder.rmdir()


def run_folder(out: str | os.PathLike[str]) -> Path:
    """The folder of a run from what a call states.

    Raises:
        ArgumentError: it is no path, or an empty one.
    """
    if out == "":
        raise ArgumentError("out has an empty name; write '.' for the folder that you are in")
    try:
        return Path(out)
    except TypeError:
        raise ArgumentError(f"out is the path of a folder, not {type(out).__name__}") from None


def _locked(folder: Path, refusal: Refusal) -> FileIO:
    """The file of the lock, open and ours."""
    path = folder / _NAME
    while True:
        file = path.open("ab+", buffering=0)
        try:
            if not _lock(file):
                raise refusal(folder, _holder(file))
            if _is_still(path, file):
                with suppress(OSError):  # on a full disk there is no room for a number
                    file.truncate(0)
                    file.write(str(os.getpid()).encode())
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last holder has just removed it, and somebody else may be making a new one


def _is_still(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: FileIO) -> str:
    file.seek(0)
    number = file.read(20).decode("ascii", "replace")
    return f" (process {number})" if number.isdecimal() else ""


if sys.platform == "win32":
    import msvcrt

    def _lock(file: FileIO) -> bool:
        try:
            file.seek(2**30)  # a byte beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(file: FileIO) -> bool:
        """Whether the lock is ours; also where a file system has no locks, as some of networks do not."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as cause:
            _log.warning("%s cannot be locked (%s): start no second run in this folder", file.name, cause.strerror)
        return True
