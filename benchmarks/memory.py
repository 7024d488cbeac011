"""The largest memory that a piece of work held."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def forget_peak() -> bool:
    """Start counting the peak anew; True if the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def peak_mib() -> int | None:
    """Largest resident memory of this process since its start or `forget_peak`, in MiB; None where unknown."""
    try:
        # not getrusage: its maximum is inherited from the process that started this one
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return _rusage_mib()
    return next((round(int(line.split()[1]) / 1024) for line in lines if line.startswith("VmHWM")), _rusage_mib())


def _rusage_mib() -> int | None:
    try:
        import resource
        import sys
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 2**20 if sys.platform == "darwin" else peak / 1024)


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run work(*arguments) in a fresh process and hand its result back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)
