"""Connections: those on which nothing is asked, or nothing is read, are closed, so that there is room for others."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from moesaic.app.limits import Limits

_FILES = 4096  # that may be open at a time: each connection may have a picture open as well


def patient(limits: Limits) -> type[H11Protocol]:
    """Uvicorn's protocol with an end to its patience; for `uvicorn.Config(http=...)`.

    Uvicorn itself waits for ever for the rest of a request's head, and for a client to read its answer. (The body of a
    request has its time in `guard.py`.)

    Args:
        limits: of the server.
    """

    class Patient(H11Protocol):
        _asking: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def _watch(self) -> None:
            """Wait for a request, unless one is being answered; what trickles in does not begin the wait anew."""
            if self._is_answering():
                _stop(self._asking)
                self._asking = None
            elif self._asking is None:
                self._asking = self.loop.call_later(limits.idle_seconds, self._give_up)

        def _is_answering(self) -> bool:
            cycle: RequestResponseCycle | None = self.cycle  # which it is before the first request
            return cycle is not None and not cycle.response_complete

        def _give_up(self) -> None:
            self._asking = None
            if not self._is_answering():
                self.transport.abort()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._reading is None:
                self._look(self.transport.get_write_buffer_size() + 1)

        def _look(self, before: int) -> None:
            """End a connection from which nothing has been read since the last look."""
            left = self.transport.get_write_buffer_size()
            if left < before:
                self._reading = self.loop.call_later(limits.reading_seconds, self._look, left)
            else:
                self.transport.abort()

        def resume_writing(self) -> None:
            super().resume_writing()
            _stop(self._reading)
            self._reading = None

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            _stop(self._asking)
            _stop(self._reading)

    return Patient


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def allow_files() -> None:
    """Let this process have more files open than the few hundred of some systems, where it may say so itself."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
