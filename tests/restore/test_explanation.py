"""The picture that explains a restoration: what is on it, by its pixels and by its texts."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic import sheet
from moesaic.picture import Picture
from moesaic.restore import explanation as drawing
from moesaic.restore.explanation import WIDTH, Choice, explanation, found_in_words, spoken

PROBABILITIES, COSTS = (0.0, 0.25, 0.75), (0.0, 0.1, 0.2)


def choice(layer: str = "experts.0", chosen: int = 2, **options) -> Choice:
    held = {"probabilities": PROBABILITIES, "costs": COSTS}
    return Choice(layer=layer, title=f"Layer {layer}", chosen=chosen, **(held | options))


def plain(value: float, height: int = 40, width: int = 60, channels: int = 3) -> Picture:
    return Picture(pixels=np.full((height, width, channels), value, np.float32))


def explained(before: Picture | None = None, after: Picture | None = None, choices=None, **told) -> Picture:
    held = {"detected": {"noise": 0.97, "jpeg": 0.12}, "severity": {"noise": 0.4, "jpeg": 0.3}, "cost": 0.7}
    return explanation(
        before or plain(0.2), after or plain(0.7), [choice()] if choices is None else choices, **(held | told)
    )


def longest(picture: Picture, colour: tuple[int, int, int]) -> int:
    """The longest unbroken run of a colour in any row, px."""
    hit = (np.rint(picture.pixels * 255) == colour).all(2)
    best = run = np.zeros(len(hit), int)
    for column in hit.T:
        run = (run + 1) * column
        best = np.maximum(best, run)
    return int(best.max())


@pytest.fixture
def texts(monkeypatch):
    """All that is written."""
    seen, write = [], sheet.write
    for module in (drawing, sheet):
        monkeypatch.setattr(
            module, "write", lambda draw, place, text, *rest: seen.append(text) or write(draw, place, text, *rest)
        )
    return seen


def test_what_is_written(texts):
    explained(model="moce_lite_restore", choices=[choice(), choice("experts.1", 0)])
    for text in (
        *("Before", "After", "moce_lite_restore", "Compute: 70% of the dearest decoder"),
        *("noise", "97%", "JPEG", "12%"),
        *("Layer experts.0: expert 2 of 0 to 2", "Layer experts.1: expert 0 of 0 to 2", "25%", "75%", "10%", "20%"),
    ):
        assert text in texts


def test_small_shares_are_told_apart_from_none(texts):
    explained(detected={"noise": 0.001, "rain": 0.0}, severity={})
    assert {"<1%", "0%"} <= set(texts)


def test_a_network_that_names_no_degradations_and_no_costs(texts):
    with_costs = explained()
    without = explained(detected={}, severity={}, choices=[choice(costs=())])
    assert "This network names no degradations." in texts
    assert texts.count("compute, of the dearest decoder") == 1
    assert without.height < with_costs.height
    assert longest(without, drawing.ORANGE) == longest(with_costs, drawing.ORANGE) + longest(with_costs, drawing.GREY)


def test_half_the_compute_is_half_the_bar():
    whole = longest(explained(cost=1.0, choices=[choice(costs=())]), drawing.ORANGE)
    half = longest(explained(cost=0.5, choices=[choice(costs=())]), drawing.ORANGE)
    assert half == pytest.approx(whole / 2, abs=2)


def test_compute_that_no_expert_spent_is_grey():
    idle = explained(choices=[choice(chosen=0)], detected={})
    assert longest(idle, drawing.GREY) == longest(explained(choices=[], detected={}), drawing.ORANGE)


def test_only_what_was_found_is_blue_and_has_a_severity():
    nothing = explained(detected={"noise": 0.5}, choices=[])
    assert longest(nothing, drawing.BLUE) < 20  # the key
    found = explained(detected={"noise": 0.51}, severity={"noise": 1.0}, choices=[])
    assert longest(found, drawing.BLUE) > 100
    assert longest(found, drawing.BLUE) == pytest.approx(
        0.51 * longest(explained(detected={"noise": 1.0}), drawing.BLUE), abs=2
    )


def test_the_chosen_expert_is_lifted_out():
    def middles(chosen: int) -> list[bool]:
        pixels = np.rint(explained(choices=[choice(chosen=chosen)]).pixels * 255)
        pale = (pixels == drawing.PALE).all(2).any(0)
        start = drawing.MARGIN + drawing._LEFT + 2 * drawing.GAP
        wide = (WIDTH - drawing.MARGIN - start) // 3
        return [bool(pale[start + wide * i + wide // 2]) for i in range(3)]

    assert middles(0) == [True, False, False]
    assert middles(2) == [False, False, True]


def test_before_is_left_and_after_right():
    pixels = explained(plain(0.2), plain(0.7)).pixels
    top = drawing.MARGIN + drawing.HEAD + drawing.GAP
    assert pixels[top, drawing.MARGIN + 20] == pytest.approx(0.2, abs=1 / 255)
    assert pixels[top, WIDTH // 2 + 40] == pytest.approx(0.7, abs=1 / 255)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_picture(channels):
    picture = plain(0.5, channels=channels)
    if channels in (2, 4):
        picture.pixels[..., -1] = 0  # seen on white
    drawn = explained(picture, picture)
    assert (drawn.channels, drawn.depth, drawn.width) == (3, 8, WIDTH)
    top = drawing.MARGIN + drawing.HEAD + drawing.GAP
    assert drawn.pixels[top, drawing.MARGIN + 20] == pytest.approx(0.5 if channels in (1, 3) else 1, abs=1 / 255)


def test_the_profile_of_colours_stays():
    coloured = Picture(pixels=plain(0.5).pixels, icc=b"profile", exif=b"Exif\0\0note")
    grey = Picture(pixels=plain(0.5, channels=1).pixels, icc=b"profile")
    assert explained(coloured).icc == b"profile"
    assert explained(coloured).exif is None
    assert explained(grey).icc is None


def test_names_for_people():
    assert [spoken(label) for label in ("noise", "jpeg", "low_light", "lens_flare")] == [
        *("noise", "JPEG", "low light", "lens flare")
    ]


def test_what_was_found_in_words():
    assert found_in_words({"jpeg": 0.61, "noise": 0.5, "low_light": 0.97}) == "low light 97%, JPEG 61%"
    assert found_in_words({"noise": 0.5, "jpeg": 0.1}) == "no damage found"
    assert found_in_words({}) == ""
