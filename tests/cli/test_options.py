"""Values of options that have a form of their own."""

from __future__ import annotations

import pytest
import typer

from moesaic import image
from moesaic.cli import options
from moesaic.errors import ArgumentError


@pytest.mark.parametrize("text", ["1920x1080", "1920X1080", "1920×1080"])
def test_sizes(text):
    assert options.read_size(text) == (1920, 1080)


@pytest.mark.parametrize("text", ["", "1920", "1920x", "0x5", "-2x5", "1.5x2", "2x3x4", "axb", "²x3"])
def test_what_is_no_size(text):
    with pytest.raises(ArgumentError, match="WIDTHxHEIGHT"):
        options.read_size(text)


def test_regions():
    assert options.read_region("-1,0.5,32,24") == (-1, 0.5, 32, 24)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "5,0,5,9", "0,9,5,0", "0,0,inf,9", "nan,0,1,1", "a,b,c,d"])
def test_what_is_no_region(text):
    with pytest.raises(ArgumentError, match="LEFT,TOP,RIGHT,BOTTOM"):
        options.read_region(text)


def test_shares():
    assert [options.read_share(text) for text in ("0", "0.25", "1")] == [0, 0.25, 1]


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "half", ""])
def test_what_is_no_share(text):
    with pytest.raises(typer.BadParameter, match="is no number from 0 to 1"):
        options.read_share(text)


def test_formats():
    assert [options.read_format(text) for text in ("jpg", ".webp")] == ["jpg", "webp"]
    with pytest.raises(ArgumentError, match="no suffix of a picture file"):
        options.read_format("a/b")


def test_nothing_asked_is_nothing_read():
    assert options.read_size(None) is None
    assert options.read_region(None) is None


def test_the_pixel_limit_is_the_library_s():
    assert options.PIXELS == image.PIXEL_LIMIT
