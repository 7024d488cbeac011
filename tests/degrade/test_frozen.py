"""Frozen test sets come back to the byte, and refuse what is not theirs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from moesaic.degrade import KINDS
from moesaic.degrade.frozen import freeze, read_frozen, reproduce, write_frozen
from moesaic.errors import ArgumentError, OutputExistsError, PictureError, ShapeError

GOLDEN = Path(__file__).with_name("frozen.json")


def test_a_set_is_written_read_and_reproduced(picture, tmp_path):
    pixels = picture()
    entries = [freeze("blocks", pixels, kind, seed=7) for kind in KINDS]
    write_frozen(tmp_path / "set.json", entries)
    again = read_frozen(tmp_path / "set.json")
    assert again == entries
    for entry in again:
        levels = reproduce(entry, pixels)
        assert levels.dtype == np.uint8
        assert levels.shape == pixels.shape
        assert not np.array_equal(levels, pixels)


def test_an_earlier_set_gives_the_same_bytes(picture):
    entries = read_frozen(GOLDEN)
    assert [entry.kind for entry in entries] == list(KINDS)
    for entry in entries:
        reproduce(entry, picture())


def test_another_picture_is_refused(picture):
    entry = freeze("blocks", picture(), "haze", seed=1)
    changed = picture()
    changed[3, 3, 0] ^= 1
    with pytest.raises(PictureError, match="not the pixels"):
        reproduce(entry, changed)
    with pytest.raises(PictureError, match="not the pixels"):
        reproduce(entry, picture().reshape(64, 48, 3))


def test_another_result_is_refused(picture):
    entry = freeze("blocks", picture(), "jpeg", seed=1, severity=1)
    with pytest.raises(PictureError, match="other bytes"):
        reproduce(dataclasses.replace(entry, params={"quality": 11, "halved": True}), picture())


def test_other_arrays_are_refused(picture):
    for pixels in (picture() / 255.0, picture()[..., 0]):
        with pytest.raises(ShapeError, match="uint8"):
            freeze("blocks", pixels, "haze", seed=1)


def test_a_set_is_not_replaced_unasked(picture, tmp_path):
    entries = [freeze("blocks", picture(), "noise", seed=1)]
    write_frozen(tmp_path / "set.json", entries)
    with pytest.raises(OutputExistsError):
        write_frozen(tmp_path / "set.json", entries)
    write_frozen(tmp_path / "set.json", entries, force=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "entries": []}',
        '{"version": 1, "entries": [{}]}',
        '{"version": 1, "entries": 3}',
    ],
)
def test_damaged_sets_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(ArgumentError, match=r"set\.json") as told:
        read_frozen(path)
    assert "\n" not in str(told.value)


def test_values_of_the_wrong_type_are_refused(picture, tmp_path):
    held = dataclasses.asdict(freeze("blocks", picture(), "noise", seed=1))
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"version": 1, "entries": [{**held, "params": 3}]}))
    with pytest.raises(ArgumentError, match="entry 0 holds a value of the wrong type"):
        read_frozen(path)


def test_a_missing_set_is_told(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_frozen(tmp_path / "none.json")


def test_what_is_no_entry_is_refused(picture, tmp_path):
    entry = freeze("blocks", picture(), "noise", seed=1)
    with pytest.raises(ArgumentError, match="reproduce takes an Entry of a test set, not NoneType"):
        reproduce(None, picture())
    for entries in (None, [None], [entry, {}], "set"):
        with pytest.raises(ArgumentError, match="entries are a list of Entry"):
            write_frozen(tmp_path / "set.json", entries)
    for value in (float("nan"), {1, 2}):
        with pytest.raises(ArgumentError, match="what JSON has no form for"):
            write_frozen(tmp_path / "set.json", [dataclasses.replace(entry, params={"sigma": value})])
    with pytest.raises(ArgumentError, match="read from a path, not from NoneType"):
        read_frozen(None)
    assert not (tmp_path / "set.json").exists()
