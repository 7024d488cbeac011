"""Neighbours differ, and amounts have the colours of their scale."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.explain.colours import AMOUNT, borders, grey, ramp, told_apart
from moesaic.explain.owners import owners
from moesaic.segment.routing_picture import COLOURS


@pytest.mark.parametrize("n", [1, 2, 40, 400])
def test_neighbours_differ(make_mixture, n):
    own = owners(make_mixture(n, width=90, height=70))
    colours = told_apart(own)
    assert {tuple(one) for one in colours.reshape(-1, 3).tolist()} <= set(COLOURS)
    for axis in (0, 1):
        apart = np.diff(own, axis=axis) != 0
        alike = (np.diff(colours.astype(int), axis=axis) == 0).all(-1)
        assert (alike[~apart]).all()  # one owner has one colour
        assert not (alike & apart).any()


def test_more_neighbours_than_colours_share_one():
    own = np.arange(12, dtype=np.int32).reshape(1, 12).repeat(12, 0)
    own[::2] = own[::2, ::-1]  # everyone is beside many others
    assert told_apart(own).shape == (12, 12, 3)


def test_borders():
    own = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 1]], np.int32)
    assert borders(own).tolist() == [[False, True, False], [True, True, False], [False, True, False]]


def test_amounts():
    made = ramp(np.array([-1.0, 0.0, 0.125, 1.0, 2.0]), AMOUNT)
    assert made.dtype == np.uint8
    assert made[0].tolist() == made[1].tolist() == AMOUNT[0].tolist()
    assert made[3].tolist() == made[4].tolist() == AMOUNT[-1].tolist()
    assert (made[2] == np.rint(AMOUNT[:2].mean(0))).all()
    light = grey(ramp(np.linspace(0, 1, 50), AMOUNT)[None])[0]
    assert (np.diff(light) > 0).all()  # read in grey, more is lighter


def test_grey_of_white():
    assert grey(np.full((1, 1, 3), 255, np.uint8)) == pytest.approx(1)
