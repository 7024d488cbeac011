"""A verb asked for its rules and its work, without doing any: how `batch` runs the verbs as they are.

A verb checks its options, has its inputs settled (`places.settle`), loads what it needs, and has its work run
(`runs.run`). While it is asked, these two calls hand over what they are given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moesaic.cli.places import Job
    from moesaic.cli.report import Figures, Report

Settle = Callable[[Callable[[Path], str], Callable[[Path], bool]], "list[Job]"]
"""Takes a verb's name for the output of an input, and which files it accepts; returns what there is to do."""


@dataclass(slots=True)
class Handover:
    """What a verb is asked for."""

    settle: Settle
    work: Callable[[Job], Figures] | None = None
    report: Report | None = None


_current: ContextVar[Handover | None] = ContextVar("handover", default=None)


def current() -> Handover | None:
    """Whoever asks, while a verb is asked."""
    return _current.get()


def ask(
    verb: Callable[..., int],  # as the command line calls it
    options: Mapping[str, Any],  # its own, without inputs, outputs and what all verbs have
    settle: Settle,
) -> tuple[Callable[[Job], Figures], Report]:
    """The work of a verb for one input, and the report that tells of it.

    Raises:
        MoesaicError: the verb refuses its options, or a model that they name.
    """
    asked = Handover(settle)
    before = _current.set(asked)
    try:
        inspect.unwrap(verb)(  # without its ending: errors are the caller's to tell
            inputs=[], output=None, recursive=False, force=False, as_json=False, quiet=True, **options
        )
    finally:
        _current.reset(before)
    if asked.work is None or asked.report is None:
        raise RuntimeError(f"{verb.__name__} has not come to its work")
    return asked.work, asked.report
