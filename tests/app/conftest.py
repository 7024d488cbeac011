"""A real browser and a real server, for the tests of the page; skipped with a reason where there is no browser."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from skimage import data

import moesaic
from moesaic.mixture.model import Mixture
from tests.app.person import Person, png
from tests.app.zooming import Screen, serve

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# WebGL2 without a graphics card: the tests must draw the same on a server as on a laptop.
ARGUMENTS = (
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
)
Visit = Callable[..., Any]  # new_page(**options of the context) -> a Playwright Page that is watched


def missing(what: str) -> None:
    """Skip; and say so loudly in CI, where a browser is meant to be."""
    if os.environ.get("CI") and not os.environ.get("MOESAIC_NO_BROWSER"):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"THE PAGE IS NOT TESTED IN A BROWSER: {what}", stacklevel=2)
    pytest.skip(f"{what}, so the page is not tested in a browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium, headless, with WebGL2 in software.

    One for each file of tests and not for the session: while it is open, Playwright holds this thread's event loop, and
    tests of other files that call asyncio.run would fail.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed (pip install 'moesaic[test]')")
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        missing(f"none of {', '.join(CHROMIUMS)} is on the path")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *as_root])
        yield opened
        opened.close()


@pytest.fixture
def forgiven() -> list[str]:
    """Parts of console errors that a test expects, such as "status of 410"; it appends them."""
    return []


@pytest.fixture
def new_page(browser: Any, forgiven: list[str]) -> Iterator[Visit]:
    """Make pages, each in a context of its own: another person at another computer, as far as the server can tell.

    The test fails on any error in a console, any breach of the content security policy, and any request that leaves
    the origin which the page was opened from.
    """
    contexts, complaints = [], []

    def visit(**options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        origins: set[str] = set()

        def asked(request: Any) -> None:
            address = urlsplit(request.url)
            if address.scheme in ("data", "blob"):
                return
            if request.is_navigation_request():
                origins.add(address.netloc)
            elif address.netloc not in origins:
                complaints.append(f"a request to another origin: {request.url}")

        page.on("request", asked)
        page.on("console", lambda note: complaints.append(note.text) if note.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        return page

    yield visit
    for context in contexts:
        context.close()
    unforgiven = [text for text in complaints if not any(part in text for part in forgiven)]
    assert not unforgiven, "\n".join(unforgiven)


@pytest.fixture
def page(new_page: Visit) -> Any:
    """One page in a fresh context, watched as `new_page` says."""
    return new_page()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the real app, run by uvicorn in a thread on a free port of 127.0.0.1; no slash at the end."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    from moesaic.app.server import create_app

    app = create_app(folder=tmp_path_factory.mktemp("serve"), workers=1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        port = listener.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", ws="none", lifespan="on", timeout_graceful_shutdown=1)
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        began = time.monotonic()
        while not running.started:
            assert thread.is_alive(), "the server ended before it answered"
            assert time.monotonic() - began < 60, "the server did not start within a minute"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
        running.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="session")
def tiny() -> bytes:
    """A noisy crop of a photograph, 72 x 54."""
    crop = data.astronaut()[20:236:4, 100:388:4].astype(float)
    noisy = crop + np.random.default_rng(0).normal(0, 35, crop.shape)
    return png(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def large() -> bytes:
    """Work for many seconds."""
    return png(np.asarray(Image.fromarray(data.astronaut()).resize((1500, 1200))))


@pytest.fixture
def person(page: Any, server: str) -> Person:
    return Person(page, server)


@pytest.fixture
def screen(new_page: Visit) -> Screen:
    """A page with the zoom alone."""
    page = new_page(viewport={"width": 400, "height": 300}, reduced_motion="reduce")
    serve(page)
    return Screen(page)


@pytest.fixture(scope="session")
def fitted() -> Mixture:
    """A photograph as kernels, 128 x 96."""
    crop = np.ascontiguousarray((data.astronaut()[40:136, 160:288] / 255).astype(np.float32))
    return moesaic.fit(crop, experts=300, steps=30).detach()
