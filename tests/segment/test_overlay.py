"""Overlays, legends and the palette."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.errors import ArgumentError, ShapeError
from moesaic.picture import Picture
from moesaic.segment.overlay import overlay, palette

COLOURS = ((255, 0, 0), (0, 0, 255))


def _picture(channels, size=(6, 8), value=0.5, **kwargs):
    return Picture(pixels=np.full((*size, channels), value, np.float32), **kwargs)


@pytest.fixture
def labels():
    ids = np.zeros((6, 8), np.uint8)
    ids[:, 4:] = 1
    return ids


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_by_hand(labels, channels):
    shown = overlay(_picture(channels), labels, COLOURS, opacity=0.25).pixels
    assert shown.shape == (6, 8, 3 if channels in (1, 3) else 4)
    np.testing.assert_allclose(shown[0, 0, :3], [0.5 * 0.75 + 0.25, 0.375, 0.375], atol=1e-6)
    np.testing.assert_allclose(shown[0, 7, :3], [0.375, 0.375, 0.5 * 0.75 + 0.25], atol=1e-6)
    if channels in (2, 4):
        np.testing.assert_array_equal(shown[..., 3], 0.5)  # transparency stays


def test_opacity_reaches_from_nothing_to_all(labels):
    picture = _picture(3)
    np.testing.assert_array_equal(overlay(picture, labels, COLOURS, opacity=0).pixels, picture.pixels)
    np.testing.assert_allclose(overlay(picture, labels, COLOURS, opacity=1).pixels[0, 0], [1, 0, 0])


def test_metadata_stays_and_a_grey_profile_goes(labels):
    shown = overlay(_picture(3, icc=b"rgb", exif=b"Exif\0\0", depth=16), labels, COLOURS)
    assert (shown.icc, shown.exif, shown.depth) == (b"rgb", b"Exif\0\0", 8)
    assert overlay(_picture(1, icc=b"grey"), labels, COLOURS).icc is None


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [(1, 1), (6, 8), (90, 400)])
def test_the_legend_stands_below_and_names_only_what_is_there(channels, size):
    picture, labels = _picture(channels, size), np.zeros(size, np.uint8)
    plain = overlay(picture, labels, COLOURS)
    told = overlay(picture, labels, COLOURS, names=("sky", "ground"))
    assert told.height > plain.height
    assert told.width >= plain.width
    np.testing.assert_array_equal(told.pixels[: size[0], : size[1]], plain.pixels)
    below = told.pixels[size[0] :, :, :3].reshape(-1, 3)
    assert (below == [1, 0, 0]).all(axis=1).any()
    assert not (below == [0, 0, 1]).all(axis=1).any()
    assert (below == 0).all(axis=1).any()  # there is text


def test_a_legend_breaks_into_rows_where_the_picture_is_narrow():
    names = [f"class number {c}" for c in range(6)]
    labels = np.arange(6, dtype=np.uint8).reshape(1, 6).repeat(100, axis=0)

    def legend(width):
        wide = labels.repeat(width // 6, axis=1)
        return overlay(_picture(3, wide.shape), wide, palette(6), names=names)

    narrow, wide = legend(150), legend(1200)
    assert wide.width == 1200
    assert narrow.height > wide.height


def test_refuses_what_does_not_fit(labels):
    with pytest.raises(ShapeError, match="agree"):
        overlay(_picture(3, (5, 8)), labels, COLOURS)
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="opacity"):
            overlay(_picture(3), labels, COLOURS, opacity=opacity)
    with pytest.raises(ArgumentError, match="class 1"):
        overlay(_picture(3), labels, COLOURS[:1])
    with pytest.raises(ArgumentError, match="names"):
        overlay(_picture(3), labels, COLOURS, names=("sky",))


@pytest.mark.parametrize("classes", [1, 11, 40])
def test_the_palette_tells_its_classes_apart(classes):
    colours = np.array(palette(classes), int)
    assert colours.shape == (classes, 3)
    assert colours.min() >= 0
    assert colours.max() <= 255
    apart = np.abs(colours[:, None] - colours[None]).sum(2) + 999 * np.eye(classes, dtype=int)
    assert apart.min() > 20
