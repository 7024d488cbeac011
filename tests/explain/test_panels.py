"""Sheets: panels in their places, whatever their titles and sizes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from moesaic.explain.colours import AMOUNT
from moesaic.explain.panels import Panel, Scale, fitting, placed, room, sheet
from moesaic.sheet import BLUE, INK, MARGIN, WIDTH

RED = (255, 0, 0)


def panel(size=(100, 50), **options):
    return Panel(image=Image.new("RGB", size, RED), **options)


def reds(image):
    return (np.asarray(image) == RED).all(-1)


def test_panels_side_by_side_begin_at_one_height():
    image = sheet("title", ["told"], [[panel(title="one"), panel(title="two", told="word " * 60)]])
    assert image.width == WIDTH
    columns = np.flatnonzero(reds(image).any(0))
    assert columns[0] == MARGIN
    assert len(columns) == 200
    assert reds(image).any(1).sum() == 50  # rows


def test_rows_follow_each_other_and_keep_their_columns():
    three = sheet("", [], [[panel()] * 3, [panel()]], columns=3)
    assert reds(three).sum() == 4 * 5000
    assert sheet("", [], [[panel()], []]).height < three.height


@pytest.mark.parametrize("name", ["x" * 400, "many words " * 40, "a\nb"])
def test_long_titles_stay_on_the_sheet(name):
    image = np.asarray(sheet(name, [name], [[panel(title="t", told=name)]]))
    assert (image[:, WIDTH - MARGIN // 2 :] == 255).all()


def test_keys_and_scales():
    scale = Scale(anchors=AMOUNT, ticks=((0.0, "none"), (0.5, "some"), (1.0, "much")), unit="levels")
    image = np.asarray(sheet("", [], [[panel(scale=scale), panel(key=((BLUE, "blue"), (INK, "ink")))]]))
    for colour in (tuple(AMOUNT[0]), tuple(AMOUNT[-1]), BLUE):
        assert (image == colour).all(-1).any()


def test_sizes():
    assert fitting(100, 50, (300, 300)) == (300, 150)
    assert fitting(1, 30_000, (300, 300)) == (1, 300)
    assert room(2, 9)[1] == 9
    assert room(6, 9)[0] < room(2, 9)[0] // 2
    pixels = np.array([[[0, 0, 0], [200, 200, 200]]], np.uint8)
    assert np.asarray(placed(pixels, (1, 1))).tolist() == [[[100] * 3]]
    assert np.unique(np.asarray(placed(pixels, (8, 4)))).tolist() == [0, 200]
