"""`moesaic serve`: what it says, how it ends, and why it does not begin."""

from __future__ import annotations

import signal
import socket
import sys
import time

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from tests.app.calls import png, send
from tests.app.served import Served, is_alive

UNIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@UNIX
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_end_is_quick_and_leaves_nothing(tmp_path, how):
    with Served(TMPDIR=str(tmp_path)) as served:
        assert served.line.endswith(" (Ctrl-C ends it)\n")
        assert send(served.calls, png((200, 150)), quality="best").status_code == 201
        while not (workers := served.workers):
            time.sleep(0.02)
        (place,) = tmp_path.glob("moesaic-serve-*")
        assert place.stat().st_mode & 0o077 == 0
        began = time.monotonic()
        code, said = served.end(how)
        assert time.monotonic() - began < 10  # one or two seconds where nobody else works
        assert (code, said) == (0, "")
    assert not any(map(is_alive, workers))
    assert list(tmp_path.glob("moesaic-serve-*")) == []


def test_two_servers_do_not_share_a_folder(tmp_path, moe):
    with Served("--folder", tmp_path / "jobs"):
        ran = moe("serve", "--no-open", "--port", "0", "--folder", tmp_path / "jobs")
        assert ran.code == 2
        assert "another server works in" in ran.err


def test_a_port_that_is_taken_and_addresses_that_are_none(moe):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = moe("serve", "--no-open", "--port", taken.getsockname()[1])
        assert ran.code == 2
        assert "try --port 0" in ran.err
    for host in ("203.0.113.7", "no host", ""):
        assert moe("serve", "--no-open", "--port", "0", "--host", host).code == 2


def test_a_folder_that_cannot_be_made(moe, tmp_path):
    (tmp_path / "file").write_text("")
    ran = moe("serve", "--no-open", "--port", "0", "--folder", tmp_path / "file" / "below")
    assert ran.code == 2
    assert "cannot write into" in ran.err


def test_without_the_extra(moe, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    ran = moe("serve")
    assert ran.code == 2
    assert "pip install 'moesaic[app]'" in ran.err


@pytest.mark.parametrize("name", ["fastapi", "python_multipart"])
def test_without_a_part_of_the_extra(moe, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    for known in [known for known in sys.modules if known.startswith("moesaic.app.")]:
        monkeypatch.delitem(sys.modules, known)
    ran = moe("serve")
    assert ran.code == 2
    assert "pip install 'moesaic[app]'" in ran.err


@pytest.mark.parametrize("wrong", [("--port", "70000"), ("--port", "-1"), ("--workers", "0"), ("--port", "x")])
def test_wrong_options(moe, wrong):
    assert moe("serve", "--no-open", *wrong).code == 2
