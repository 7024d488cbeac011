"""The page in a real browser, with the real server and real work behind it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.app.person import LONG, Person


@pytest.mark.parametrize("verb", ["restore", "upscale", "encode", "denoise", "enlarge", "segment"])
def test_each_verb_gives_a_result(person: Person, tiny: bytes, verb: str) -> None:
    page = person.page
    person.makes(verb, ("little girl.png", tiny))
    assert page.inner_text("#result-title").endswith(": done")
    figures = page.inner_text("#figures")
    assert "pixels" in figures
    views = page.locator("#views button").all_inner_texts()
    assert ("Zoom into it" in views) == (verb == "encode")
    assert "Before and after" in views or not views
    if verb == "encode":
        assert "Bits per pixel" in figures
        assert "dB" in figures
    else:
        person.loaded(".layer")
    with page.expect_download() as awaited:
        page.click("#download")
    content = Path(awaited.value.path()).read_bytes()
    assert awaited.value.suggested_filename.startswith("little girl")
    if verb == "encode":
        assert awaited.value.suggested_filename.endswith(".moe")
    else:
        width, height = Image.open(io.BytesIO(content)).size
        grown = {"upscale": 4, "enlarge": 2}.get(verb, 1)
        assert (width, height) == (72 * grown, 54 * grown)
        assert f"{width} × {height}" in figures
    page.check("#keep")
    assert page.get_attribute("#download", "href").endswith("metadata=1")
    if "All the experts" in views:
        person.opens_the_sheet()


def test_drop_paste_and_what_is_no_file(person: Person, tiny: bytes) -> None:
    page = person.page
    person.drop()
    assert "was no file" in page.inner_text("#trouble")
    person.drop(("dropped.png", tiny))
    page.wait_for_selector("#choose:visible")
    assert page.inner_text("#name") == "dropped.png"
    assert page.is_hidden("#trouble")
    person.drop(("pasted.png", tiny), target="paste")
    page.wait_for_function("() => document.querySelector('#name').textContent === 'pasted.png'")
    page.get_by_role("button", name="New picture").click()
    assert page.is_visible("#empty")


def test_the_sample(person: Person) -> None:
    person.page.click("#sample")
    person.page.wait_for_selector("#choose:visible")
    person.loaded(".whole")
    assert person.page.inner_text("#name") == "sample.jpg"


def test_slider_by_mouse_and_keyboard(person: Person, tiny: bytes) -> None:
    page = person.page
    person.makes("denoise", ("noisy.png", tiny))
    person.loaded(".layer")
    handle = page.get_by_role("slider", name="Before and after")
    handle.focus()

    def seen() -> np.ndarray:
        page.wait_for_timeout(250)  # the labels fade
        return np.asarray(person.sees(".slider")).astype(int)

    page.keyboard.press("Home")
    assert handle.get_attribute("aria-valuetext") == "0 % before, 100 % after"
    after = seen()
    page.keyboard.press("End")
    before = seen()
    assert abs(before - after)[60:, 60:-60].mean() > 3
    box = page.locator(".slider").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.7)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.7, steps=4)
    page.mouse.up()
    assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(30, abs=1)
    half = seen()
    line = round(box["width"] * 0.3)
    assert abs(half - before)[60:, 60 : line - 60].max() <= 2
    assert abs(half - after)[60:, line + 60 : -60].max() <= 2
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert int(handle.get_attribute("aria-valuenow")) == pytest.approx(34, abs=1)
    page.get_by_role("button", name="Look closer").click()
    closer = seen()
    assert abs(closer - half).mean() > 3
    page.get_by_role("button", name="See the whole").click()


def test_going_on_and_going_back(person: Person, tiny: bytes) -> None:
    page = person.page
    sent: list[bytes] = []
    page.on("request", lambda asked: sent.append(asked.post_data_buffer or b"") if asked.method == "POST" else None)
    person.makes("segment", ("a.png", tiny))
    page.get_by_role("button", name="Go on with this picture").click()
    person.choose("encode")
    person.start()
    person.done()
    page.get_by_role("button", name="Another go with the original").click()
    person.choose("restore")
    person.start()
    person.done()
    assert [b'name="from"' in body for body in sent] == [False, True, True]  # the server has the picture already
    assert page.locator(".card").count() == 3


def test_back_leads_to_the_empty_page_and_forward_to_the_result(person: Person, tiny: bytes) -> None:
    page = person.page
    person.pick(("a.png", tiny))
    page.wait_for_selector("#choose:visible")
    page.go_back()
    page.wait_for_selector("#empty:visible")
    assert page.is_hidden("#panel")
    page.go_forward()  # nothing had come of it
    page.wait_for_function("history.state.shown === false")
    assert page.is_visible("#empty")
    assert page.is_hidden("#panel")
    person.makes("segment", ("b.png", tiny))
    page.go_back()
    page.wait_for_selector("#empty:visible")
    page.go_forward()
    person.done()
    page.reload()
    person.done()
    page.get_by_role("button", name="New picture").click()
    page.wait_for_selector("#empty:visible")
    page.reload()
    page.wait_for_selector("#empty:visible")
    page.locator(".card").first.get_by_role("button").first.click()
    person.done()


def test_a_mixture_becomes_a_picture_of_any_size(person: Person, tiny: bytes) -> None:
    page = person.page
    person.makes("encode", ("a.png", tiny))
    page.get_by_role("button", name="Save it as a picture").click()
    page.get_by_label("Size of the saved picture").fill("2")
    person.start()
    person.done()
    assert page.get_attribute("#download", "download") == "a.x2.png"
    assert page.inner_text("#go-on") == "Go on with this picture"


def settle(page: Any) -> None:
    """Wait until the zoom rests and is drawn sharp."""
    page.wait_for_timeout(300)
    page.wait_for_selector('.closeup canvas[aria-busy="false"]', timeout=LONG)


def test_zoom_opens_and_draws(person: Person, tiny: bytes, server: str, new_page: Any, forgiven: list[str]) -> None:
    page = person.page
    person.makes("encode", ("a.png", tiny))
    page.wait_for_selector(".closeup .note", state="hidden")
    settle(page)
    whole = np.asarray(person.sees(".closeup canvas")).astype(int)
    assert whole.std() > 20
    assert page.inner_text(".scale").endswith("×")
    scale = page.inner_text(".scale")
    for _ in range(2):
        page.get_by_role("button", name="Come closer").click()
        settle(page)
    assert page.inner_text(".scale") != scale
    close = np.asarray(person.sees(".closeup canvas")).astype(int)
    assert abs(close - whole).mean() > 5
    page.get_by_role("button", name="Show the pieces").click()
    settle(page)
    assert abs(np.asarray(person.sees(".closeup canvas")).astype(int) - close).mean() > 0.5
    page.get_by_role("button", name="Show the pieces").click()
    page.get_by_role("button", name="Show the whole").click()
    settle(page)
    assert page.inner_text(".scale") == scale
    with page.expect_download() as awaited:
        page.click("#download")
    mixture = Path(awaited.value.path()).read_bytes()

    # somebody else gets the file, in a browser without WebGL2: the server draws the same picture
    other = new_page()
    other.add_init_script(
        "const old = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        " return kind === 'webgl2' ? null : old.call(this, kind, ...rest); };"
    )
    friend = Person(other, server)
    with other.expect_response(lambda answer: "/tile?" in answer.url and answer.ok, timeout=LONG):
        friend.drop(("sent.moe", mixture))
    other.wait_for_timeout(400)
    drawn = np.asarray(friend.sees(".closeup canvas")).astype(int)
    assert drawn.shape == whole.shape
    assert abs(drawn - whole).mean() < 3
    with other.expect_response(lambda answer: "/tile?" in answer.url and answer.ok):
        other.get_by_role("button", name="Come closer").click()
    assert not other.is_visible(".closeup .note")


def test_cancel_and_reload_in_the_middle(person: Person, large: bytes) -> None:
    page = person.page
    person.pick(("large.png", large))
    person.choose("encode")
    page.click("#more summary")
    page.get_by_text("Best").click()
    person.start()
    page.wait_for_function("() => /left|done/.test(document.querySelector('#left').textContent)", timeout=LONG)
    page.reload()
    page.wait_for_selector("#working:visible")
    assert page.inner_text("#working-title") == "Make it endless"
    person.loaded(".whole")  # the small copy that this browser kept
    page.wait_for_function("() => /left|done/.test(document.querySelector('#left').textContent)", timeout=LONG)
    page.click("#cancel")
    page.wait_for_selector("#choose:visible")
    assert page.inner_text("#told") == "Cancelled."
    assert page.locator(".card").count() == 0
    person.choose("segment")  # the worker is free again, and the picture still there
    person.start()
    person.done()


def test_several_files_at_once(person: Person, tiny: bytes) -> None:
    page = person.page
    person.drop(("one.png", tiny), ("two.png", tiny), ("three.png", tiny))
    page.wait_for_selector("#choose:visible")
    assert "3 pictures" in page.inner_text("#question")
    person.choose("segment")
    assert page.inner_text("#start").endswith("all 3 pictures")
    person.start()
    person.done()
    page.wait_for_function("() => document.querySelectorAll('.card:not(.active)').length === 3", timeout=LONG)
    assert page.locator(".card .label").all_inner_texts() == ["three", "two", "one"]
    page.get_by_role("button", name="three", exact=False).first.click()
    page.wait_for_function("() => document.querySelector('#name').textContent.startsWith('three')")
    page.get_by_role("button", name="Remove two").click()
    page.wait_for_function("() => document.querySelectorAll('.card').length === 2")


def test_two_people_at_once(person: Person, new_page: Any, server: str, tiny: bytes) -> None:
    other = Person(new_page(), server)
    for one, name in ((person, "mine.png"), (other, "yours.png")):
        one.pick((name, tiny))
        one.choose("segment")
        one.start()
    for one, name in ((person, "mine"), (other, "yours")):
        one.done()
        assert one.page.locator(".card .label").all_inner_texts() == [name]
        assert one.page.inner_text("#name").startswith(name)
