"""What a run tells: results on standard output, for people or as JSON lines; progress and errors on standard error."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import typer

from moesaic.cli.endings import one_line, reason, say, show_traceback
from moesaic.cli.news import clock, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from moesaic.mixture.fitting import Progress

Figures = Mapping[str, Any]
"""What is known of one finished input; the keys are those of the JSON object."""


class Told(Protocol):
    """An input and its output, as they are told."""

    @property
    def source(self) -> object:
        """The input's path or URL."""

    @property
    def output(self) -> object:
        """The output's; None where nothing is written."""


_PLAIN_EVERY = 5.0  # s between two lines of progress where there is no terminal
_PHRASES: dict[str, Callable[[Any], str]] = {
    "experts": lambda n: f"{n:,} experts",
    "psnr": lambda n: f"{n:.2f} dB",
    "ssim": lambda n: f"SSIM {n:.4f}",
    "ms_ssim": lambda n: f"MS-SSIM {n:.4f}",
    "bytes": lambda n: f"{n:,} bytes",
    "bpp": lambda n: f"{n:.3f} bpp",
    "seconds": lambda n: f"{n:.2f} s",
}


class Report:
    """Tells of one run.

    Args:
        verb: the command, as it stands in the JSON objects.
        total: how many inputs there are.
        as_json: one JSON object for each input on standard output, and nothing else there.
        quiet: no progress and no lines for inputs that went well; errors are always told.
        always: the lines are what the verb is for, so quiet leaves them.
        text: a finished input as text for people.
    """

    def __init__(
        self,
        verb: str,
        total: int,
        *,
        as_json: bool,
        quiet: bool,
        always: bool = False,
        text: Callable[[Figures], str] | None = None,
    ) -> None:
        self._verb, self._total, self._as_json, self._quiet = verb, total, as_json, quiet
        self._always, self.text = always, text or summary
        self._bar: Bar | None = None
        self._title = ""
        self._told = time.monotonic()
        self._count = 0

    def working(self, job: Told) -> AbstractContextManager[object]:
        """A progress bar for the time that an input takes, on a terminal."""
        self._count += 1
        self._told = time.monotonic()
        self._title = (f"[{self._count}/{self._total}] " if self._total > 1 else "") + one_line(str(job.source))
        if self._quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            self._bar = None
            return nullcontext()
        self._bar = progress_bar(self._title)
        return self._bar

    def progress(self, now: Progress) -> None:
        """Takes the library's news of one input; the callback of `moesaic.encode`."""
        share = _share(now)
        left = f"{clock(now.seconds_left)} left"
        if _known(now.psnr):
            left = f"{now.psnr:.2f} dB, {left}"
        if self._bar is not None:
            news = f"{now.phase} {left}"
            self._bar.update(self._bar.task_ids[0], completed=share, total=1.0, news=news)
        elif not self._quiet and time.monotonic() - self._told >= _PLAIN_EVERY:
            self._told = time.monotonic()
            say(f"{self._title}: {now.phase} {share:.0%}, {left}")

    def done(self, job: Told, figures: Figures) -> None:
        """One input went well."""
        self._write("done", job, figures, self.text)

    def kept(self, job: Told) -> None:
        """An output was there already, and stays."""
        self._write("kept", job, {}, lambda _: "kept, as it is there already; --force replaces it")

    def failed(self, job: Told, error: Exception) -> None:
        """One input failed, and the run goes on."""
        show_traceback(error)
        message = reason(error)
        say(message if str(job.source) in message else f"{job.source}: {message}")
        if self._as_json:
            self._object("failed", job, {"error": type(error).__name__, "message": message})

    def _write(self, status: str, job: Told, figures: Figures, text: Callable[[Figures], str]) -> None:
        if self._as_json:
            self._object(status, job, figures)
        elif self._always or not self._quiet:
            places = one_line(str(job.source)) + (f" -> {one_line(str(job.output))}" if job.output else "")
            told = text(figures)
            typer.echo(f"{places}:{told}" if told.startswith("\n") else f"{places}: {told}")

    def _object(self, status: str, job: Told, figures: Figures) -> None:
        output = None if job.output is None else str(job.output)
        told = {"verb": self._verb, "status": status, "input": str(job.source), "output": output}
        typer.echo(json.dumps(told | {key: _plain(value) for key, value in figures.items()}, allow_nan=False))


def summary(figures: Figures) -> str:
    """The figures that are there, in one line: `10,000 experts, 31.20 dB, SSIM 0.9012, ...`."""
    return ", ".join(tell(figures[key]) for key, tell in _PHRASES.items() if _known(figures.get(key)))


def _known(figure: Any) -> bool:
    return figure is not None and figure == figure  # NaN: a picture too small for that figure


def holdings(info: Figures) -> str:
    """What a .moe file holds, in a line and a table below it."""
    kind = ("grey", "grey and alpha", "RGB", "RGB and alpha")[info["channels"] - 1]
    carried = [name for name in ("icc", "exif", "xmp") if info[name]]
    rows = {
        "canvas": f"{info['width']} x {info['height']} px, {kind}, {info['depth']} bits a channel",
        "experts": f"{info['kernels']:,} of order {info['order']}, in {info['layers']} layers",
        "carries": ", ".join(carried) or "no metadata",
        **{f"section {name}": f"{n_bytes:,} bytes" for name, n_bytes in info["sections"].items()},
        "file": f"{info['bytes']:,} bytes, {info['bpp']:.3f} bpp, format version {info['version']}",
    }
    width = max(map(len, rows))
    return "".join(f"\n  {name:<{width}}  {text}" for name, text in rows.items())


def log_to_stderr() -> None:
    """Warnings of the library, one line each, on standard error; with MOESAIC_DEBUG=1 the rest as well."""
    from moesaic.cli.endings import debugging

    logger = logging.getLogger("moesaic")
    logger.setLevel(logging.DEBUG if debugging() else logging.WARNING)
    if not any(isinstance(handler, _Lines) for handler in logger.handlers):
        logger.addHandler(_Lines())


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def _plain(value: Any) -> Any:
    """JSON has no word for infinity, which is the PSNR of equal pictures."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _share(now: Progress) -> float:
    """How much of the phase is done: by steps, or by the clock where a time is spent rather than steps."""
    if now.steps is not None:
        return now.step / max(now.steps, 1)
    return now.seconds / max(now.seconds + now.seconds_left, 1e-9)
