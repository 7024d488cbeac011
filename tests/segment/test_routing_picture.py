"""Pictures of a routing: tints, what is written, the legend, and the choice of the layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.picture import Picture
from moesaic.routing.record import Routing
from moesaic.segment.routing_picture import COLOURS, pick_layer, routing_picture
from moesaic.segment.use import Segmentation


def _routing(chosen, weights, experts, grid):
    chosen, weights = torch.tensor([chosen]), torch.tensor([weights])
    none = torch.zeros(1, chosen.shape[1], experts)
    return Routing(weights=weights, chosen=chosen, probabilities=none, logits=none, grid=grid)


@pytest.fixture
def routing():
    """Two patches side by side: the left one is mostly expert 3's, named second; the right one expert 1's."""
    return _routing([[0, 3], [1, 3]], [[0.25, 0.75], [0.6, 0.4]], 5, (1, 2))


def _picture(channels=3, size=(120, 240), **options):
    return Picture(pixels=np.full((*size, channels), 0.5, np.float32), **options)


def _tint(expert, opacity, grey=0.25 + 0.75 * 0.5):
    return np.array(COLOURS[expert % len(COLOURS)]) / 255 * opacity + grey * (1 - opacity)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_each_patch_has_the_colour_of_its_heaviest_expert(routing, channels):
    pixels = np.full((120, 240, channels), 0.5, np.float32)
    if channels in (2, 4):
        pixels[..., -1] = 1
    shown = routing_picture(Picture(pixels=pixels), routing, legend=False, opacity=0.25)
    assert shown.pixels.shape == (120, 240, 3)
    np.testing.assert_allclose(shown.pixels[5, 5], _tint(3, 0.25), atol=0.005)
    np.testing.assert_allclose(shown.pixels[5, 235], _tint(1, 0.25), atol=0.005)


def test_what_is_transparent_is_white():
    one = _routing([[0]], [[1.0]], 1, (1, 1))
    shown = routing_picture(_picture(4, (40, 40)), one, legend=False, opacity=0)  # alpha is 0.5
    np.testing.assert_allclose(shown.pixels[0, 0], 0.25 + 0.75 * (0.5 * 0.5 + 0.5), atol=0.005)


def test_who_acts_is_written_where_there_is_room(routing):
    def written(size):
        pixels = routing_picture(_picture(size=size), routing, legend=False).pixels
        inside = pixels[:, : size[1] // 2 - 4]  # away from the line between the patches
        return np.abs(inside - inside[0, 0]).max() > 0.2

    assert written((120, 240))
    assert written((40, 120))
    assert not written((8, 240))
    assert not written((120, 24))


def test_a_line_parts_the_patches(routing):
    pixels = routing_picture(_picture(), routing, legend=False).pixels
    assert (pixels[:, 120] == 1).all()
    assert not (pixels[:, 110] == 1).all(1).all()


def test_the_legend_stands_below(routing):
    plain = routing_picture(_picture(), routing, legend=False)
    told = routing_picture(_picture(), routing, layer="up.conv")
    np.testing.assert_array_equal(told.pixels[:120, :240], plain.pixels)
    below = told.pixels[120:].reshape(-1, 3)
    for expert in (0, 1, 3):
        assert np.isclose(below, np.array(COLOURS[expert]) / 255, atol=1e-6).all(1).any()
    for expert in (2, 4):  # they act nowhere
        assert not np.isclose(below, np.array(COLOURS[expert]) / 255, atol=1e-6).all(1).any()


def test_many_experts_and_patches():
    chosen = [list(range(p % 3, 9 + p % 3)) for p in range(24)]
    many = _routing(chosen, [[1 / 9] * 9] * 24, 12, (4, 6))
    assert routing_picture(_picture(size=(60, 90)), many).width >= 90
    heavy = _routing([[8]], [[1.0]], 9, (1, 1))
    shown = routing_picture(_picture(), heavy, legend=False, opacity=1)
    np.testing.assert_allclose(shown.pixels[0, 0], np.array(COLOURS[0]) / 255, atol=0.005)  # the ninth: again the first


def test_metadata_stays_and_a_grey_profile_goes(routing):
    shown = routing_picture(_picture(3, icc=b"rgb", exif=b"Exif\0\0", depth=16), routing)
    assert (shown.icc, shown.exif, shown.depth) == (b"rgb", b"Exif\0\0", 8)
    assert routing_picture(_picture(1, icc=b"grey"), routing).icc is None


def test_colours_are_eight_and_differ():
    assert len(set(COLOURS)) == len(COLOURS) == 8


def test_refuses(routing):
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match="opacity"):
            routing_picture(_picture(), routing, opacity=opacity)
    with pytest.raises(ShapeError, match="grid"):
        routing_picture(_picture(size=(4, 1)), routing)


def test_the_layer_is_chosen_by_name(routing):
    assert pick_layer({"a": routing}, None) == ("a", routing)
    assert pick_layer({"a": routing, "b": routing}, "b") == ("b", routing)
    with pytest.raises(ArgumentError, match="name the layer: choose one of a, b"):
        pick_layer({"a": routing, "b": routing}, None)
    with pytest.raises(ArgumentError, match="layer 'c' is not routed: choose one of a"):
        pick_layer({"a": routing}, "c")
    with pytest.raises(ArgumentError, match="several tiles"):
        pick_layer({}, None)


def test_a_segmentation_draws_its_own(routing):
    labels = np.zeros((120, 240), np.uint8)
    common = {"labels": labels, "names": ("sky",), "colours": ((1, 2, 3),), "picture": _picture()}
    found = Segmentation(**common, routing={"up.conv": routing})
    expected = routing_picture(_picture(), routing, layer="up.conv", opacity=0.3)
    np.testing.assert_array_equal(found.routing_picture(opacity=0.3).pixels, expected.pixels)
    assert found.routing_picture("up.conv", legend=False).height == 120
    with pytest.raises(ArgumentError, match="no routing to show"):
        Segmentation(**common, routing={}).routing_picture()
