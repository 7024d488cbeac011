"""What every request passes: who may ask, how much may be sent, and the headers of every answer."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from moesaic.app.limits import MIB, Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

_log = logging.getLogger(__name__)

_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_READ_ON = 64 * MIB  # of a body that is refused: a browser that is cut off shows no answer


class TooLargeError(Exception):
    """A body is larger than the limit."""


class TooSlowError(Exception):
    """A body comes too slowly."""


class Guard:
    """Middleware around the whole app.

    A page of another site can make a browser send requests here, by its own name for this address (DNS rebinding) or
    by a form. So only known host names are answered, and changes only from a page of this server or from a program.

    Args:
        app: what is guarded.
        limits: of the server.
        hosts: names by which it may be called, beside `localhost` and addresses in figures.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, hosts: Collection[str] = ()) -> None:
        self._app, self._limits = app, limits
        self._hosts = {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        begun = False

        async def answered(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found[name] = value
                if "cache-control" not in found:
                    found["Cache-Control"] = "no-store"
            await send(message)

        if refusal := self._refusal(scope, headers):
            await _answer(answered, *refusal)
            return
        # No part of a file is ever asked for by the page, and lists of parts are an attack on who sorts them.
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        bounded = _Bounded(receive, self._limits)
        try:
            if int(headers.get("content-length") or 0) > self._limits.body_bytes:
                raise TooLargeError
            await self._app(scope, bounded.receive, answered)
        except TooLargeError:
            await bounded.read_on(_READ_ON)
            if not begun:
                most = f"{self._limits.body_bytes / MIB:,.0f} MiB"
                await _answer(
                    answered, 413, f"This file is too large: at most {most} can be sent. Make it smaller first."
                )
        except TooSlowError:
            if not begun:
                await _answer(answered, 408, "The picture came too slowly and was given up. Try again.")
        except ClientDisconnect:
            if not begun:  # nobody may be there to read it
                await _answer(answered, 400, "The picture did not come to its end. Send it again.")
        except Exception:
            if begun:
                raise
            _log.exception("a request could not be answered")  # for the server's owner; the client gets a sentence
            await _answer(answered, 500, "Something went wrong on the server. Try again.")

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._is_known(host):
            return 421, (
                "This server is not known by that name. Use http://127.0.0.1, or begin it with --allow-host NAME."
            )
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal() and len(length) < 20):
            return 400, "The request has no valid length. Reload the page and try again."
        if scope["method"] in _CHANGES:
            origin = headers.get("origin")
            foreign = origin is not None and _place(origin) != host.lower()
            if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "Another website has asked for this, and only this server's own page may."
        return None

    def _is_known(self, host: str) -> bool:
        name = _host(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self._hosts
        return True  # a page of another site has a name, never an address in figures


def _place(origin: str) -> str | None:
    """Host and port of an origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host(place: str) -> str | None:
    """The host of a host and port."""
    try:
        return urlsplit(f"//{place}").hostname
    except ValueError:
        return None


class _Bounded:
    """The body of a request, as far and as fast as it may come."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._came = 0
        self._deadline = time.monotonic() + limits.upload_seconds
        self._more = True

    async def receive(self) -> Message:
        if not self._more:  # what comes now is the end of the connection, which may take as long as it likes
            return await self._receive()
        left = min(self._limits.idle_seconds, self._deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, left))
        except TimeoutError:
            raise TooSlowError from None
        self._came += len(message.get("body", b""))
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        if self._came > self._limits.body_bytes:
            raise TooLargeError
        return message

    async def read_on(self, most: int) -> None:
        """Read and forget what still comes, so that the client is ready for an answer."""
        end = time.monotonic() + self._limits.idle_seconds
        while self._more and most > 0 and time.monotonic() < end:
            try:
                message = await asyncio.wait_for(self._receive(), 5)
            except TimeoutError:
                return
            most -= len(message.get("body", b""))
            self._more = message["type"] == "http.request" and message.get("more_body", False)


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
