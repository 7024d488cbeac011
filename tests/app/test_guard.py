"""What every request passes, with an app behind it that reads and answers as the test says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("fastapi")

from moesaic.app.guard import HEADERS, Guard
from moesaic.app.limits import Limits

LIMITS = Limits(body_bytes=1000, idle_seconds=1, upload_seconds=2)


class Asked:
    """One request through a guard, without a network."""

    def __init__(self, method: str = "GET", *, limits: Limits = LIMITS, hosts: tuple[str, ...] = (), **headers: str):
        named = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
        raw = [(name.encode(), value.encode()) for name, value in named.items()]
        self.scope: dict[str, Any] = {"type": "http", "method": method, "path": "/", "headers": raw}
        self.limits, self.hosts = limits, hosts
        self.sent: list[dict[str, Any]] = []
        self.body = b""
        self.was_called = False
        self.read = 0

    def answer(self, *parts: bytes, every: float = 0.0, error: Exception | None = None, late: bool = False) -> int:
        coming = list(parts)

        async def receive() -> dict[str, Any]:
            if every:
                await asyncio.sleep(every)
            part = coming.pop(0) if coming else b""
            self.read += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(coming)}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.was_called = True
            if late:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                message = await receive()
                self.body += message["body"]
                if not message["more_body"]:
                    break
            if error is not None:
                raise error
            if not late:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

        asyncio.run(Guard(app, limits=self.limits, hosts=self.hosts)(self.scope, receive, send))
        status: int = self.sent[0]["status"]
        found = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        assert all(found[name.lower()] == value for name, value in HEADERS.items())
        assert found["cache-control"] == "no-store"
        return status

    @property
    def sentence(self) -> str:
        told: str = json.loads(self.sent[1]["body"])["error"]
        assert told.endswith(".")
        return told


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:80", "[::1]:8000", "192.168.1.2", "10.0.0.1:1", "[fe80::1]"])
def test_addresses_and_localhost_are_known(host):
    assert Asked(host=host).answer() == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example:127.0.0.1",
        "evil.example#localhost",
        "[::1",
        "[evil]",
        "0x7f000001",
        "localhost\\@evil.example",
    ],
)
def test_other_names_are_not(host):
    asked = Asked(host=host)
    assert asked.answer() == 421
    assert "--allow-host" in asked.sentence
    assert not asked.was_called


def test_a_name_that_is_allowed():
    assert Asked(host="pictures.example", hosts=("Pictures.Example",)).answer() == 200
    assert Asked(host="x.pictures.example", hosts=("pictures.example",)).answer() == 421


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1"},  # another port is another site
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://localhost:8000"},
        {"origin": "http://["},
        {"origin": "127.0.0.1:8000"},
        {"origin": "http://evil.example#127.0.0.1:8000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "same-site", "origin": "http://127.0.0.1:8000"},
    ],
)
def test_changes_for_another_site(method, headers):
    asked = Asked(method, **headers)
    assert asked.answer() == 403
    assert not asked.was_called


def test_changes_for_the_page_itself_and_for_programs():
    for headers in (
        {},
        {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
    ):
        assert Asked("POST", **headers).answer() == 200
    assert Asked("GET", origin="http://evil.example").answer() == 200  # who cannot read the answer


@pytest.mark.parametrize("length", ["", "-1", "1.5", "0x10", "٣", "1 1", "9" * 5000])
def test_lengths_that_are_none(length):
    assert Asked("POST", content_length=length).answer() == 400


def test_a_body_that_says_it_is_too_large_is_not_taken_in():
    asked = Asked("POST", content_length="1001")
    assert asked.answer(bytes(1001)) == 413
    assert not asked.was_called
    assert asked.body == b""


def test_a_body_without_length_ends_at_the_bound():
    asked = Asked("POST")
    assert asked.answer(*[bytes(400)] * 50) == 413
    assert len(asked.body) == 800
    assert "too large" in asked.sentence
    assert asked.read == 50 * 400  # so that a browser is ready for the answer
    assert Asked("POST").answer(bytes(1000)) == 200


def test_a_body_that_does_not_come():
    asked = Asked("POST", content_length="10")
    assert asked.answer(bytes(5), bytes(5), every=1.2) == 408
    assert "too slowly" in asked.sentence


def test_a_body_that_trickles():
    asked = Asked("POST", content_length="10")
    assert asked.answer(*[bytes(1)] * 10, every=0.5) == 408
    assert 1 <= len(asked.body) <= 5


def test_errors_are_told_to_the_servers_owner_only(caplog):
    asked = Asked("POST")
    assert asked.answer(error=RuntimeError("/srv/secret.png")) == 500
    assert "secret" not in str(asked.sent)
    assert "secret" in caplog.text


def test_an_error_in_the_middle_of_an_answer_cuts_it_off():
    with pytest.raises(RuntimeError, match="late"):
        Asked("POST").answer(error=RuntimeError("late"), late=True)


def test_no_part_of_a_file_is_given():
    asked = Asked(range="bytes=" + "0-1," * 10_000)
    asked.answer()
    assert b"range" not in dict(asked.scope["headers"])
