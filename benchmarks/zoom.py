"""The endless zoom in a browser without a graphics card: JavaScript's share of a frame, and the work left to a GPU.

Chromium draws in software here (SwiftShader), so that frames a second say little of a real GPU. What carries over is
counted: milliseconds of JavaScript a frame, and the pairs of kernel and pixel that a frame draws. From those the time
of a GPU is estimated by two rates, given as options and kept in the record: how many texels of 128 bits it fetches, and
how many fused multiply-adds it does, in a second. Nobody has measured it on such a GPU.
"""

from __future__ import annotations

import base64
import itertools
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moesaic
from benchmarks.pictures import gallery, numbers, parser
from benchmarks.record import Record
from benchmarks.timing import summary
from moesaic.app.kernels import kernel_bytes

WIDTH, HEIGHT = 1280, 800  # px
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox")
ORIGIN = "http://zoom.test"
PAGE = '<!doctype html><link rel="stylesheet" href="/page.css"><canvas tabindex="0"></canvas>'
STYLE = f"body {{ margin: 0 }} canvas {{ display: block; width: {WIDTH}px; height: {HEIGHT}px }}"

# Of a pair of kernel and pixel with a plain entry (RGB, order 0), see PLAIN in zoom_shaders.js.
TEXELS = 2  # of 128 bits
OPERATIONS = {
    "u = u0 + f0 x + f1 y": 2,
    "v = v0 + f2 y": 1,
    "logit = prior - u u - v v": 2,
    "2^logit, at a quarter of the rate": 4,
    "colours out of 16 bits: four shifts or masks, four conversions, four products": 12,
    "four weighted sums and the sum of weights": 5,
    "places of two texels, and the loop": 8,
}

MADE: dict[str, Callable[..., Any]] = {"predicted": moesaic.predict, "fitted": moesaic.fit}
"""How mixtures are made. Fitted kernels reach further over each other, so more of them draw a pixel."""

OPEN = """async (text) => {
  const { Zoom } = await import("/static/zoom.js");
  window.views = [];
  window.zoom = new Zoom(document.querySelector("canvas"), { onview: (view) => window.views.push(view) });
  zoom.load(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  await zoom.settled();
  return views.map((view) => view.milliseconds);
}"""
MOVE = """async ([kind, coarsest, frames]) => {
  zoom.coarsest = coarsest;
  zoom.fit({ glide: false });
  if (kind === "pan") zoom.zoomBy(8, { x: 700, y: 300, glide: false });
  await zoom.settled();
  views.length = 0;
  const [script, pauses, work] = [[], [], []];
  let before = performance.now();
  for (let i = 0; i < frames; i++) {
    if (kind === "pan") zoom.moveBy(i % 60 < 30 ? 9 : -9, i % 120 < 60 ? 4 : -4);
    else zoom.zoomBy(i < frames / 2 ? 1.05 : 1 / 1.05, { x: 700, y: 300, glide: false });
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    pauses.push(now - before);
    before = now;
    script.push(zoom.figures.milliseconds);
    work.push(zoom.figures.work);
  }
  return { script, pauses, work, divisor: zoom.figures.divisor };
}"""
REST = """async (closer) => {
  zoom.fit({ glide: false });
  zoom.zoomBy(closer, { x: 700, y: 300, glide: false });
  await zoom.settled();
  const began = performance.now();
  zoom.readPixels();
  return { ...zoom.figures, sharp: performance.now() - began, scale: zoom.view.scale };
}"""


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--experts", type=numbers, default=(10_000,), metavar="10000,2000")
    options.add_argument("--frames", type=int, default=120, help="of each movement")
    options.add_argument("--closer", type=numbers, default=(1, 4, 16, 64, 512), help="times the scale at which it fits")
    options.add_argument("--texels", type=float, default=3e9, help="a second, of the GPU that times are estimated for")
    options.add_argument("--fma", type=float, default=190e9, help="a second, of the same")
    options.add_argument("--quick", action="store_true", help="few kernels and frames: whether it runs at all")
    asked = options.parse_args(arguments)
    if asked.quick:
        asked.experts, asked.frames, asked.closer = (300,), 12, (1, 16)
    shown = gallery(asked.pictures)
    rates = {"texels_per_s": asked.texels, "fma_per_s": asked.fma}
    settings = {"pictures": shown.name, "frames": asked.frames, "view": [WIDTH, HEIGHT], "renderer": "SwiftShader"}
    settings |= {"estimated_gpu": rates, "operations": OPERATIONS, "texels": TEXELS}
    record = Record("zoom", settings=settings, folder=asked.results, resume=asked.resume)
    for source in shown.only(asked.only or (23,)) or shown.sources[:1]:
        for experts, made in itertools.product(asked.experts, MADE):
            name = f"{source.name}/{experts}/{made}"
            if record.has("moving", f"{name}/pan/sharp"):
                continue
            data = kernel_bytes(MADE[made](source.read(), experts=experts).detach())
            named = {"picture": source.name, "experts": experts, "made": made}
            for section, key, row in measure(data, asked.frames, asked.closer, rates):
                record.put(section, f"{name}/{key}", named | row)
                print(f"{name}/{key}: {row}", flush=True)


def measure(data: bytes, frames: int, closer: tuple[int, ...], rates: dict[str, float]) -> Any:
    """Rows of one mixture, with the section and key of each."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        raise SystemExit(f"none of {', '.join(CHROMIUMS)} is on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SOFTWARE))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        _serve(page)
        loading = page.evaluate(OPEN, base64.b64encode(data).decode())
        yield "loading", "first picture", {"frames": len(loading), "most_ms": round(max(loading), 1)}
        for times in closer:
            found = page.evaluate(REST, times)
            row = {
                "scale": round(found["scale"], 3),
                "cells": found["cells"],
                "kernels_per_pixel": round(found["work"] / found["pixels"], 2),
                "software_ms": round(found["sharp"], 1),
                "estimate": estimate(found["work"], rates),
            }
            yield "resting", f"{times} times", row
        for kind in ("zoom", "pan"):
            for name, coarsest in (("adaptive", 4), ("sharp", 1)):
                found = page.evaluate(MOVE, [kind, coarsest, frames])
                yield "moving", f"{kind}/{name}", {"kind": f"{kind}, {name}"} | _moving(found)
        browser.close()


def _moving(found: dict[str, Any]) -> dict[str, Any]:
    pauses = found["pauses"]
    return {
        "script": summary(found["script"]) | {"most_ms": round(max(found["script"]), 2)},
        "software_frames_per_s": round(1e3 * len(pauses) / sum(pauses), 1),
        "kernels_times_pixels": round(statistics.mean(found["work"])),
        "divisor": found["divisor"],
    }


def estimate(work: float, rates: dict[str, float]) -> dict[str, float]:
    """Milliseconds that so many pairs of kernel and pixel take a GPU by its texels alone, and by arithmetic alone."""
    return {
        "by_texels_ms": round(1e3 * work * TEXELS / rates["texels_per_s"], 2),
        "by_operations_ms": round(1e3 * work * sum(OPERATIONS.values()) / rates["fma_per_s"], 2),
    }


def _serve(page: Any) -> None:
    from moesaic.app import kernels

    static = Path(kernels.__file__).parent / "static"

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(ORIGIN).lstrip("/")
        body = {"": PAGE, "page.css": STYLE, "favicon.ico": ""}.get(name)
        kind = {".js": "text/javascript", ".css": "text/css"}.get(Path(name).suffix, "text/html")
        if body is None:
            body = (static / name.removeprefix("static/")).read_text("utf-8")
        route.fulfill(body=body, headers={"Content-Type": kind})

    page.route(f"{ORIGIN}/**", answer)
    page.goto(f"{ORIGIN}/")


if __name__ == "__main__":
    main()
