"""The endless zoom under real fingers: touches as a screen reports them, which the browser turns into pointers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.app.zooming import Screen, resting, serve

Finger = tuple[float, float]


class Fingers:
    """One or two fingers on a screen that takes touches."""

    def __init__(self, page: Any) -> None:
        self.page, self._session = page, page.context.new_cdp_session(page)

    def touch(self, kind: str, fingers: Sequence[Finger], *, first: int = 0) -> None:
        """What these fingers do, of which the first has that number; those named in "touchEnd" are lifted, or all."""
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers, first)]
        self._session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def glide(self, start: Sequence[Finger], end: Sequence[Finger], *, steps: int = 12, lift: bool = True) -> None:
        """From here to there, and up again after a rest: so that nothing is thrown."""
        self.touch("touchStart", start)
        for step in range(1, steps + 1):
            part = step / steps
            between = [(a + (c - a) * part, b + (d - b) * part) for (a, b), (c, d) in zip(start, end, strict=True)]
            self.touch("touchMove", between)
        self.page.wait_for_timeout(150)
        if lift:
            self.touch("touchEnd", [])


@pytest.fixture
def touched(new_page: Any) -> Screen:
    """A phone with the zoom on it."""
    page = new_page(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True, reduced_motion="reduce")
    serve(page)
    return Screen(page)


def test_one_finger_moves_the_picture_and_not_the_page(touched, fitted):
    touched.load(fitted)
    touched.page.evaluate("() => { document.body.style.height = '3000px' }")
    touched.see((40.0, 30.0, 8.0))
    Fingers(touched.page).glide([(120, 90)], [(60, 58)])
    resting(touched)
    after = touched.view()
    assert after["scale"] == 8
    # a touch begins to move once it has gone some px, which the browser keeps for itself
    assert after["left"] - 40 == pytest.approx(60 / 8, abs=2.1)
    assert after["top"] - 30 == pytest.approx(32 / 8, abs=2.1)
    assert touched.page.evaluate("() => scrollY") == 0


def test_two_fingers_come_closer_around_their_middle_and_not_the_page(touched, fitted):
    touched.load(fitted)
    touched.see((40.0, 30.0, 8.0))
    page_scale = touched.page.evaluate("() => visualViewport.scale")
    Fingers(touched.page).glide([(90, 70), (110, 70)], [(50, 70), (150, 70)])
    resting(touched)
    after = touched.view()
    assert 24 < after["scale"] <= 42  # five times, but for the first px of each finger
    assert after["left"] + 100 / after["scale"] == pytest.approx(40 + 100 / 8, abs=0.3)
    assert after["top"] + 70 / after["scale"] == pytest.approx(30 + 70 / 8, abs=0.3)
    assert touched.page.evaluate("() => visualViewport.scale") == page_scale
    Fingers(touched.page).glide([(50, 70), (150, 70)], [(90, 70), (110, 70)])
    resting(touched)
    assert 4 < touched.view()["scale"] < after["scale"] / 2.5


def test_a_finger_that_stays_goes_on_without_a_jump(touched, fitted):
    touched.load(fitted)
    touched.see((40.0, 30.0, 8.0))
    fingers = Fingers(touched.page)
    fingers.glide([(60, 70), (140, 70)], [(50, 70), (150, 70)], lift=False)
    before = touched.view()
    fingers.touch("touchEnd", [(150, 70)], first=1)
    assert touched.view() == before
    for x in range(50, 91, 4):
        fingers.touch("touchMove", [(x, 70)])
    touched.page.wait_for_timeout(150)
    fingers.touch("touchEnd", [])
    resting(touched)
    after = touched.view()
    assert after["scale"] == before["scale"]
    assert (before["left"] - after["left"]) * after["scale"] == pytest.approx(40, abs=16)


def test_a_third_finger_and_a_touch_that_is_taken_away_leave_it_usable(touched, fitted):
    touched.load(fitted)
    touched.see((40.0, 30.0, 8.0))
    fingers = Fingers(touched.page)
    fingers.touch("touchStart", [(50, 60), (100, 60), (150, 60)])
    fingers.touch("touchMove", [(55, 65), (105, 65), (155, 65)])
    fingers.touch("touchCancel", [])
    before = touched.view()
    fingers.glide([(120, 90)], [(80, 90)])
    resting(touched)
    after = touched.view()
    assert after["scale"] == before["scale"]
    assert (after["left"] - before["left"]) * 8 == pytest.approx(40, abs=17)


def test_a_tap_moves_nothing(touched, fitted):
    touched.load(fitted)
    touched.see((40.0, 30.0, 8.0))
    touched.page.touchscreen.tap(90, 60)
    resting(touched)
    assert touched.view() == pytest.approx({"left": 40.0, "top": 30.0, "scale": 8.0})
