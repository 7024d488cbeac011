"""The progress of a training run: a live line on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING

from moesaic.cli.endings import one_line, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from moesaic.training.progress import Progress

PLAIN_EVERY = 30.0  # s between two lines where there is no terminal


class News:
    """Within this, what `progress` is told is shown on standard error."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Bar | None = None
        self._told = time.monotonic()

    def __enter__(self) -> News:
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bar = progress_bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def progress(self, now: Progress) -> None:
        """Takes the library's news; the callback of the training calls."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=now.step, total=now.steps, news=_news(now))
        elif not self._quiet and time.monotonic() - self._told >= PLAIN_EVERY:
            self._told = time.monotonic()
            say(f"step {now.step:,} of {now.steps:,}: {_news(now)}")


def _news(now: Progress) -> str:
    epoch = "" if now.epoch is None else f"epoch {now.epoch}/{now.epochs}, "
    score = "" if now.score is None else f", val {now.score:.1%}"
    psnr = "" if now.psnr is None else f", held out {now.psnr:.2f} dB"
    bad = f", {one_line(now.warning)}" if now.warning else ""
    loss = f"loss {now.loss:.3f}" if math.isfinite(now.loss) else "begun"  # no loss has been read yet
    return f"{epoch}{loss}{score}{psnr}, {clock(now.seconds_left)} left{bad}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress_bar(title: str = "") -> Bar:
    """The live line, with a column for news, and one for what it is about where that has a title."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    head = (TextColumn("{task.description}", markup=False),) if title else ()
    columns = (*head, BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[news]}", markup=False))
    # Results go to the real standard output even while the bar is there; it may lead elsewhere than the terminal.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    bar.add_task(title, total=None, news="")
    return bar
