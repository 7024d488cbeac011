"""The verb `serve`: the web page and its server."""

# Annotations are real here, not postponed: typer evaluates them.
import signal
import socket
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from moesaic.cli.endings import ALL_DONE, ending, say
from moesaic.errors import ArgumentError, MissingExtraError

_LOCAL = ("127.0.0.1", "localhost", "::1")


@ending
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep pictures here, so that a server that is begun again goes on.",
            show_default="a temporary one",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures that are worked on at a time.", show_default="one for two processors"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which the server may be called, such as behind a proxy; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Open the page on which people try moesaic with their own pictures; Ctrl-C ends it."""
    try:
        import python_multipart  # noqa: F401 - FastAPI asks for it when a form comes
        import uvicorn

        from moesaic.app.connections import allow_files, patient
        from moesaic.app.limits import Limits
        from moesaic.app.server import create_app
        from moesaic.app.workplace import workplace
    except ImportError as cause:
        raise MissingExtraError("the page needs FastAPI and uvicorn: pip install 'moesaic[app]'") from cause
    _end_in_order()
    listener = _listening(host, port)
    with listener, workplace(folder) as place:
        app = create_app(folder=place, workers=workers, hosts=[host, *(allow_host or [])])
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - only compared
        address = f"http://{shown}:{listener.getsockname()[1]}"
        say(f"moesaic is at {address} (Ctrl-C ends it)")
        if host not in _LOCAL:
            say("anybody who can reach this machine can use it: see docs/serve.md")
        if open_page:
            webbrowser.open(address)
        allow_files()
        config = uvicorn.Config(
            app,
            http=patient(Limits()),
            log_level="warning",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    return ALL_DONE


def _end_in_order() -> None:
    """Let the end of a service or of a terminal do what Ctrl-C does: else pictures stay in the temporary folder."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ArgumentError: the port is taken, or the address is not one of this machine.
    """
    if not host:
        raise ArgumentError("the host has an empty name; 0.0.0.0 is every address of this machine")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as cause:
        told = getattr(cause, "strerror", None) or cause
        raise ArgumentError(
            f"cannot listen on {host}, port {port} ({told}): try --port 0, which takes a free one"
        ) from cause
    return listener
