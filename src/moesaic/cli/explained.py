"""Drawings beside outputs: what `--explain` writes, by which rules it replaces, and what it leaves undone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from moesaic.cli import places
from moesaic.cli.endings import say
from moesaic.cli.places import Job

EXPLAINED = ".explained.png"
"""How the names of drawings end."""

Where = Callable[[Path], Path]  # the drawing's path from that of the output


def refuse_clashes(jobs: Sequence[Job], where: Where) -> None:
    """Refuse runs in which a drawing would be another's output or drawing; see `places.refuse_clashes`."""
    drawings = [Job(source=job.source, output=where(job.output)) for job in jobs if job.output is not None]
    places.refuse_clashes([*jobs, *drawings])


def replaces(job: Job, *, force: bool) -> bool:
    """Whether a drawing that is there is replaced: in a folder it is of an interrupted run, whose output is missing."""
    return force or job.found


def tell_left(jobs: Sequence[Job], where: Where, done: str, anew: str) -> None:
    """Say how many outputs are kept as they are without a drawing.

    Args:
        jobs: the run's.
        where: drawings go.
        done: what was done to them before, such as "restored".
        anew: what `--force` does, such as "restores".
    """
    left = sum(_unexplained(job, where) for job in jobs)
    if left:
        say(f"{left} {done} before and not explained: what is there is kept; --force {anew} and explains anew")


def _unexplained(job: Job, where: Where) -> bool:
    if job.output is None or not job.found:
        return False
    return os.path.lexists(job.output) and not os.path.lexists(where(job.output))
