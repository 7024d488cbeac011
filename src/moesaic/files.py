"""Outputs that are either complete or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moesaic.errors import ArgumentError, OutputExistsError


def refuse_existing(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Stop before the work, not after it, when an output cannot go where it is wanted.

    Raises:
        OutputExistsError: the file is there and `force` is False.
        ArgumentError: the path is a folder, or lies in a folder that does not exist.
    """
    place = Path(path)
    if os.path.isdir(place):  # noqa: PTH112 - unlike Path.is_dir, it never raises, whatever the name holds
        raise ArgumentError(f"cannot write {place}: it is a folder")
    if not os.path.isdir(place.parent):  # noqa: PTH112
        raise ArgumentError(f"cannot write {place}: there is no folder {place.parent}")
    if not force and os.path.lexists(place):
        raise OutputExistsError(f"{place} exists; pass force=True (--force) to replace it")


def name_of(folder: Path) -> str:
    """What a folder is called, also where it was given as `.` or `run/..`."""
    return os.path.basename(os.path.abspath(folder))  # noqa: PTH100, PTH119 - Path.resolve would follow links, too


def atomic_write(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> None:
    """Write a whole file or nothing: no reader, crash or interruption ever meets half of it.

    The bytes go to a new file in the same folder, reach the disk, and are then renamed into place. A symbolic link is
    followed; the permissions of a file that is replaced are kept.

    Args:
        path: where the file goes; its folder must exist.
        data: everything that the file is to hold.
        force: replace a file that is there.

    Raises:
        OutputExistsError: the file is there and `force` is False; it is left as it was.
        ArgumentError: the path is a folder, its folder does not exist, or the system refuses to write there.
    """
    with atomic_file(path, force=force) as write:
        write(data)


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Callable[[bytes], None]]:
    """Within this a file is written bit by bit; it comes to its place at the end, and not at all after an error.

    Arguments and errors are those of `atomic_write`; what the block itself raises goes on as it is.

    Yields:
        what appends bytes to the file.
    """
    refuse_existing(path, force=force)
    with _one_line_errors(path):
        place = Path(os.path.realpath(path))
        beside = place.with_name(f".{place.name[:32]}.{secrets.token_hex(6)}.part")
        file = beside.open("xb")  # not tempfile, whose files are closed to others whatever the umask says

    def write(data: bytes) -> None:
        with _one_line_errors(path):
            file.write(data)

    try:
        try:
            yield write
            with _one_line_errors(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # of a full disk, told already, closing tells once more
                file.close()
        with _one_line_errors(path):
            if not force:
                _move_to_free_place(beside, place)
            else:
                if place.exists():
                    shutil.copymode(place, beside)
                beside.replace(place)
    finally:
        with _one_line_errors(path):
            beside.unlink(missing_ok=True)


@contextmanager
def _one_line_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """What the system raises leaves as one line that names the file."""
    try:
        yield
    except (OSError, ValueError) as cause:  # ValueError: a name that holds a null character
        reason = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        raise ArgumentError(f"cannot write {path}: {reason}") from cause


def _move_to_free_place(beside: Path, place: Path) -> None:
    """Rename without replacing, also when another process makes the same file at the same moment."""
    try:
        place.hardlink_to(beside)  # the one portable call that fails when the name is taken
    except FileExistsError:
        raise OutputExistsError(f"{place} exists; pass force=True (--force) to replace it") from None
    except OSError:  # a file system without hard links
        refuse_existing(place)
        beside.replace(place)
