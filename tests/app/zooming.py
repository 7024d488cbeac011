"""A page with the endless zoom on it, and what it must show: for the tests of the zoom."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moesaic.app import kernels
from moesaic.app.kernels import kernel_bytes
from moesaic.mixture.model import Mixture

STATIC = Path(kernels.__file__).parent / "static"
WIDTH, HEIGHT = 200, 140  # px, of the canvas on the page
ORIGIN = "http://zoom.test"
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
PAGE = '<!doctype html><title>zoom</title><link rel="stylesheet" href="/page.css"><canvas tabindex="0"></canvas>'
STYLE = f"body {{ margin: 0 }} canvas {{ display: block; width: {WIDTH}px; height: {HEIGHT}px }}"

OPEN = """async () => {
  const { Zoom } = await import("/static/zoom.js");
  window.views = [];
  window.zoom = new Zoom(document.querySelector("canvas"), { onview: (view) => window.views.push(view) });
}"""
LOAD = """(text) => zoom.load(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer)"""
REFUSED = f"(text) => {{ try {{ ({LOAD})(text); return null }} catch (error) {{ return error.message }} }}"
READ = """() => {
  const { width, height, data } = zoom.readPixels();
  let text = "";
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return [width, height, btoa(text)];
}"""

View = tuple[float, float, float]  # left and top in px of the picture, CSS px a px of it


class Screen:
    """A page with a zoom on it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def load(self, mixture: Mixture) -> None:
        self.page.evaluate(LOAD, text(kernel_bytes(mixture)))

    def see(self, view: View, *, beyond: bool = False) -> np.ndarray:  # (H, W, 4), premultiplied
        left, top, scale = view
        self.page.evaluate("(beyond) => { zoom.beyond = beyond }", beyond)
        self.page.evaluate("(view) => zoom.show(view)", {"left": left, "top": top, "scale": scale})
        return self.read()

    def read(self) -> np.ndarray:
        width, height, data = self.page.evaluate(READ)
        return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4).astype(int)

    def view(self) -> dict[str, float]:
        return self.page.evaluate("() => zoom.view")

    def figures(self) -> dict[str, float]:
        return self.page.evaluate("() => zoom.figures")


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def serve(page: Any) -> None:
    """The module's files alone, under the content policy of the page."""
    kinds = {".js": "text/javascript", ".css": "text/css", "": "text/html"}

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(ORIGIN).lstrip("/")
        if name == "favicon.ico":
            route.fulfill(status=204)
            return
        body = {"": PAGE, "page.css": STYLE}.get(name) or (STATIC / name.removeprefix("static/")).read_text("utf-8")
        headers = {"Content-Security-Policy": CSP, "Content-Type": kinds[Path(name).suffix]}
        route.fulfill(body=body, headers=headers)

    page.route(f"{ORIGIN}/**", answer)
    page.goto(f"{ORIGIN}/")
    page.evaluate(OPEN)


def wanted(mixture: Mixture, view: View, *, beyond: bool = False, ratio: float = 1.0) -> np.ndarray:
    """What the screen must show: drawn by the definition in float64, clipped, rounded, premultiplied."""
    left, top, scale = view
    across, down = round(WIDTH * ratio), round(HEIGHT * ratio)
    region = (left, top, left + across / (scale * ratio), top + down / (scale * ratio))
    exact = mixture.to(dtype=torch.float64)
    values = exact.render(region=region, size=(across, down), backend="reference").clamp(0, 1)
    values = values.permute(1, 2, 0).numpy()
    grey, alpha = mixture.channels < 3, mixture.channels in (2, 4)
    colours = values[..., : 1 if grey else 3].repeat(3 if grey else 1, axis=2)
    opacity = values[..., -1:] if alpha else np.ones_like(values[..., :1])
    shown = np.rint(255 * np.concatenate([np.minimum(colours, opacity), opacity], axis=2))
    if not beyond:
        x = left + (np.arange(across) + 0.5) / (scale * ratio)
        y = top + (np.arange(down) + 0.5) / (scale * ratio)
        inside = ((x >= 0) & (x < mixture.width))[None] & ((y >= 0) & (y < mixture.height))[:, None]
        shown[~inside] = 0
    return shown


def agree(screen: Screen, mixture: Mixture, view: View, *, beyond: bool = False, most: int = 1) -> None:
    found = screen.see(view, beyond=beyond)
    at = screen.view()
    view = (at["left"], at["top"], at["scale"])  # it may have been kept within limits
    expected = wanted(mixture, view, beyond=beyond)
    worst = np.abs(found - expected).max()
    assert worst <= most, f"{worst} levels apart at {view}"  # the promise is 2; a rounding may flip by 1


def resting(screen: Screen) -> None:
    screen.page.evaluate("() => zoom.settled()")


def nasty(seed: int, *, kernels: int = 200, channels: int = 3, order: int = 0) -> Mixture:
    """Thin, long, wide and strewn kernels whose priors lie far apart, and colours beyond [0, 1]."""
    made = torch.Generator().manual_seed(seed)
    uniform = lambda low, high, *shape: torch.rand(*shape, generator=made) * (high - low) + low  # noqa: E731
    thickness = 10 ** uniform(-1.3, 1.7, kernels, 2)  # standard deviations along two axes, px
    angle = uniform(0, math.pi, kernels)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    precision = turn @ torch.diag_embed(thickness**-2.0) @ turn.transpose(1, 2)
    # L L^T with L lower, from u = l_xx dx + l_yx dy
    l_xx = precision[:, 0, 0].sqrt()
    l_yx = precision[:, 0, 1] / l_xx
    l_yy = (precision[:, 1, 1] - l_yx**2).clamp_min(1e-4).sqrt()
    return Mixture(
        centres=torch.stack([uniform(-20, 110, kernels), uniform(-20, 90, kernels)], dim=1),
        factors=torch.stack([l_xx, l_yx, l_yy], dim=1),
        log_priors=uniform(-30, 30, kernels),
        colours=uniform(-0.2, 1.2, kernels, channels),
        slopes=uniform(-0.02, 0.02, kernels, channels, 2) if order else None,
        width=90,
        height=70,
    )


def shot(screen: Screen) -> np.ndarray:  # (H, W, 3)
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(screen.page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})))
    return np.asarray(picture.convert("RGB")).astype(int)
