"""Somebody at the page, as tests have them: picks, drops, chooses, and looks."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

LONG = 60_000  # ms, for work on a machine that does other things, too
DROP = """({ files, target }) => {
  const carried = new DataTransfer();
  for (const { name, type, bytes } of files) {
    carried.items.add(new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], name, { type }));
  }
  if (target === "paste") {
    window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));
    return;
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true });
    document.querySelector(target).dispatchEvent(event);
  }
}"""


def png(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


class Person:
    """Somebody at the page."""

    def __init__(self, page: Any, server: str) -> None:
        self.page = page
        page.goto(server)
        page.wait_for_selector("#abilities li", state="attached")

    def pick(self, *files: tuple[str, bytes]) -> None:
        held = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
        self.page.set_input_files("#picker", held)

    def drop(self, *files: tuple[str, bytes], target: str = "#main") -> None:
        held = [
            {"name": name, "type": "image/png", "bytes": base64.b64encode(content).decode()} for name, content in files
        ]
        self.page.evaluate(DROP, {"files": held, "target": target})

    def choose(self, verb: str) -> None:
        self.page.locator(f'.verb:has(input[value="{verb}"])').click()

    def start(self) -> None:
        self.page.click("#start")

    def done(self) -> None:
        self.page.wait_for_selector("#result:visible, #trouble:visible", timeout=LONG)
        assert not self.page.is_visible("#trouble"), self.page.inner_text("#trouble")

    def makes(self, verb: str, *files: tuple[str, bytes]) -> None:
        """Pick these, have this done, and wait for the result."""
        self.pick(*files)
        self.choose(verb)
        self.start()
        self.done()

    def opens_the_sheet(self) -> None:
        self.page.get_by_role("button", name="All the experts").click()
        self.page.wait_for_selector(".sheet", timeout=LONG)
        self.loaded(".sheet")

    def sees(self, selector: str) -> Image.Image:
        return Image.open(io.BytesIO(self.page.locator(selector).screenshot())).convert("RGB")

    def loaded(self, selector: str) -> None:
        """Wait until all these pictures are there."""
        self.page.wait_for_function(
            "(selector) => [...document.querySelectorAll(selector)].every((one) => one.complete && one.naturalWidth)",
            arg=selector,
        )
