"""What the page can do: every default is allowed, nothing outside the bounds is, and sizes are refused in sentences."""

from __future__ import annotations

import json
import math

import pytest

from moesaic.app.limits import MEGAPIXEL, Limits
from moesaic.app.verbs import VERBS, Asked, shrunk
from moesaic.errors import ArgumentError

OPTIONS = [(verb, option) for verb in VERBS.values() for option in verb.options]


@pytest.mark.parametrize("verb", VERBS.values(), ids=str)
def test_defaults_are_allowed_and_told(verb):
    assert Asked.read(verb.name, {}).options == {option.name: option.default for option in verb.options}
    told = json.loads(json.dumps(verb.told(), allow_nan=False))
    assert told["name"] == verb.name
    assert verb.most_in <= Limits().pixels
    assert set(verb.views) <= {"before", "after", "explain", "overlay", "legend"}
    assert ("overlay" in verb.views) == ("legend" in verb.views)


@pytest.mark.parametrize(("verb", "option"), OPTIONS, ids=str)
def test_every_value_that_is_told_is_allowed_and_no_other(verb, option):
    told = option.told()
    if option.kind == "choice":
        assert [option.checked(choice["value"]) for choice in told["choices"]]
        wrong = ["", "x", 1, None, True, [], {}, ["no"]]
    else:
        assert option.checked(told["least"]) == told["least"]
        assert option.checked(told["most"]) == told["most"]
        wrong = [told["least"] - 0.01, told["most"] + 0.01, math.nan, math.inf, -math.inf, 10**400, "1", True, None, []]
    for value in wrong:
        with pytest.raises(ArgumentError, match=option.label):
            verb.checked({option.name: value})


@pytest.mark.parametrize("options", [None, [], "{}", 3, [["scale", 2]]])
def test_options_are_an_object(options):
    with pytest.raises(ArgumentError, match="an object of names and values"):
        Asked.read("enlarge", options)


@pytest.mark.parametrize("name", [None, 3, [], "", "Encode", "__class__", "x" * 1000])
def test_unknown_verbs(name):
    with pytest.raises(ArgumentError) as caught:
        Asked.read(name, {})
    assert len(str(caught.value)) < 120


def test_unknown_options_are_named_but_not_at_length():
    with pytest.raises(ArgumentError, match="has no option 'xxx") as caught:
        Asked.read("encode", {"x" * 4000: 1})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("most", ["1", "4", "12"])
def test_a_smaller_copy_keeps_the_shape_and_the_bound(most):
    for width, height in ((6000, 4000), (1, 10**8), (10**8, 1), (2001, 2000), (30, 20)):
        wide, high = shrunk(width, height, {"shrink": most})
        assert 1 <= wide <= width
        assert 1 <= high <= height
        if min(wide, high) > 1:
            assert wide * high <= float(most) * MEGAPIXEL
            assert wide / high == pytest.approx(width / height, rel=0.01)
    assert shrunk(30, 20, {"shrink": most}) == (30, 20)
    assert shrunk(60_000, 20, {}) == (60_000, 20)
