"""Sizes beyond memory, or beyond counting: told in one line, whatever torch and Python say of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moesaic.errors import LimitError

_FULL = ("out of memory", "can't allocate memory", "not enough memory")
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of v2 and v1
_BEYOND = ("storage size calculation overflowed", "overflow when unpacking", "integer multiplication overflow")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on a CPU torch has only a text for that."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _FULL)


def machine_bytes() -> float:
    """The memory of this machine, or of the container that this runs in; infinite where the system does not say."""
    try:
        physical = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        physical = float("inf")
    return min([physical, *filter(None, map(_limit_in, _CONTAINER_LIMITS))])


def _limit_in(path: str) -> float | None:
    """The bytes that a file of the system states; None where it is not there, or states none."""
    try:
        return float(Path(path).read_text("ascii"))
    except (OSError, ValueError):  # "max"
        return None


@contextmanager
def within_memory(advice: str) -> Iterator[None]:
    """Within this, a size that no memory holds becomes one LimitError.

    Args:
        advice: what needs the memory and what to make smaller, such as "a network of width 1e9; lower width".

    Raises:
        LimitError: memory ran out, or a size is too large to be counted.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError, TypeError, ValueError) as cause:
        beyond = isinstance(cause, OverflowError) or any(sign in str(cause).lower() for sign in _BEYOND)
        if not (beyond or is_out_of_memory(cause)):
            raise
        raise LimitError(f"there is not enough memory for {advice}") from cause
