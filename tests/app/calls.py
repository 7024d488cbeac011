"""Calls of the server as a program makes them, for the tests."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import numpy as np
from PIL import Image

WAIT = 120  # s, for a job whose worker has to begin


def png(size: tuple[int, int] = (32, 24), seed: int = 0, mode: str = "RGB", **options: Any) -> bytes:
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(60, 190, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "PNG", **options)
    return file.getvalue()


def send(client: Any, data: bytes, verb: str = "encode", name: str = "a.png", **options: Any) -> Any:
    given = {"verb": verb, "options": json.dumps(options)}
    return client.post("/api/jobs", data=given, files={"picture": (name, data)})


def done(client: Any, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    return ended(client, answer.json()["id"])


def ended(client: Any, identity: str) -> dict[str, Any]:
    end = time.monotonic() + WAIT
    while True:
        job: dict[str, Any] = client.get(f"/api/jobs/{identity}").json()
        if job["state"] not in ("queued", "running"):
            return job
        assert time.monotonic() < end, job
        time.sleep(0.05)
