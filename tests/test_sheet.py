"""Sheets: bars as long as what they say, and pictures that fit their place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from moesaic.picture import Picture
from moesaic.sheet import BLUE, draw_bar, fitted, percent


@pytest.mark.parametrize(("share", "pixels"), [(0.0, 0), (0.3, 31), (1.0, 101), (2.0, 101)])
def test_bars_are_as_long_as_what_they_say(share, pixels):
    sheet = Image.new("RGB", (120, 20), "white")
    draw_bar(ImageDraw.Draw(sheet), (10, 5, 110, 15), share, BLUE)
    assert (np.asarray(sheet)[10] == BLUE).all(1).sum() == pixels


def test_shares_for_people():
    assert [percent(share) for share in (0, 0.001, 0.25, 1)] == ["0%", "<1%", "25%", "100%"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((321, 481), (321, 481)),
        ((40, 60), (320, 480)),
        ((3000, 4000), (417, 556)),
        ((1, 30_000), (1, 556)),
        ((30_000, 1), (640, 1)),
    ],
)
def test_pictures_fit_their_place(size, shown):
    made = fitted(Picture(pixels=np.full((*size, 3), 0.5, np.float32)))
    assert made.mode == "RGB"
    assert (made.height, made.width) == shown


def test_fine_patterns_become_grey_rather_than_false_stripes():
    rows, columns = np.mgrid[:2224, :2224]
    fine = ((rows + columns) // 2 % 2).astype(np.float32)[..., None]
    made = np.asarray(fitted(Picture(pixels=fine)), float)
    assert made[8:-8, 8:-8].std() < 20
    assert made.mean() == pytest.approx(127, abs=5)
