"""The folder of a server's jobs: one server at a time works there, and temporary ones go with their server."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moesaic.errors import ArgumentError
from moesaic.training.lock import alone_in

_PREFIX = "moesaic-serve-"


@contextmanager
def workplace(folder: Path | None) -> Iterator[Path]:
    """Within this the folder is this server's alone.

    Args:
        folder: made when missing, and kept; without one there is a temporary one, and those that servers left behind
            which were killed are removed.

    Raises:
        ArgumentError: another server works there, or nothing can be written there.
    """
    if folder is not None:
        with alone_in(folder, _taken):
            yield folder
        return
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not _is_ours(left):
            continue
        with suppress(ArgumentError, OSError), alone_in(left, _taken):  # it is taken while its server lives
            shutil.rmtree(left / "jobs", ignore_errors=True)
        with suppress(OSError):
            left.rmdir()
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with alone_in(made, _taken):
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_ours(left: Path) -> bool:
    """Whether a folder that anybody could have made, or a link to where something is to be lost, is of our making."""
    try:
        return not left.is_symlink() and (not hasattr(os, "getuid") or left.lstat().st_uid == os.getuid())
    except OSError:
        return False


def _taken(folder: Path, holder: str) -> ArgumentError:
    return ArgumentError(f"another server works in {folder}{holder}; end it, or name another --folder")
