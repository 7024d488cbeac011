"""The verb `degrade`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.degrade import KINDS


def read(path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_writes_its_picture_beside_the_input(moe, picture, tmp_path, kind):
    ran = moe("degrade", picture("park.png"), "--kind", kind, "--seed", "3")
    assert (ran.code, ran.err) == (0, "")
    assert f"park.png -> {tmp_path / 'park'}.{kind}.png: {kind} (" in ran.out
    after = read(tmp_path / f"park.{kind}.png")
    assert np.array_equal(after, moesaic.degrade(read(tmp_path / "park.png"), kind, seed=3).levels())


def test_parameters_as_json_repeat_the_picture(moe, picture, tmp_path):
    ran = moe("degrade", picture("park.png"), "--kind", "haze", "--severity", "0.5", "--family", "layers", "--json")
    (told,) = ran.objects
    assert (told["verb"], told["status"], told["kind"]) == ("degrade", "done", "haze")
    assert told["params"]["severity"] == 0.5
    assert told["params"]["depth"]["family"] == "layers"
    (tmp_path / "told.json").write_text(ran.out)
    again = moe("degrade", "park.png", "--params", "told.json", "-o", "again.png", "--seed", "9")
    assert again.code == 0
    assert np.array_equal(read(tmp_path / "again.png"), read(tmp_path / "park.haze.png"))


def test_seeds_and_severities_matter(moe, picture, tmp_path):
    picture("park.png")
    for name, options in {"a": [], "b": ["--seed", "1"], "c": ["--severity", "0.9"]}.items():
        assert moe("degrade", "park.png", "--kind", "noise", "-o", f"{name}.png", *options).code == 0
    a, b, c = (read(tmp_path / f"{name}.png") for name in "abc")
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_show_writes_a_sheet_of_all_kinds(moe, picture, tmp_path):
    ran = moe("degrade", picture("park.png"), "--show")
    assert (ran.code, ran.err) == (0, "")
    assert "all kinds" in ran.out
    height, width, _ = read(tmp_path / "park.degradations.png").shape
    assert height == 3 * (24 + 22) + 6
    assert width > 5 * (32 + 6) + 6  # captions are wider than this picture


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L"])
def test_alpha_and_grey_stay(moe, picture, tmp_path, mode):
    before = read(picture("park.png", mode=mode))
    for kind, family in (("noise", "clipped"), ("wild", "x2")):
        assert moe("degrade", "park.png", "--kind", kind, "--family", family, "--severity", "1").code == 0
        with Image.open(tmp_path / f"park.{kind}.png") as opened:
            assert opened.mode == mode
        after = read(tmp_path / f"park.{kind}.png")
        if kind == "wild":
            assert after.shape[:2] == (12, 16)
        elif mode != "L":
            assert np.array_equal(after[..., -1], before[..., -1])
            assert not np.array_equal(after[..., 0], before[..., 0])


def test_grey_noise_is_as_strong_as_asked_for(moe, tmp_path):
    Image.fromarray(np.full((100, 100), 128, np.uint8)).save(tmp_path / "grey.png")
    assert moe("degrade", "grey.png", "--kind", "noise", "--severity", "0.3").code == 0
    assert read(tmp_path / "grey.noise.png").std() == pytest.approx(20, rel=0.05)


def test_sixteen_bits_stay(moe, tmp_path):
    pixels = np.linspace(0, 1, 32 * 24 * 3, dtype=np.float32).reshape(24, 32, 3)
    moesaic.write_picture(moesaic.Picture(pixels=pixels, depth=16), tmp_path / "deep.png")
    assert moe("degrade", "deep.png", "--kind", "haze").code == 0
    hazy = moesaic.read_picture(tmp_path / "deep.haze.png")
    assert hazy.depth == 16
    assert len(np.unique(hazy.pixels)) > 600  # more than 8 bits could tell apart


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1)])
def test_tiny_pictures_work(moe, picture, size):
    for kind in KINDS:
        assert moe("degrade", picture("tiny.png", size=size), "--kind", kind).code == 0
    assert moe("degrade", "tiny.png", "--show").code == 0


def test_a_folder_can_be_done_again(moe, picture, tmp_path):
    picture("photos/a.png")
    picture("photos/b.png")
    assert moe("degrade", "photos", "--kind", "rain").code == 0
    assert moe("degrade", "photos", "--kind", "rain").out.count("kept") == 2
    assert moe("degrade", "photos", "--show").code == 0
    assert {path.name for path in (tmp_path / "photos").iterdir()} == {
        f"{stem}{end}.png" for stem in "ab" for end in ("", ".rain", ".degradations")
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--kind is one of noise"),
        (["--kind", "fog"], "--kind is one of noise"),
        (["--kind", "fog"], "not 'fog'; did you mean haze?"),
        (["--kind", "blur"], "did you mean motion_blur or defocus?"),
        (["--kind", "rain", "--severity", "2"], "no number from 0 to 1"),
        (["--kind", "rain", "--show"], "leave --kind"),
        (["--params", "none.json"], "cannot be read"),
        (["--kind", "rain", "--params", "haze.json"], "leave --kind"),
        (["--params", "haze.json", "--severity", "0.1"], "leave --kind, --severity"),
        (["--params", "bad.json"], "an object with kind and params"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(moe, picture, tmp_path, options, words):
    (tmp_path / "haze.json").write_text(json.dumps({"kind": "haze", "params": {}}))
    (tmp_path / "bad.json").write_text('{"kind": "fog", "params": {}}')
    ran = moe("degrade", picture("park.png"), *options)
    assert ran.code == 2
    assert len(ran.errors) == 1
    assert words in ran.err
    assert not list(tmp_path.glob("park.*.png"))


def test_parameters_that_are_wrong_fail_the_picture(moe, picture, tmp_path):
    (tmp_path / "haze.json").write_text(json.dumps({"kind": "haze", "params": {"beta": "thick"}}))
    ran = moe("degrade", picture("park.png"), "--params", "haze.json")
    assert ran.code == 2
    assert ran.errors == [f"moesaic: {tmp_path / 'park.png'}: haze: 'beta' is a number from 0 to 100, not 'thick'"]


def test_a_format_without_alpha_is_refused(moe, picture, tmp_path):
    ran = moe("degrade", picture("park.png", mode="RGBA"), "--kind", "noise", "-o", "park.jpg")
    assert ran.code == 2
    assert not (tmp_path / "park.jpg").exists()
