"""The cheapest work that a batch can have: what is left of its time is the batch's own. Workers import this module."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Copying:
    """Prepares the work of copying a file."""

    def __call__(self) -> Callable[[Path, Path], Mapping[str, Any]]:
        """What copies."""
        return _copied


def _copied(source: Path, output: Path) -> Mapping[str, Any]:
    shutil.copyfile(source, output)
    return {}
