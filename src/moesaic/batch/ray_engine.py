"""Workers on a cluster: the assignments are a dataset of Ray Data, and its actors hold the models.

Each actor keeps a worker process as a plain run does. So a picture that kills its process costs that picture alone, as
there, and not all those that Ray would begin again with it; and threads, and with them outputs, are the same.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import moesaic
from moesaic.batch.carrying import Assignment, Carrying
from moesaic.batch.workers import Crew, Result, Team, portable
from moesaic.errors import ArgumentError, MissingExtraError, WorkerError

_MOST_IN_A_BLOCK = 16  # assignments whose results come back together: a kill of the leading process costs these
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else it tells of its own affairs between our lines
}
_SECONDS_TO_ANSWER = 10.0  # for a cluster that is there
_BLOCKS_FOR_AN_ACTOR = 8  # at least, so that none waits long for the last one


@contextmanager
def ray_actors(prepare: Carrying, workers: int | None, *, may_use_gpus: bool = False) -> Iterator[Team]:
    """Actors on the Ray cluster that `RAY_ADDRESS` names, or that runs on this machine, or else on a local one.

    Args:
        prepare: for each of them.
        workers: how many; without a number one for each processor of the cluster, or for each GPU. Where there are
            fewer of them than processors, each takes several.
        may_use_gpus: share the cluster's GPUs out to the actors, too, if it has any.

    Raises:
        MissingExtraError: Ray is not installed.
        ArgumentError: the cluster has too few processors, or `prepare` belongs to the script that runs.
        WorkerError: the cluster cannot be reached, or has broken down.
    """
    try:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as cause:
        raise MissingExtraError(
            f"the engine ray needs Ray Data: pip install 'moesaic[ray]' ({' '.join(str(cause).split())})"
        ) from cause
    if getattr(prepare.prepare, "__module__", None) == "__main__":
        raise ArgumentError("workers of a cluster import what prepares them; put it into a module, not into the script")
    begun = not ray.is_initialized()
    if begun:
        _refuse_unreachable(os.environ.get("RAY_ADDRESS", ""))
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except Exception as cause:  # of many kinds
            raise WorkerError(f"the Ray cluster cannot be reached: {' '.join(str(cause).split())}") from cause
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes) if may_use_gpus else 0
        processors = [int(node.get("CPU", 0)) for node in nodes]
        count = workers or gpus or max(1, sum(processors))
        yield _Actors(prepare, count, _processors_each(processors, count), _gpus_each(gpus, count))
    except ray.exceptions.RayError as cause:
        raise WorkerError(f"Ray has given up: {' '.join(str(cause).split())}; the same command goes on") from cause
    finally:
        if begun:
            ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Stop at once where nobody answers; Ray itself would try for minutes.

    Raises:
        WorkerError: see there.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if found is None:  # "auto" and "local"
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise WorkerError(f"no Ray cluster answers at RAY_ADDRESS={address}: {reason}") from cause


def _processors_each(nodes: list[int], count: int) -> int:
    """As many processors as each of `count` actors can have, on machines with so many of them.

    Raises:
        ArgumentError: there are not even `count` processors.
    """
    if sum(nodes) < count:
        raise ArgumentError(f"the Ray cluster has {sum(nodes)} processors, too few for {count} workers")
    return max(each for each in range(1, max(nodes) + 1) if sum(node // each for node in nodes) >= count)


def _gpus_each(gpus: int, count: int) -> float:
    """One for each of `count` actors, or a share of one where there are more actors."""
    return float(gpus > 0) if count <= gpus else int(gpus / count * 1000) / 1000


class _Actors:
    """See `moesaic.batch.workers.Team`."""

    def __init__(self, prepare: Carrying, count: int, processors: int, gpus: float) -> None:
        self._prepare, self._count, self._processors, self._gpus = prepare, count, processors, gpus

    def work(self, assignments: Iterable[Assignment]) -> Iterator[Result]:
        """Do all assignments, which are all taken at once, and hand the results back as they come."""
        import ray.data

        rows = [{"given": pickle.dumps(given)} for given in assignments]
        if not rows:
            return
        most = -(-len(rows) // (self._count * _BLOCKS_FOR_AN_ACTOR))
        blocks = -(-len(rows) // min(_MOST_IN_A_BLOCK, most))
        count = min(self._count, blocks)
        done = ray.data.from_items(rows, override_num_blocks=blocks).map(
            _Actor,
            fn_constructor_args=(self._prepare, self._processors, _versions()),
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=self._processors,
            num_gpus=self._gpus or None,
        )
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for told in batch["told"].to_pylist():
                result = pickle.loads(told)  # noqa: S301 - made by our own actors
                if isinstance(result, Exception):
                    raise result
                yield result


class _Actor:
    """Holds a worker process with the model; Ray calls it with an assignment."""

    def __init__(self, prepare: Carrying, threads: int, versions: tuple[str, str]) -> None:
        self._refusal: ArgumentError | None = None
        if versions != _versions():
            self._refusal = ArgumentError(
                f"the cluster has moesaic and Python {_versions()}, and this machine has {versions}"
            )
        # A process that begins would run the script of this one again, which is Ray's own.
        sys.modules["__main__"].__dict__.pop("__file__", None)
        self._crew = Crew(prepare, 1, threads)

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        if self._refusal is not None:  # only here: what is raised while an actor begins comes back in Ray's own words
            return {"told": pickle.dumps(self._refusal)}
        given: Assignment = pickle.loads(row["given"])  # noqa: S301 - made by `_Actors`
        try:
            (result,) = self._crew.work([given])
        except Exception as error:  # noqa: BLE001 - the leading process raises it
            return {"told": pickle.dumps(portable(error))}
        return {"told": pickle.dumps(result)}


def _versions() -> tuple[str, str]:
    """What must be the same wherever a part of the work is done: of moesaic, and of Python up to the second number."""
    return moesaic.__version__, ".".join(map(str, sys.version_info[:2]))
