"""The pictures of docs/serve.md: the page in each of its states, taken in a real browser while real work is done.

The photographs are of Kodak's pictures, which are free for any use: the lighthouse in rain that was put on it, and the
parrots.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import moesaic
from benchmarks.pictures import gallery
from benchmarks.record import ROOT

SIZE = {"width": 1280, "height": 820}
PHONE = {"width": 390, "height": 780}
COLOURS = 256
ARGUMENTS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
LONG = 600_000  # ms


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR")
    options.add_argument("--browser", help="Chromium; the system's by default")
    asked = options.parse_args(arguments)
    from playwright.sync_api import sync_playwright

    path = asked.browser or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if path is None:
        raise SystemExit("there is no Chromium on the path; say where it is with --browser")
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS, *as_root])
        _States(browser, address, asked.docs / "images").take()
        browser.close()


class _States:
    """A visit of the page, and a picture of each state."""

    def __init__(self, browser: Any, address: str, images: Path) -> None:
        self.browser, self.address, self.images = browser, address, images
        self.page = browser.new_context(viewport=SIZE, reduced_motion="reduce").new_page()
        self.page.set_default_timeout(LONG)

    def take(self) -> None:
        page = self.page
        self.open()
        self.save("start")
        self.pick("lighthouse.png", _rainy("kodim19"))
        self.choose("upscale")
        page.click("#more summary")
        self.save("options")
        self.choose("restore")
        self.do()
        self.save("compare")
        page.get_by_role("button", name="Who did what here").click()
        page.wait_for_selector(".ramp")
        page.wait_for_timeout(500)
        self.save("overlay")
        page.get_by_role("button", name="All the experts").click()
        page.wait_for_selector(".sheet")
        page.wait_for_timeout(500)
        self.save("explain")
        self.pick("parrots.png", _plain("kodim23"))
        self.choose("encode")
        page.click("#more summary")
        page.get_by_text("Best").click()
        self.do(watch="running")
        self.settle()
        self.save("zoom_1")
        box = page.locator(".closeup canvas").bounding_box()
        # the eye of the parrot on the right, as a share of the picture
        scale = min(box["width"] / 768, box["height"] / 512)
        eye = (box["width"] / 2 + (548 - 384) * scale, box["height"] / 2 + (171 - 256) * scale)
        for name, steps, (x, y) in (
            ("zoom_2", 3, eye),
            ("zoom_3", 2, (0.366 * box["width"], 0.328 * box["height"])),  # where it is by then
        ):
            for _ in range(steps):
                page.mouse.dblclick(box["x"] + x, box["y"] + y)
                page.wait_for_timeout(700)
            self.settle()
            self.save(name)
        page.get_by_role("button", name="Show the pieces").click()
        self.settle()
        self.save("pieces")
        page.click("#theme")
        page.get_by_role("button", name="Before and after").click()
        page.wait_for_timeout(800)
        self.save("dark")
        page.get_by_role("button", name="New picture").click()
        page.click("#theme")
        self.pick("letter.jpg", b"Dear Sir or Madam, this is no picture.")
        page.click("#start")
        page.wait_for_selector("#trouble:visible")
        self.save("error")
        page.set_viewport_size(PHONE)
        page.locator(".card .open").first.click()
        page.get_by_role("button", name="Before and after").click()
        page.wait_for_timeout(800)
        page.evaluate("() => window.scrollTo(0, 0)")
        self.save("phone")

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.wait_for_selector("#abilities li")

    def pick(self, name: str, content: bytes) -> None:
        self.page.set_input_files("#picker", {"name": name, "mimeType": "image/png", "buffer": content})
        self.page.wait_for_selector("#choose:visible")

    def choose(self, verb: str) -> None:
        self.page.locator(f'.verb:has(input[value="{verb}"])').click()

    def do(self, *, watch: str | None = None) -> None:
        page = self.page
        page.click("#start")
        if watch:
            page.wait_for_function("() => /left/.test(document.querySelector('#left').textContent)")
            page.wait_for_function("() => document.querySelector('#progress').value > 0.3")
            self.save(watch)
        page.wait_for_selector("#result:visible, #trouble:visible")
        page.wait_for_timeout(1000)

    def settle(self) -> None:
        """Wait until the zoom is drawn sharp."""
        began = time.perf_counter()
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector('.closeup canvas[aria-busy="false"]')
        print(f"drawn sharp after {time.perf_counter() - began:.1f} s", flush=True)

    def save(self, name: str) -> None:
        """What is seen now, in few colours so that the file is small."""
        self.page.mouse.move(2, 2)
        self.page.evaluate("() => window.scrollTo(0, 0)")
        self.page.wait_for_timeout(300)
        image = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        colours = image.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=1)
        few = image.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG)
        path = self.images / f"page_{name}.png"
        few.save(path, optimize=True)
        print(f"{path.name}: {image.size}, {path.stat().st_size} bytes", flush=True)


def _plain(name: str) -> bytes:
    return _png(_pixels(name))


def _rainy(name: str) -> bytes:
    return _png(moesaic.degrade(_pixels(name), "rain", seed=3, severity=0.6).pixels)


def _pixels(name: str) -> Any:
    sources = {source.name: source for source in gallery().sources}
    source = sources.get(name) or next(iter(sources.values()))
    return source.read().pixels


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray((np.asarray(pixels) * 255).round().clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The app on a free port."""
    import uvicorn

    from moesaic.app.server import create_app

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        running = uvicorn.Server(uvicorn.Config(create_app(folder=folder, workers=1), log_level="warning", ws="none"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join(20)


if __name__ == "__main__":
    main()
