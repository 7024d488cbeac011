"""The endless zoom in a real browser: every pixel as moesaic renders it, at any place and scale."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import moesaic
from moesaic.app import kernels
from moesaic.app.kernels import kernel_bytes
from moesaic.mixture import reference
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


@pytest.fixture
def screen(new_page: Any) -> Screen:
    page = new_page(viewport={"width": 400, "height": 300}, reduced_motion="reduce")
    serve(page)
    return Screen(page)


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


@pytest.fixture(scope="module")
def fitted() -> Mixture:
    """A photograph as kernels, 128 x 96."""
    from skimage import data

    crop = np.ascontiguousarray((data.astronaut()[40:136, 160:288] / 255).astype(np.float32))
    return moesaic.fit(crop, experts=300, steps=30).detach()


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


def test_a_fitted_picture_is_as_rendered_at_three_scales(screen, fitted):
    screen.load(fitted)
    whole = min(WIDTH / fitted.width, HEIGHT / fitted.height)
    for left, top, scale in [
        ((fitted.width - WIDTH / whole) / 2, (fitted.height - HEIGHT / whole) / 2, whole),  # fit
        (40.0, 30.0, 4.0),
        (63.97, 41.03, 64.0),
        (20.3, 71.1, 64.0),
        (fitted.width - 0.08, fitted.height - 0.07, 1000.0),  # the far corner, half of it outside
        (-25.0, -15.0, 4.0),  # the near one
    ]:
        agree(screen, fitted, (left, top, scale))


def test_no_pixel_falls_between_two_cells(screen, fitted):
    screen.load(fitted)
    rng = np.random.default_rng(0)
    for scale, row in zip(rng.uniform(2.2, 3, 40), rng.integers(40, 90, 40), strict=True):
        # the line between two cells, at 48 px, meets the middle of a row of pixels
        found = screen.see((5.0, 48 - (row + 0.5) / scale, scale))
        assert found[..., 3].min() == 255, (scale, row)


def test_a_slow_machine_shows_no_holes_and_comes_to_an_end(screen):
    rng = np.random.default_rng(3)
    mixture = Mixture(
        centres=torch.from_numpy(rng.uniform(0, 140, (6000, 2)).astype(np.float32)),
        factors=torch.tensor([[0.8, 0.0, 0.8]]).repeat(6000, 1),
        log_priors=torch.zeros(6000),
        colours=torch.from_numpy(rng.uniform(0.2, 0.8, (6000, 3)).astype(np.float32)),
        width=200,
        height=140,
    )
    screen.load(mixture)
    resting(screen)
    screen.page.evaluate("() => { zoom.budget = -1 }")  # every frame is late from its beginning
    for place in ((30, 20), (170, 120), (40, 110)):
        screen.page.evaluate("() => zoom.fit()")
        screen.page.evaluate("([x, y]) => zoom.zoomBy(30, { x, y, glide: false })", place)
        for _ in range(4):
            assert shot(screen).max() < 240  # the page's white would show through a hole
        resting(screen)
    resting(screen)
    view = screen.view()
    found = screen.read()
    assert np.abs(found - wanted(mixture, (view["left"], view["top"], view["scale"]))).max() <= 1


def test_it_goes_on_beyond_its_edges_where_that_is_asked_for(screen, fitted):
    screen.load(fitted)
    for view in [(-300.0, -200.0, 0.5), (128.0, 96.0, 4.0), (5000.0, -3000.0, 2.0), (-1e5, 1e5, 0.01)]:
        agree(screen, fitted, view, beyond=True)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_nasty_kernels_are_as_rendered(screen, channels, order):
    mixture = nasty(10 * channels + order, channels=channels, order=order)
    screen.load(mixture)
    for view in [(-10.0, 0.0, 2.0), (20.2, 30.7, 16.0), (50.0, 40.0, 64.0), (33.3, 21.1, 1000.0)]:
        agree(screen, mixture, view)
    for view in [(-60.0, -45.0, 1.0), (-2000.0, 900.0, 8.0)]:
        agree(screen, mixture, view, beyond=True)


def test_one_kernel_is_one_colour_however_far_away(screen):
    mixture = nasty(3, kernels=1)
    screen.load(mixture)
    for view in [(0.0, 0.0, 2.0), (1e6, -1e6, 1.0), (1e6, 1e6, 1000.0)]:
        agree(screen, mixture, view, beyond=True)


def test_priors_far_apart_and_colours_far_out(screen):
    mixture = nasty(4)
    steep = Mixture(
        centres=mixture.centres,
        factors=mixture.factors,
        log_priors=mixture.log_priors * 30,
        colours=mixture.colours * 100 - 50,
        width=90,
        height=70,
    )
    screen.load(steep)
    for view in [(-10.0, 0.0, 2.0), (20.2, 30.7, 16.0), (50.0, 40.0, 200.0)]:
        agree(screen, steep, view, most=2)  # a level is a 36 000th of the range of colours, close to a float's digits


def test_kernels_that_are_all_far_away_are_told_apart(screen):
    """Their logits are some 400 000 below their priors, and differ by less than one."""
    wide = Mixture(
        centres=torch.tensor([[19000.0, 20000.0], [21000.0, 20700.0]]),
        factors=torch.tensor([[1e-4, 0.0, 1e-4]] * 2),
        log_priors=torch.tensor([62.85, 0.0]),  # as much as the second is nearer to the places below
        colours=torch.tensor([[0.0, 0.2, 1.0], [1.0, 0.8, 0.0]]),
        width=40000,
        height=40000,
    )
    screen.load(wide)
    for view in [(20000.0, 9e6, 0.05), (20000.0, 9e6, 30.0), (20500.0, 8.996e6, 700.0)]:
        agree(screen, wide, view, beyond=True)


LISTS = """async (text) => {
  const { readKernels } = await import("/static/zoom_kernels.js");
  const { Lists } = await import("/static/zoom_lists.js");
  const kernels = readKernels(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const lists = new Lists(kernels);
  const cells = [];
  const visit = (cell, depth) => {
    cells.push({ x0: cell.x0, y0: cell.y0, side: cell.side, bar: cell.bar, top: cell.top, list: [...cell.list] });
    if (depth) for (const child of lists.divide(cell)) visit(child, depth - 1);
  };
  visit(lists.root(lists.side, 0, 0), 4);
  visit(lists.root(lists.side, -1, 2), 2);
  return cells;
}"""


@pytest.mark.parametrize("order", [0, 1])
def test_what_lists_leave_out_weighs_next_to_nothing_anywhere_in_their_cells(screen, order):
    mixture = nasty(9 + order, order=order).to(dtype=torch.float64)
    pull = float(mixture.colours.max() - mixture.colours.min())
    made = torch.Generator().manual_seed(0)
    shortest = len(mixture)
    for cell in screen.page.evaluate(LISTS, text(kernel_bytes(mixture))):
        inside = torch.rand(64, 2, generator=made, dtype=torch.float64)
        points = torch.tensor([cell["x0"], cell["y0"]]) + cell["side"] * torch.cat([inside, inside.round()])
        logits = reference.logits(mixture.centres, mixture.factors, mixture.log_priors, points)
        best = logits.max(dim=1).values
        assert (best >= cell["bar"] - 1e-6).all()
        assert (best <= cell["top"] + 1e-6).all()
        out = torch.ones(len(mixture), dtype=torch.bool)
        out[cell["list"]] = False
        assert torch.softmax(logits, dim=1)[:, out].sum(dim=1).max() * pull <= 1 / 1024 + 1e-5
        shortest = min(shortest, len(cell["list"]))
    assert shortest < len(mixture) / 4


def test_a_screen_of_twice_the_pixels_gets_twice_the_pixels(new_page, fitted):
    page = new_page(device_scale_factor=2, reduced_motion="reduce")
    serve(page)
    screen = Screen(page)
    screen.load(fitted)
    found = screen.see((40.0, 30.0, 8.0))
    assert found.shape == (2 * HEIGHT, 2 * WIDTH, 4)
    assert np.abs(found - wanted(fitted, (40.0, 30.0, 8.0), ratio=2)).max() <= 1


def test_what_is_on_the_screen_is_what_was_drawn(screen, fitted):
    screen.load(fitted)
    resting(screen)
    for view in [None, (40.0, 30.0, 8.0)]:
        if view:
            screen.page.evaluate("(v) => zoom.show(v)", dict(zip(("left", "top", "scale"), view, strict=True)))
            resting(screen)
        seen = shot(screen)
        drawn = screen.read()
        over_white = drawn[..., :3] + 255 - drawn[..., 3:]
        assert np.abs(seen - over_white).max() <= 1


def test_what_lets_light_through_lies_over_a_checkerboard_inside_the_picture(screen):
    plain = nasty(5, kernels=1, channels=4)
    clear = Mixture(
        centres=plain.centres,
        factors=plain.factors,
        log_priors=plain.log_priors,
        colours=torch.tensor([[0.25, 0.0, 0.0, 0.5]]),
        width=90,
        height=70,
    )
    screen.load(clear)
    resting(screen)
    seen = shot(screen)
    left = (WIDTH - HEIGHT * 90 / 70) / 2
    assert (seen[:, : int(left)] == 255).all()  # outside of the picture there is the page
    inside = seen[:, math.ceil(left) : math.floor(WIDTH - left)].reshape(-1, 3)
    shades = np.unique(inside, axis=0)
    assert len(shades) == 2
    assert (shades[:, 0] - shades[:, 1] == 64).all()
    assert abs(np.ptp(shades[:, 1]) - 255 * 0.15 / 2) <= 1


def shot(screen: Screen) -> np.ndarray:  # (H, W, 3)
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(screen.page.screenshot(clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})))
    return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: b"", "too short"),
        (lambda data: data[:-1], "bytes where"),
        (lambda data: data + b"\0", "bytes where"),
        (lambda data: b"JUNK" + data[4:], "does not begin like one"),
        (lambda data: data[:4] + b"\x63" + data[5:], "version 99"),
        (lambda data: data[:8] + b"\0\0\0\0" + data[12:], "header"),
        (lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:], "bytes where"),
        (lambda data: data[:12] + b"\x07" + data[13:], "header"),
        (lambda data: data[:-4] + b"\0\0\xc0\x7f", "no numbers"),
        (lambda data: data[:-4] + b"\xff\xff\x7f\x7f", "no numbers"),
        (lambda data: data[: 32 + 16 * 4] + bytes(12 * 4) + data[32 + 28 * 4 :], "no width"),
    ],
)
def test_damaged_bytes_are_refused_with_a_sentence(screen, damage, sentence):
    message = screen.page.evaluate(REFUSED, text(damage(kernel_bytes(nasty(6, kernels=4)))))
    assert sentence in message
    assert message.endswith(".")


def test_the_wheel_keeps_the_place_under_the_pointer(screen, fitted):
    screen.load(fitted)
    before = screen.view()
    x, y = 60, 50
    place = before["left"] + x / before["scale"], before["top"] + y / before["scale"]
    screen.page.mouse.move(x, y)
    for _ in range(6):
        screen.page.mouse.wheel(0, -200)
    screen.page.wait_for_function("(scale) => zoom.view.scale > 5 * scale", arg=before["scale"])
    resting(screen)
    after = screen.view()
    assert after["left"] + x / after["scale"] == pytest.approx(place[0], abs=1e-6)
    assert after["top"] + y / after["scale"] == pytest.approx(place[1], abs=1e-6)
    agree(screen, fitted, (after["left"], after["top"], after["scale"]))


def test_a_drag_moves_the_picture_with_the_pointer(screen, fitted):
    screen.load(fitted)
    screen.see((40.0, 30.0, 8.0))
    mouse = screen.page.mouse
    mouse.move(100, 70)
    mouse.down()
    mouse.move(60, 54, steps=4)
    mouse.up()
    assert screen.view() == pytest.approx({"left": 45.0, "top": 32.0, "scale": 8.0})


def test_two_fingers_pinch(screen, fitted):
    screen.load(fitted)
    screen.see((40.0, 30.0, 8.0))
    screen.page.evaluate("""() => {
      const canvas = document.querySelector("canvas");
      canvas.setPointerCapture = () => {}; // these fingers are made up
      const send = (type, pointerId, clientX, clientY) =>
        canvas.dispatchEvent(new PointerEvent(type, { pointerId, clientX, clientY, pointerType: "touch" }));
      send("pointerdown", 1, 90, 70); send("pointerdown", 2, 110, 70);
      for (let i = 1; i <= 10; i++) { send("pointermove", 1, 90 - i, 70); send("pointermove", 2, 110 + i, 70); }
      send("pointerup", 1, 80, 70); send("pointerup", 2, 120, 70);
    }""")
    after = screen.view()
    assert after["scale"] == pytest.approx(16)
    assert after["left"] + 100 / after["scale"] == pytest.approx(40 + 100 / 8, abs=0.1)


def test_keys_and_double_clicks(screen, fitted):
    screen.load(fitted)
    whole = screen.view()
    canvas = screen.page.locator("canvas")
    canvas.focus()
    canvas.press("+")
    canvas.press("=")
    assert screen.view()["scale"] == pytest.approx(4 * whole["scale"])
    left = screen.view()["left"]
    canvas.press("ArrowRight")
    assert screen.view()["left"] == pytest.approx(left + 80 / screen.view()["scale"])
    canvas.press("-")
    assert screen.view()["scale"] == pytest.approx(2 * whole["scale"])
    canvas.press("0")
    assert screen.view() == pytest.approx(whole)
    canvas.dblclick(position={"x": 20, "y": 30})
    assert screen.view()["scale"] == pytest.approx(2 * whole["scale"])
    canvas.press("Home")
    assert screen.view() == pytest.approx(whole)


def test_the_picture_cannot_be_lost(screen, fitted):
    screen.load(fitted)
    whole = screen.view()["scale"]
    for view, least, most in [((1e9, -1e9, 1e9), 1024, 1e6), ((0.0, 0.0, 1e-9), whole / 2, whole)]:
        screen.see(view)
        at = screen.view()
        assert least <= at["scale"] <= most
        x, y = at["left"] + WIDTH / 2 / at["scale"], at["top"] + HEIGHT / 2 / at["scale"]
        assert 0 <= x <= fitted.width
        assert 0 <= y <= fitted.height
        assert screen.read()[..., 3].any()


def test_a_glide_ends_where_a_jump_would(new_page, fitted):
    page = new_page(reduced_motion="no-preference")
    serve(page)
    screen = Screen(page)
    screen.load(fitted)
    page.evaluate("() => { zoom.zoomBy(4, { x: 30, y: 40 }); zoom.zoomBy(2, { x: 30, y: 40 }) }")
    resting(screen)
    glided = screen.view()
    page.evaluate("() => { zoom.fit({ glide: false }); zoom.zoomBy(8, { x: 30, y: 40, glide: false }) }")
    assert glided == pytest.approx(screen.view())


def test_nothing_is_drawn_while_nothing_changes(screen, fitted):
    screen.load(fitted)
    resting(screen)
    frames = screen.figures()["frames"]
    screen.page.wait_for_timeout(400)
    assert screen.figures()["frames"] == frames
    assert screen.page.evaluate("() => views.at(-1).frames") == frames


def test_lists_have_bounds_and_a_picture_without_room_for_them_is_still_right(screen):
    mixture = nasty(7, kernels=150)
    screen.load(mixture)
    screen.page.evaluate("() => { zoom.room = 2000 }")
    for view in [(-5.0, 0.0, 2.0), (20.0, 30.0, 16.0), (60.0, 10.0, 16.0), (3.0, 50.0, 64.0), (70.0, 55.0, 300.0)]:
        agree(screen, mixture, view)
        assert screen.figures()["places"] <= 2000


def test_graphics_that_were_lost_come_back(screen, fitted):
    screen.load(fitted)
    resting(screen)
    screen.page.evaluate("""() => new Promise((done) => {
      const canvas = document.querySelector("canvas");
      const lose = canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
      canvas.addEventListener("webglcontextrestored", done, { once: true });
      canvas.addEventListener("webglcontextlost", () => setTimeout(() => lose.restoreContext(), 50), { once: true });
      lose.loseContext();
    })""")
    agree(screen, fitted, (40.0, 30.0, 8.0))


def test_another_size_of_canvas_shows_the_whole_again(screen, fitted):
    screen.load(fitted)
    resting(screen)
    screen.page.evaluate("() => { document.querySelector('canvas').style.width = '100px' }")
    screen.page.wait_for_function("(scale) => Math.abs(zoom.view.scale - scale) < 1e-9", arg=100 / fitted.width)
    assert screen.read().shape == (HEIGHT, 100, 4)


def test_ellipses_lie_over_the_picture_and_not_in_it(screen, fitted):
    screen.load(fitted)
    screen.see((40.0, 30.0, 16.0))
    resting(screen)
    before, drawn = shot(screen), screen.read()
    screen.page.evaluate("() => { zoom.ellipses = true }")
    resting(screen)
    after = shot(screen)
    share = (np.abs(after - before).max(axis=2) > 20).mean()
    assert 0.01 < share < 0.5
    np.testing.assert_array_equal(screen.read(), drawn)


def test_another_mixture_replaces_the_first_and_dispose_ends_it(screen, fitted):
    screen.load(fitted)
    other = nasty(8)
    screen.load(other)
    agree(screen, other, (20.0, 20.0, 4.0))
    screen.page.evaluate("() => { zoom.dispose(); zoom.show({ left: 0, top: 0, scale: 1 }); zoom.draw() }")
    assert screen.page.evaluate("() => zoom.readPixels().data.length") == 0
