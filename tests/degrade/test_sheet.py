"""A contact sheet holds every kind, whatever the picture's size."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.degrade.sheet import COLUMNS, SIDE, caption, contact_sheet
from moesaic.degrade.use import degrade


@pytest.mark.parametrize("shape", [(300, 400), (40, 30), (1, 1), (500, 1)])
def test_a_sheet_is_made_of_every_size(picture, shape):
    sheet = contact_sheet(picture(max(shape[0], 8), max(shape[1], 8))[: shape[0], : shape[1]], severity=0.5)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] <= COLUMNS * (SIDE + 6) + 6
    assert np.ptp(sheet) > 100  # captions at least


def test_the_first_cell_is_the_picture_and_the_others_are_not(picture):
    pixels = picture(40, 100)
    sheet = contact_sheet(pixels, severity=1)
    cells = [sheet[6:46, 6 + place * 106 : 106 + place * 106] for place in range(COLUMNS)]
    assert np.array_equal(cells[0], pixels)
    assert not any(np.array_equal(cell, pixels) for cell in cells[1:])


def test_a_seed_gives_one_sheet(picture):
    one, same, other = (contact_sheet(picture(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_caption_tells_the_severity_that_makes_the_picture_again(picture):
    assert caption(degrade(picture(), "low_light", severity=0.42)) == "low light 0.42"
    drawn = degrade(picture(), "rain", seed=3)
    assert caption(drawn) == f"rain {drawn.params['severity']:.2f}"
    assert caption(degrade(picture(), "composite", severity=0.3)) == "composite 0.30"
    apart = degrade(picture(), "composite", family="haze+jpeg")
    one, other = (part["params"]["severity"] for part in apart.params["parts"])
    assert caption(apart) == f"composite {one:.2f}, {other:.2f}"
