"""One call degrades a picture: by seed, by severity, or by the parameters of an earlier result."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.degrade import FAMILIES, KINDS, NAMED_FAMILIES
from moesaic.degrade.draw import draw
from moesaic.degrade.ranges import RANGES
from moesaic.degrade.use import Degraded, degrade
from moesaic.errors import ArgumentError, ShapeError
from moesaic.picture import Picture

EVERY_FAMILY = [(kind, name) for table in (FAMILIES, NAMED_FAMILIES) for kind in table for name in table[kind]]


def test_the_folder_is_the_call(picture):
    assert isinstance(moesaic.degrade(picture(), "jpeg", seed=1), Degraded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_picture_and_its_parameters_give_it_again(picture, kind):
    pixels = picture()
    one, same, other = (degrade(pixels, kind, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.pixels, same.pixels)
    assert one.params == same.params
    assert not np.array_equal(one.pixels, other.pixels)
    again = degrade(pixels, kind, params=json.loads(json.dumps(one.params)))
    assert np.array_equal(one.pixels, again.pixels)
    assert again.params == one.params


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_float32_in_range_and_of_the_same_size(picture, kind):
    for severity in (0, 0.5, 1):
        degraded = degrade(picture(), kind, seed=3, severity=severity)
        assert degraded.pixels.dtype == np.float32
        assert degraded.pixels.shape == (48, 64, 3)
        assert degraded.pixels.min() >= 0
        assert degraded.pixels.max() <= 1
        assert degraded.levels().dtype == np.uint8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 3)])
def test_tiny_pictures_work(picture, kind, shape):
    degraded = degrade(picture(40, 40)[: shape[0], : shape[1]], kind, seed=0, severity=1)
    assert degraded.pixels.shape == (*shape, 3)
    assert np.isfinite(degraded.pixels).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in RANGES])
def test_the_severest_is_further_from_the_picture_than_the_mildest(picture, kind):
    pixels = picture(96, 96)

    def error(severity):
        errors = [degrade(pixels, kind, seed=s, severity=severity).pixels - pixels / 255 for s in range(3)]
        return np.mean(np.square(errors))

    assert error(1) > 1.5 * error(0) > 0


@pytest.mark.parametrize("kind", list(RANGES))
def test_parameters_are_those_of_the_severity(kind):
    for name, ends in RANGES[kind].items():
        for severity, expected in zip((0, 1), ends, strict=True):
            params = draw(kind, np.random.default_rng(0), 40, 60, severity)
            told = params.get(name, params.get("path", {}).get(name))
            if told is not None:
                assert told == pytest.approx(expected)
    drawn = [draw(kind, np.random.default_rng(seed), 40, 60)["severity"] for seed in range(50)]
    assert min(drawn) < 0.2 < 0.8 < max(drawn)


@pytest.mark.parametrize(("kind", "family"), EVERY_FAMILY)
def test_a_family_is_made_when_it_is_named(picture, kind, family):
    degraded = degrade(picture(), kind, seed=0, severity=1, family=family)
    if kind == "wild":
        side = round(48 / int(family[1]))
        assert degraded.pixels.shape[0] == side
    elif family == "unclipped":
        assert degraded.pixels.min() < 0
    elif kind == "grain":
        assert (degraded.params["common"] == 1) == (family == "grey")
        assert (degraded.params["quality"] > 0) == (family == "camera")
    elif kind != "noise":
        assert f'"{family}"' in json.dumps(degraded.params)


@pytest.mark.parametrize("kind", [kind for kind in NAMED_FAMILIES if kind != "noise"])
def test_held_out_families_are_never_drawn(kind):
    drawn = [json.dumps(draw(kind, np.random.default_rng(seed), 40, 60)) for seed in range(60)]
    for family in NAMED_FAMILIES[kind]:
        assert not any(f'"{family}"' in one or f'"shrink": {family[1:]}' in one for one in drawn)
    if kind != "wild":
        assert all(any(f'"{family}"' in one for one in drawn) for family in FAMILIES[kind])


def test_a_composite_applies_its_parts_in_the_order_of_light_and_data(picture):
    degraded = degrade(picture(), "composite", seed=5, family="jpeg+haze+noise")
    assert [part["kind"] for part in degraded.params["parts"]] == ["haze", "noise", "jpeg"]
    pixels = picture() / 255.0
    for part in degraded.params["parts"]:
        pixels = np.clip(degrade(np.clip(pixels, 0, 1), part["kind"], params=part["params"]).pixels, 0, 1)
    np.testing.assert_allclose(pixels, degraded.pixels, atol=1 / 255)


def test_drawn_composites_have_two_or_three_parts_of_different_labels():
    counts = set()
    for seed in range(40):
        parts = draw("composite", np.random.default_rng(seed), 40, 60)["parts"]
        kinds = {part["kind"] for part in parts}
        counts.add(len(kinds))
        assert not {"haze", "low_light"} <= kinds
        assert not {"rain", "snow"} <= kinds
        assert all(0.1 <= part["params"]["severity"] <= 0.7 for part in parts)
    assert counts == {2, 3}


def test_arrays_of_all_types_are_the_same_picture(picture):
    pixels = picture()
    results = [
        degrade(one, "haze", seed=1).pixels
        for one in (
            pixels,
            pixels.astype(np.uint16) * 257,
            (pixels.astype(np.uint16) * 257).astype(">u2"),  # as files have them
            pixels / 255.0,
            (pixels / 255.0).astype(np.float32),
        )
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 4), (0, 4, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(H, W, 3\)"):
        degrade(np.zeros(shape, np.uint8), "noise")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "fog"}, "the kind is one of noise.*, not 'fog'; did you mean haze"),
        ({"kind": None}, "not None$"),
        ({"severity": 1.5}, "severity is a number from 0 to 1"),
        ({"severity": float("nan")}, "severity is a number from 0 to 1"),
        ({"seed": -1}, "seed is a whole number"),
        ({"kind": "jpeg", "family": "webp"}, "family of jpeg is not to be chosen"),
        ({"kind": "haze", "family": "fog"}, "one of plane, colour, field, layers"),
        ({"kind": "composite", "family": "haze+fog"}, "such as haze"),
        ({"kind": "composite", "family": "haze+haze"}, "different kinds"),
        ({"kind": "jpeg", "params": {"quality": 10, "halved": True}, "severity": 0.5}, "leave severity"),
        ({"kind": "jpeg", "params": {"quality": 10}}, "'halved' is missing"),
        ({"kind": "jpeg", "params": {"quality": 0, "halved": True}}, "whole number from 1 to 100, not 0"),
        ({"kind": "jpeg", "params": {"quality": 10, "halved": True, "x": 1}}, "no parameter 'x'"),
        ({"kind": "composite", "params": {"parts": []}}, "list of 1 to 100 tables"),
        ({"kind": "wild", "params": {"shrink": 1, "steps": [{"step": "sharpen"}]}}, "'step' is one of blur"),
        ({"kind": np.zeros(2)}, "the kind is one of"),
        ({"kind": ["jpeg"]}, "the kind is one of"),
        ({"kind": "composite", "family": 5}, "the family is a name, not int"),
        ({"kind": "haze", "family": ["plane"]}, "the family is a name, not list"),
        ({"kind": "haze", "family": np.zeros(2)}, "the family is a name, not ndarray"),
        ({"seed": 10**5000}, "not int too long to tell"),
        ({"severity": 10**5000}, "not int too long to tell"),
        ({"kind": "jpeg", "params": {"quality": 10**5000, "halved": True}}, "not int too long to tell"),
        ({"kind": "defocus", "params": {"radius": 1, "shape": np.zeros(2)}}, "'shape' is one of disc"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(picture, options, words):
    with pytest.raises(ArgumentError, match=words) as told:
        degrade(picture(), **{"kind": "noise", **options})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("pixels", [np.full((2, 2, 3), np.nan), np.full((2, 2, 3), 1.1), np.zeros((2, 2, 3), int), [1]])
def test_values_that_are_no_picture_are_refused(pixels):
    with pytest.raises(ArgumentError):
        degrade(pixels, "noise")


@pytest.mark.parametrize("source", ["street.png", Image.new("RGB", (4, 4)), Picture(pixels=np.zeros((4, 4, 3), "f4"))])
def test_what_is_no_array_is_told_how_to_become_one(source):
    with pytest.raises(ArgumentError, match=r"pass moesaic\.read_picture\(x\)\.pixels"):
        degrade(source, "noise")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 4), r"numpy\.stack\(\[x, x, x\], axis=2\)"),
        ((4, 4, 1), r"x\.repeat\(3, axis=2\)"),
        ((4, 4, 4), r"x\[\.\.\., :3\]"),
    ],
)
def test_other_channels_are_told_how_to_become_three(shape, words):
    with pytest.raises(ShapeError, match=rf"\(H, W, 3\), not .*; .*{words}"):
        degrade(np.zeros(shape, np.uint8), "noise")
