"""The map over the picture in a real browser: its switch, strength, key and words, and that it lies in its place."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.app.person import LONG, Person, png
from tests.app.test_page import settle
from tests.app.test_page_access import CONTRASTS, narrow, unnamed

MAGENTA = (255, 0, 255)


def made(person: Person, picture: bytes, verb: str) -> Any:
    """The button of the map, once the result is there."""
    person.makes(verb, ("a.png", picture))
    return person.page.locator(".tools button[aria-keyshortcuts]")


def drawn(page: Any) -> None:
    """Wait until the map is there."""
    page.wait_for_function(
        "() => document.querySelector('.map').naturalWidth && document.querySelector('.colours > *')", timeout=LONG
    )
    page.wait_for_timeout(200)


def test_a_map_is_switched_on_and_told_in_words(person: Person, tiny: bytes) -> None:
    page = person.page
    button = made(person, tiny, "restore")
    assert (button.inner_text(), button.get_attribute("aria-pressed")) == ("Who did what here", "false")
    assert page.is_hidden(".map")
    assert page.is_hidden(".legend")
    person.loaded(".layer")
    before = np.asarray(person.sees(".slider")).astype(int)
    button.click()
    drawn(page)
    assert button.get_attribute("aria-pressed") == "true"
    told = page.get_by_role("status").filter(has_text="The brighter a place")
    assert told.is_visible()
    assert page.get_by_role("img", name="A scale from 0 to").is_visible()
    assert "expert" in page.inner_text(".legend .notes")
    under = np.asarray(person.sees(".slider")).astype(int)
    assert np.abs(under - before).mean() > 3

    strength = page.get_by_role("slider", name="Strength")
    weak = []
    for value in ("10", "100"):
        strength.fill(value)
        assert strength.get_attribute("aria-valuetext") == f"{value} %"
        opacity = page.evaluate("() => getComputedStyle(document.querySelector('.map')).opacity")
        assert float(opacity) == pytest.approx(int(value) / 100)
        weak.append(np.asarray(person.sees(".slider")).astype(int))
    assert np.ptp(weak[1], axis=2).mean() > 2 * np.ptp(weak[0], axis=2).mean()  # the picture is grey under it
    strength.press("ArrowLeft")
    assert strength.input_value() == "95"

    assert not list(unnamed(page))
    assert not narrow(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert not page.evaluate(CONTRASTS)
    button.click()
    assert page.is_hidden(".legend")
    after = np.asarray(person.sees(".slider")).astype(int)
    assert np.abs(after - before).mean() < 1


def test_its_key_works_at_the_picture_and_nowhere_else(person: Person, tiny: bytes) -> None:
    page = person.page
    button = made(person, tiny, "segment")
    page.get_by_role("slider", name="Before and after").focus()
    page.keyboard.press("w")
    drawn(page)
    assert button.get_attribute("aria-pressed") == "true"
    assert "experts work" in page.inner_text(".legend [role=status]")
    assert page.locator(".keys .swatch").count() > 0
    page.keyboard.press("Alt+w")
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("W")
    assert button.get_attribute("aria-pressed") == "false"
    page.focus("#download")
    page.keyboard.press("w")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    page.get_by_role("button", name="All the experts").click()  # the whole sheet is still there
    page.wait_for_selector(".sheet", timeout=LONG)
    page.get_by_role("button", name="Before and after").click()
    drawn(page)  # and the map is as it was
    assert button.get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("verb", ["denoise"])
def test_where_there_is_no_map_there_is_no_button(person: Person, tiny: bytes, verb: str) -> None:
    assert made(person, tiny, verb).count() == 0


def test_a_map_that_could_not_be_drawn_is_told_and_tried_again(
    person: Person, tiny: bytes, forgiven: list[str]
) -> None:
    forgiven.append("status of 404")
    page = person.page
    page.route("**/view/overlay", lambda route: route.fulfill(status=404, json={"error": "There is no such result."}))
    button = made(person, tiny, "segment")
    button.click()
    page.wait_for_selector("text=The map of this picture could not be drawn.")
    assert button.get_attribute("aria-pressed") == "true"
    page.unroute("**/view/overlay")
    button.click()
    button.click()
    drawn(page)
    assert page.get_by_text("The map of this picture could not be drawn.").count() == 0


class Pane:
    """The picture on the page, under a map that is magenta all over."""

    def __init__(self, person: Person, picture: bytes, verb: str, size: tuple[int, int]) -> None:
        self.page = person.page
        body = png(Image.new("RGB", size, MAGENTA))
        self.page.route("**/view/overlay", lambda route: route.fulfill(body=body, content_type="image/png"))
        made(person, picture, verb).click()
        drawn(self.page)
        self.page.get_by_role("slider", name="Strength").fill("100")

    def covers(self, left: float, top: float, right: float, bottom: float) -> None:
        """Magenta lies within these bounds, CSS px of the window, all over them and nowhere else."""
        self.page.wait_for_timeout(300)
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        is_map = (np.abs(np.asarray(shot).astype(int) - MAGENTA) <= 24).all(axis=2)
        rows, columns = (np.flatnonzero(is_map.any(axis=axis)) for axis in (1, 0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        wanted = (max(left, 0), max(top, 0), min(right, shot.width), min(bottom, shot.height))
        assert found == pytest.approx(wanted, abs=1.01), (found, wanted)
        middle = is_map[rows[0] + 40 : rows[-1] - 40 : 7, columns[0] + 40 : columns[-1] - 40 : 7]
        assert middle.mean() > 0.85  # but for the line, its handle and the names

    def box(self, selector: str) -> tuple[float, float, float, float]:
        self.page.evaluate("() => window.scrollTo(0, 0)")
        box = self.page.locator(selector).bounding_box()
        return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def test_it_covers_both_pictures_and_no_more(person: Person, tiny: bytes) -> None:
    pane = Pane(person, tiny, "segment", (37, 28))  # not the picture's size: it is stretched over it
    page = pane.page
    pane.covers(*pane.box(".slider"))
    for size in ((700, 900), (390, 844), (1500, 900)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        pane.covers(*pane.box(".slider"))
    page.get_by_role("button", name="Look closer").click()
    assert pane.box(".map") == pytest.approx(pane.box("img.layer >> nth=0"), abs=0.01)
    pane.covers(*pane.box(".slider"))
    left, top, _, _ = pane.box(".slider")
    page.mouse.move(left + 90, top + 90)
    page.mouse.down()
    page.mouse.move(left + 30, top + 60, steps=3)
    page.mouse.up()
    assert pane.box(".map") == pytest.approx(pane.box("img.layer >> nth=0"), abs=0.01)


def test_it_covers_the_endless_picture_however_close(person: Person, tiny: bytes) -> None:
    pane = Pane(person, tiny, "encode", (72, 54))
    page = pane.page

    def whole(closer: float = 1.0) -> tuple[float, float, float, float]:
        """Where the picture is: as large as fits, in the middle; then closer by the middle, cut off at the canvas."""
        left, top, right, bottom = pane.box(".closeup canvas")
        scale = closer * min((right - left) / 72, (bottom - top) / 54)
        x, y = (left + right) / 2, (top + bottom) / 2
        wide, high = 72 * scale / 2, 54 * scale / 2
        return max(x - wide, left), max(y - high, top), min(x + wide, right), min(y + high, bottom)

    page.emulate_media(reduced_motion="reduce")
    settle(page)
    pane.covers(*whole())
    page.set_viewport_size({"width": 700, "height": 900})
    settle(page)
    pane.covers(*whole())
    page.get_by_role("button", name="Go back").click()
    settle(page)
    pane.covers(*whole(0.5))
    for _ in range(2):
        page.get_by_role("button", name="Come closer").click()
    settle(page)
    pane.covers(*whole(2))
    for _ in range(9):
        page.get_by_role("button", name="Come closer").click()
    settle(page)
    pane.covers(*whole(1024))
    page.locator(".closeup canvas").press("w")
    assert page.is_hidden(".map")
