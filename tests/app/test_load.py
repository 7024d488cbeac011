"""Fifty uploads at once: none lost, each with its own result, and the server's memory bounded."""

from __future__ import annotations

import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import httpx

import moesaic
from moesaic.app.limits import MIB, Limits
from moesaic.app.server import create_app
from moesaic.image import read_picture
from tests.app.calls import ended, png, send
from tests.app.served import Served, in_thread, resident

_log = logging.getLogger(__name__)

PEOPLE = 50


def test_fifty_at_once(tmp_path):
    with Served("--folder", tmp_path, "--workers", "2") as served:
        heavy = png((1000, 700))  # of noise: more than 2 MB
        before = resident(served.process.pid)
        pictures = [_coloured(number) for number in range(PEOPLE)]
        began = time.monotonic()
        with ThreadPoolExecutor(PEOPLE) as people:
            answers = list(people.map(lambda data: send(served.calls, data, quality="quick"), pictures))
            assert [answer.status_code for answer in answers] == [201] * PEOPLE
            assert time.monotonic() - began < 20
            most = resident(served.process.pid)
            identities = [answer.json()["id"] for answer in answers]
            assert len(set(identities)) == PEOPLE
            for identity, data in zip(identities, pictures, strict=True):
                made = moesaic.decode(io.BytesIO(served.result(identity)))
                assert np.abs(made.pixels - read_picture(data).pixels).max() < 8 / 255  # that picture and no other
            most = max(most, resident(served.process.pid))
            _log.info("%d jobs in %.1f s", PEOPLE, time.monotonic() - began)
            sent = list(people.map(lambda _: send(served.calls, heavy, "restore", strength=2), range(PEOPLE)))
            assert {answer.status_code for answer in sent} == {422}  # read to their ends before they are refused
            most = max(most, resident(served.process.pid))
        _log.info("the server held %.0f MiB, and at most %.0f later", before / MIB, most / MIB)
        assert most < before + 200 * MIB


def test_a_full_queue_turns_people_away_and_loses_none_whom_it_took(tmp_path):
    limits = Limits(queue=5)
    app = create_app(folder=tmp_path, workers=1, limits=limits)
    with in_thread(app, limits) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        with ThreadPoolExecutor(20) as people:
            answers = list(people.map(lambda seed: send(client, png(seed=seed), quality="quick"), range(20)))
        taken = [answer for answer in answers if answer.status_code == 201]
        turned = [answer for answer in answers if answer.status_code == 429]
        assert len(taken) + len(turned) == 20
        assert limits.queue <= len(taken) < 20
        assert all(1 <= int(answer.headers["retry-after"]) <= 300 for answer in turned)
        assert all("Try again" in answer.json()["error"] for answer in turned)
        assert len(list((tmp_path / "jobs").iterdir())) == len(taken)
        assert {ended(client, answer.json()["id"])["state"] for answer in taken} == {"done"}


def _coloured(number: int) -> bytes:
    """A picture of one colour, which no other number has within thirty levels."""
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (number % 7 * 40, number // 7 * 30, 128)).save(file, "PNG")
    return file.getvalue()
