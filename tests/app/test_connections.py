"""A real server and clients that say little, ask for everything, and read nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx
from fastapi import FastAPI, Response

from moesaic.app.guard import Guard
from moesaic.app.limits import Limits
from tests.app.served import in_thread

LIMITS = Limits(idle_seconds=1, reading_seconds=1, connections=30, body_bytes=10_000)
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = FastAPI()
    app.add_middleware(Guard, limits=LIMITS)

    @app.get("/")
    async def little() -> Response:
        return Response(b"here")

    @app.get("/much")
    async def much() -> Response:
        return Response(bytes(64 * 2**20))

    with in_thread(app, LIMITS) as port:
        yield port


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    made = []

    def connected() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", port), timeout=8))
        return made[-1]

    yield connected
    for one in made:
        one.close()


def is_closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection; what comes until then is read."""
    try:
        while connection.recv(2**20):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def can_say(connection: socket.socket, text: bytes) -> bool:
    """Whether somebody listens to all of a text that is said letter by letter."""
    try:
        for letter in text:
            connection.sendall(bytes([letter]))
            time.sleep(0.05)
    except OSError:
        return False
    return True


def read(connection: socket.socket, end: bytes) -> bytes:
    came = b""
    while not came.endswith(end):
        part = connection.recv(2**16)
        assert part, came
        came += part
    return came


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: "])
def test_half_a_head(connect, said):
    connection = connect()
    connection.sendall(said)
    began = time.monotonic()
    assert is_closed(connection)
    assert 0.5 < time.monotonic() - began < 5


def test_a_head_that_trickles(connect):
    connection = connect()
    began = time.monotonic()
    assert not can_say(connection, GET[:-2] * 40)
    assert time.monotonic() - began < 5


def test_the_head_of_a_second_request_has_its_time_as_well(connect):
    connection = connect()
    connection.sendall(GET)
    assert read(connection, b"here")
    began = time.monotonic()
    assert not can_say(connection, GET[:-2] * 40)
    assert time.monotonic() - began < 5


def test_who_asks_now_and_then_stays(connect):
    connection = connect()
    for _ in range(4):
        time.sleep(0.6)
        connection.sendall(GET)
        assert read(connection, b"here")


def test_who_reads_nothing(connect):
    connection = connect()
    connection.sendall(GET.replace(b"/ ", b"/much "))
    time.sleep(3)
    came = 0
    try:
        while part := connection.recv(2**20):
            came += len(part)
    except ConnectionResetError:
        pass
    assert came < 64 * 2**20


def test_who_reads_slowly_gets_all(connect):
    connection = connect()
    connection.sendall(GET.replace(b"/ ", b"/much "))
    came = b""
    while len(came) < 64 * 2**20:
        part = connection.recv(2**22)
        assert part, len(came)
        came += part
        time.sleep(0.15 if len(came) < 2**25 else 0)
    assert came.startswith(b"HTTP/1.1 200")


def test_too_many(port, connect):
    idle = [connect() for _ in range(60)]
    time.sleep(0.3)
    open_ = 0
    for connection in idle:
        connection.settimeout(0.02)
        open_ += not is_closed(connection)
    assert 20 <= open_ <= 30
    time.sleep(1.5)  # and then they have gone, without having asked for anything
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "here"


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET.replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"),
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 50_000 + b"\r\n",
    ],
)
def test_requests_that_are_none(connect, said):
    connection = connect()
    try:
        connection.sendall(said)
        answer = connection.recv(2**16)
    except ConnectionError:
        return
    assert answer.startswith((b"HTTP/1.1 4",))
    assert b"Traceback" not in answer


def test_a_body_after_a_refusal_does_not_hold_a_connection(connect):
    connection = connect()
    head = b"POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000000\r\n\r\n"
    connection.sendall(head)
    assert connection.recv(2**16).startswith(b"HTTP/1.1 421")
    began = time.monotonic()
    assert not can_say(connection, bytes(200))
    assert time.monotonic() - began < 5
