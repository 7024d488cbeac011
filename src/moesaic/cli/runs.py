"""A run: the same work for each input, one after the other, in which a bad input never stops the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moesaic.cli import handover
from moesaic.cli.endings import ALL_DONE, NOTHING_DONE, SOME_FAILED
from moesaic.errors import OutputExistsError, PictureError
from moesaic.files import refuse_existing

if TYPE_CHECKING:
    from moesaic.cli.places import Job
    from moesaic.cli.report import Figures, Report


def run(jobs: Sequence[Job], work: Callable[[Job], Figures], report: Report, *, force: bool = False) -> int:
    """Do all jobs, tell of each, and return the exit code.

    An output that is there already fails an input that the user named, and is kept without complaint for one that was
    found in a folder: a run over a folder can be repeated and does only what is missing.

    Args:
        jobs: what to do; at least one.
        work: does one of them, and returns its figures.
        report: told of each.
        force: replace outputs that are there.
    """
    if (batch := handover.current()) is not None:
        batch.work, batch.report = work, report
        return ALL_DONE
    failed = 0
    for job in jobs:
        started = time.perf_counter()
        try:
            if not os.path.lexists(job.source):
                raise PictureError(f"{job.source}: there is no such file")
            if job.output is not None:
                if not force and os.path.lexists(job.output):
                    if job.found:
                        report.kept(job)
                        continue
                    raise OutputExistsError(f"{job.output} exists; name another with -o, or replace it with --force")
                if job.within:
                    job.output.parent.mkdir(parents=True, exist_ok=True)
                refuse_existing(job.output, force=force)  # now, not after minutes of work
            with report.working(job):
                figures = work(job)
        except Exception as error:  # noqa: BLE001 - recorded, and the run goes on
            report.failed(job, error)
            failed += 1
        else:
            report.done(job, {**figures, "seconds": round(time.perf_counter() - started, 3)})
    if not failed:
        return ALL_DONE
    return SOME_FAILED if failed < len(jobs) else NOTHING_DONE
