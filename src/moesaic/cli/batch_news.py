"""The progress of a batch: a live line on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moesaic.cli.endings import say
from moesaic.cli.news import PLAIN_EVERY, clock, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class BatchNews:
    """Within this, the number of files that are through is shown on standard error, with the time left.

    Args:
        total: files of the run.
        quiet: show nothing.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._through = self._worked = self._failed = 0
        self._bar: Bar | None = None
        self._began = self._told = time.monotonic()

    def __enter__(self) -> BatchNews:
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bar = progress_bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within this the live line is away, so that others can be written."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def through(self, *, worked: bool, failed: bool) -> None:
        """One more file is.

        Args:
            worked: time was spent on it; the time left follows from these.
            failed: it has no output.
        """
        self._through += 1
        self._worked += worked
        self._failed += failed
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._through, total=self._total, news=self._news())
        elif not self._quiet and time.monotonic() - self._told >= PLAIN_EVERY:
            self._told = time.monotonic()
            say(self._news())

    def _news(self) -> str:
        told = f"{self._through:,} of {self._total:,} files"
        if self._failed:
            told += f", {self._failed:,} failed"
        if self._worked:
            left = (time.monotonic() - self._began) / self._worked * (self._total - self._through)
            told += f", {clock(left)} left"
        return told
