"""How a command ends: every exception becomes one line on standard error and an exit code, never a traceback.

Exit codes: 0 all done; 1 some inputs failed; 2 nothing could be done, wrong options included; 130 interrupted by
Ctrl-C; 141 whoever read standard output has gone. The last two are what a shell reports for the two signals.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from moesaic.errors import MoesaicError

ALL_DONE, SOME_FAILED, NOTHING_DONE, INTERRUPTED, READER_GONE = 0, 1, 2, 130, 141

_Arguments = ParamSpec("_Arguments")


def say(text: str) -> None:
    """One line on standard error, whatever characters the text holds."""
    typer.echo(f"moesaic: {one_line(text)}", err=True)


def one_line(text: str) -> str:
    """The text without line ends and control characters, which a file's name may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def reason(error: Exception) -> str:
    """What to tell the user about an error; one that moesaic did not raise on purpose is called what it is, a bug."""
    if isinstance(error, MoesaicError):
        return str(error)
    if isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return place + (error.strerror or str(error))
    if isinstance(error, MemoryError):
        return "there is not enough memory for this picture"
    hint = "" if debugging() else "; MOESAIC_DEBUG=1 shows where, please report it"
    return f"this is a bug in moesaic: {type(error).__name__}: {error}{hint}"


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("MOESAIC_DEBUG", "0") not in ("", "0")


def show_traceback(error: BaseException) -> None:
    """The traceback on standard error, when asked for by MOESAIC_DEBUG=1."""
    if debugging():
        typer.echo("".join(traceback.format_exception(error)), err=True)


def ending(command: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """Decorator: the command returns an exit code, whatever happens inside."""

    @functools.wraps(command)
    def ended(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> int:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            say("interrupted; no half-written file was left")
            code = INTERRUPTED
        except BrokenPipeError:
            # The interpreter flushes again on its way out; that must not fail as well.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = READER_GONE
        except Exception as error:  # noqa: BLE001 - the last place where it can become one line
            if callable(message := getattr(error, "format_message", None)):  # wrong options; typer moves its classes
                if text := message():  # empty where the help has been shown instead
                    say(_usage(error, text))
            else:
                show_traceback(error)
                say(reason(error))
            code = NOTHING_DONE
        return code

    return ended


def _usage(error: Exception, message: str) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "moesaic")
    return f"{message} (see {path} --help)"
