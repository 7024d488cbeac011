"""The verb `enlarge`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from moesaic.cli import enlarging
from moesaic.cli.places import settle
from moesaic.mixture.enlarge import SAMPLINGS


def test_twice_as_large_beside_the_input(moe, picture, tmp_path):
    ran = moe("enlarge", picture("small.png"), "--fits", "1")
    assert ran.code == 0, ran.err  # compiling may take long enough to tell how far it is
    with Image.open(tmp_path / "small.x2.png") as large, Image.open(tmp_path / "small.png") as small:
        assert (large.mode, large.size) == ("RGB", (64, 48))
        again = np.asarray(large.resize(small.size, Image.Resampling.BICUBIC), float)
        assert np.abs(again - np.asarray(small, float)).mean() < 2
    assert "64x48" in ran.out


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--scale", "1.5"], "small.x1.5.png", (48, 36)),
        (["--size", "40x30"], "small.40x30.png", (40, 30)),
        (["--scale", "3", "--format", "webp", "--quality", "80"], "small.x3.webp", (96, 72)),
        (["--sampling", "area", "-o", "large.jpg"], "large.jpg", (64, 48)),
    ],
)
def test_sizes_and_names(moe, picture, tmp_path, options, name, size):
    assert moe("enlarge", picture("small.png"), "--fits", "1", *options).code == 0
    with Image.open(tmp_path / name) as large:
        assert large.size == size


def test_json(moe, picture):
    ran = moe("enlarge", picture("small.png", mode="RGBA"), "--fits", "1", "--sampling", "point", "--json")
    (told,) = ran.objects
    assert (told["verb"], told["status"], told["sampling"]) == ("enlarge", "done", "point")
    assert (told["width"], told["height"], told["channels"], told["depth"]) == (64, 48, 4, 8)
    assert told["bytes"] > 0
    assert told["seconds"] >= 0


def test_a_folder_can_be_run_twice(moe, picture, tmp_path):
    picture("in/a.png", size=(12, 9))
    picture("in/b.jpg", size=(12, 9), seed=3)
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    first = moe("enlarge", "in", "--fits", "1", "--json")
    assert (first.code, [told["status"] for told in first.objects]) == (1, ["done", "done", "failed"])
    again = moe("enlarge", "in", "--fits", "1", "--json")
    assert [told["status"] for told in again.objects] == ["kept", "kept", "failed"]  # and not its own work


def test_its_own_work_is_no_source_in_folders(tmp_path):
    for name in ("a.png", "a.x2.png", "a.x1.5.png", "a.40x30.png", "xx2.png", "notes.txt", "a.moe"):
        (tmp_path / name).touch()

    def accepts(path):
        return enlarging._is_source(path, ".40x30")

    jobs = settle([tmp_path], None, name=lambda path: f"{path.stem}.n", accepts=accepts)
    assert [job.source.name for job in jobs] == ["a.png", "xx2.png"]


def test_a_mixture_is_decoded_larger_instead(moe, picture, tmp_path):
    (tmp_path / "a.moe").write_bytes(b"anything")
    ran = moe("enlarge", "a.moe", picture("b.png", size=(8, 8)), "--fits", "1", "-o", "out/")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "moesaic decode a.moe --scale 2" in ran.err
    assert (tmp_path / "out" / "b.x2.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scale", "1"], "above 1"),
        (["--scale", "0"], "--scale"),
        (["--scale", "nan"], "--scale"),
        (["--scale", "1e9"], "pixel_limit"),
        (["--scale", "2", "--pixel-limit", "1000"], "pixel_limit"),
        (["--size", "40"], "WIDTHxHEIGHT"),
        (["--size", "31x100"], "larger than the picture's 32x24"),
        (["--size", "64x48", "--scale", "2"], "--scale and --size"),
        (["--sampling", "nearest"], "--sampling"),
        (["--fits", "0"], "--fits"),
        (["--format", "a/b"], "--format"),
        (["-o", "b.nothing"], "suffix"),
        (["-o", "small.png"], "is an input"),
    ],
)
def test_what_cannot_be_done_is_one_line(moe, picture, arguments, says):
    picture("small.png")
    ran = moe("enlarge", "small.png", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.errors) == 1
    assert says in ran.errors[0]


def test_the_samplings_are_those_of_the_library():
    assert tuple(kind.value for kind in enlarging.Sampling) == SAMPLINGS
