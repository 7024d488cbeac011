"""Everyone can use the page: names, keys, contrast, sizes of screens and of fingers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.app.person import Person

STOPS = """() => {
  const all = [...document.querySelectorAll("a[href], button, input, select, summary, canvas, [tabindex]")];
  const seen = all.filter((one) => one.tabIndex >= 0 && !one.disabled && one.checkVisibility());
  const chosen = seen.filter((one) => one.type !== "radio" || one.checked);
  chosen.forEach((one, at) => { one.dataset.stop = at; });
  return chosen.length;
}"""
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1 && colour !== "transparent") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".slider, .unseen, .skip")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort();
    if ((b + 0.05) / (a + 0.05) < 4.5) poor.push(`${element.textContent}: ${((b + 0.05) / (a + 0.05)).toFixed(2)}`);
  }
  return poor;
}"""
NAMED = {"button", "checkbox", "combobox", "link", "radio", "slider", "spinbutton", "textbox", "progressbar", "image"}


def unnamed(page: Any) -> Iterable[str]:
    """Roles of controls that a screen reader has no name for."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    for node in nodes:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in NAMED and not node.get("name", {}).get("value", "").strip():
            yield f"{role} {node.get('properties')}"


def reached(page: Any) -> set[str]:
    """Go through the page by Tab from its first stop; the stops that had the focus."""
    page.focus(".skip")
    found: set[str] = set()
    while (stop := page.evaluate("() => document.activeElement?.dataset.stop ?? null")) not in (None, *found):
        found.add(stop)
        page.keyboard.press("Tab")
    return found


def narrow(page: Any) -> list[int]:
    """Widths at which the page scrolls sideways."""
    bad = []
    for width in (320, 768, 1280, 3840):
        page.set_viewport_size({"width": width, "height": 700})
        if page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            bad.append(width)
    page.evaluate("() => { document.documentElement.style.fontSize = '200%' }")
    page.set_viewport_size({"width": 640, "height": 700})
    if page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        bad.append(200)
    page.evaluate("() => { document.documentElement.style.fontSize = '' }")
    page.set_viewport_size({"width": 1200, "height": 800})
    return bad


def test_everyone_can_use_it(person: Person, tiny: bytes) -> None:
    page = person.page

    def sound() -> None:
        assert not list(unnamed(page))
        assert not narrow(page)
        stops = page.evaluate(STOPS)
        assert len(reached(page)) == stops
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert not page.evaluate(CONTRASTS)

    sound()
    person.pick(("a.png", tiny))
    page.wait_for_selector("#choose:visible")
    for verb in ("upscale", "encode"):
        person.choose(verb)
        page.click("#more summary")
        sound()
    person.start()
    person.done()
    page.click("#meaning summary")
    sound()  # with the zoom
    page.get_by_role("button", name="Before and after").click()
    person.loaded(".layer")
    sound()


def test_dark_and_light(person: Person) -> None:
    page = person.page

    def is_dark() -> bool:
        return bool(
            page.evaluate("() => Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) < 128")
        )

    page.emulate_media(color_scheme="dark")
    assert is_dark()
    page.emulate_media(color_scheme="light")
    assert not is_dark()
    page.get_by_role("button", name="Use dark colours").click()
    assert is_dark()
    page.reload()
    assert is_dark()
    page.get_by_role("button", name="Use light colours").click()
    assert not is_dark()


def test_touch_targets_are_large(new_page: Any, server: str, tiny: bytes) -> None:
    page = new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    person = Person(page, server)
    person.pick(("a.png", tiny))
    page.wait_for_selector("#choose:visible")
    small = page.evaluate(
        "() => [...document.querySelectorAll('button, .verb, .pill, .check, summary, .button')]"
        ".filter((one) => one.checkVisibility() && (one.getBoundingClientRect().height < 44"
        " || one.getBoundingClientRect().width < 44)).map((one) => one.textContent)"
    )
    assert not small


def test_a_sheet_can_be_read_on_a_phone(person: Person, tiny: bytes) -> None:
    """It keeps a size at which its words can be read, and is scrolled within its frame; the page itself is not."""
    page = person.page
    person.makes("segment", ("a.png", tiny))
    person.opens_the_sheet()
    for width, scrolls in ((390, True), (1500, False)):
        page.set_viewport_size({"width": width, "height": 844})
        wide, room = page.eval_on_selector(".sheets", "(one) => [one.scrollWidth, one.clientWidth]")
        assert (wide > room) == scrolls
        assert wide >= 700
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_places_of_the_page_do_not_put_the_picture_away(person: Person, tiny: bytes) -> None:
    page = person.page
    person.makes("segment", ("a.png", tiny))
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.is_visible("#result")
    page.go_back()
    page.wait_for_selector("#empty:visible")
    page.go_forward()
    person.done()
    page.evaluate("location.hash = 'panel'")  # as an extension does, or a hand at the address
    page.wait_for_timeout(300)
    assert page.is_visible("#result")
    page.get_by_role("button", name="New picture").click()
    page.wait_for_selector("#empty:visible")
