"""A plain pool of threads for compiled loops that release the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MOST_THREADS = 1024  # that anyone may ask for; more only waste memory
_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, since a pool does not survive a fork, and size


def default_threads() -> int:
    """The number of processors that this process may use; MOESAIC_THREADS, where it is set, says it instead."""
    stated = os.environ.get("MOESAIC_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return min(int(stated), MOST_THREADS)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def run(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Run the tasks on a pool of threads and hand their results back in order."""
    if threads == 1 or len(tasks) == 1:
        return [task() for task in tasks]
    key = (os.getpid(), threads)
    with _lock:
        pool = _pools.get(key) or _pools.setdefault(key, ThreadPoolExecutor(threads, "moesaic"))
    return [future.result() for future in [pool.submit(task) for task in tasks]]
