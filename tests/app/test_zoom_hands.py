"""The endless zoom under people's hands: wheel, drag, pinch and keys, and what it outlives."""

from __future__ import annotations

import numpy as np
import pytest

from tests.app.zooming import HEIGHT, WIDTH, Screen, agree, nasty, resting, serve, shot


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
