"""The verb `denoise`, with a stand-in for the library's call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.cli import denoising
from moesaic.cli.places import settle
from moesaic.errors import ArgumentError


@dataclass
class StandIn:
    """Takes the place of `moesaic.denoise`: hands the picture back a little darker, and remembers what it was told."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    refuses: int = 0  # the number of a call that fails

    def __call__(self, picture, *, progress, **told) -> Any:
        self.calls.append({"size": (picture.width, picture.height), **told})
        if len(self.calls) == self.refuses:
            raise ArgumentError("not this one")
        return SimpleNamespace(
            picture=replace(picture, pixels=picture.pixels * np.float32(0.5)),
            sigma=17.12345 if told["sigma"] is None else told["sigma"],
            estimated=told["sigma"] is None,
            experts=told["experts"] or 1234,
            models=0 if told["sigma"] == 0 else told["models"],
        )


@pytest.fixture
def denoiser(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(moesaic, "denoise", stand_in, raising=False)
    return stand_in


def test_writes_beside_the_input_and_tells_the_level(moe, picture, denoiser, tmp_path):
    ran = moe("denoise", picture("dusk.jpg"))
    assert (ran.code, ran.err) == (0, "")
    assert "dusk.jpg -> " in ran.out
    assert "sigma 17.1 estimated, 8 x 1,234 experts" in ran.out
    with Image.open(tmp_path / "dusk.jpg") as before, Image.open(tmp_path / "dusk.denoised.png") as after:
        assert (after.mode, after.size) == ("RGB", (32, 24))
        assert np.asarray(after, float) == pytest.approx(np.asarray(before, float) / 2, abs=0.51)
    assert denoiser.calls == [
        {"sigma": None, "models": 8, "experts": None, "seconds": None, "seed": 0, "size": (32, 24)}
    ]


def test_figures_as_json(moe, picture, denoiser):
    options = ["--sigma", "25", "--models", "3", "--experts", "500", "--seconds", "2.5", "--seed", "7"]
    ran = moe("denoise", picture("a.png"), "-o", "b.webp", *options, "--json")
    (told,) = ran.objects
    assert (ran.code, told["verb"], told["status"], told["output"]) == (0, "denoise", "done", "b.webp")
    assert {key: told[key] for key in ("width", "height", "sigma", "estimated", "experts", "models")} == {
        "width": 32,
        "height": 24,
        "sigma": 25.0,
        "estimated": False,
        "experts": 500,
        "models": 3,
    }
    assert told["seconds"] >= 0
    assert denoiser.calls == [{"sigma": 25.0, "models": 3, "experts": 500, "seed": 7, "size": (32, 24), "seconds": 2.5}]


def test_alpha_and_metadata(moe, picture, denoiser, tmp_path):
    source = picture("a.png", mode="RGBA")
    with Image.open(source) as image:
        exif = image.getexif()
        exif[0x010E] = "a note"
        image.save(tmp_path / "noted.png", exif=exif)
    assert moe("denoise", "noted.png").code == 0
    assert moe("denoise", "noted.png", "--metadata", "strip", "-o", "plain.png").code == 0
    with Image.open(tmp_path / "noted.denoised.png") as kept, Image.open(tmp_path / "plain.png") as stripped:
        assert (kept.mode, stripped.mode) == ("RGBA", "RGBA")
        assert kept.getexif()[0x010E] == "a note"
        assert 0x010E not in stripped.getexif()


def test_16_bits_stay(moe, denoiser, tmp_path):
    Image.fromarray((np.mgrid[:24, :32][0] * 2500).astype(np.uint16)).save(tmp_path / "deep.png")
    assert moe("denoise", "deep.png").code == 0
    assert moesaic.read_picture(tmp_path / "deep.denoised.png").depth == 16


def test_a_folder_can_be_run_twice(moe, picture, denoiser, tmp_path):
    picture("in/a.png")
    picture("in/b.jpg", seed=3)
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    first = moe("denoise", "in", "--json")
    assert (first.code, [told["status"] for told in first.objects]) == (1, ["done", "done", "failed"])
    again = moe("denoise", "in", "--json")
    assert [told["status"] for told in again.objects] == ["kept", "kept", "failed"]  # and not its own work
    assert len(denoiser.calls) == 2


def test_one_that_fails_leaves_the_rest(moe, picture, denoiser, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    denoiser.refuses = 2
    ran = moe("denoise", "a.png", "b.png", "c.png", "-o", "out")
    assert (ran.code, ran.errors) == (1, ["moesaic: b.png: not this one"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.denoised.png", "c.denoised.png"]


def test_its_own_work_is_no_source_in_folders(tmp_path):
    for name in ("a.png", "a.denoised.png", "a.denoised.jpg", "notes.txt"):
        (tmp_path / name).touch()
    jobs = settle([tmp_path], None, name=lambda path: f"{path.stem}.x.png", accepts=denoising._is_source)
    assert [job.source.name for job in jobs] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.png", "--sigma", "-1"], "'-1' is no number from 0 to 255"),
        (["a.png", "--sigma", "nan"], "'nan' is no number from 0 to 255"),
        (["a.png", "--sigma", "inf"], "'inf' is no number from 0 to 255"),
        (["a.png", "--sigma", "some"], "'some' is no number from 0 to 255"),
        (["a.png", "--models", "0"], "--models"),
        (["a.png", "--experts", "0"], "--experts"),
        (["a.png", "--seconds", "0"], "'0' is no number above 0"),
        (["a.png", "--seed", "-1"], "--seed"),
        (["a.png", "-o", "b.nothing"], "suffix"),
        (["a.png", "--pixel-limit", "100"], "limit of 100 pixels"),
        (["b.png"], "there is no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(moe, picture, denoiser, arguments, says):
    picture("a.png")
    ran = moe("denoise", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.errors) == 1
    assert says in ran.errors[0]
    assert denoiser.calls == []


def test_sigma_of_zero_is_allowed(moe, picture, denoiser):
    ran = moe("denoise", picture("a.png"), "--sigma", "0")
    assert ran.code == 0
    assert "sigma 0.0 as given, nothing to take out" in ran.out
    assert denoiser.calls[0]["sigma"] == 0.0


def test_where_no_noise_is_found_it_says_how_to_name_it(moe, tmp_path):
    Image.new("RGB", (24, 20), (90, 120, 30)).save(tmp_path / "plain.png")
    ran = moe("denoise", tmp_path / "plain.png")
    assert ran.code == 0
    assert "nothing to take out (if you see noise" in ran.out
    assert "--sigma 5" in ran.out


def test_the_library_behind_it(moe, picture, tmp_path):
    ran = moe("denoise", picture("a.png", mode="RGBA"), "--sigma", "20", "--models", "2", "--json", "--quiet")
    (told,) = ran.objects
    assert (ran.code, told["sigma"], told["estimated"], told["models"]) == (0, 20.0, False, 2)
    assert told["experts"] >= 1
    before, after = (moesaic.read_picture(tmp_path / name).pixels for name in ("a.png", "a.denoised.png"))
    assert np.array_equal(before[..., 3], after[..., 3])
    assert not np.array_equal(before, after)


def test_a_format_that_cannot_hold_it_is_refused_before_any_work(moe, denoiser, tmp_path):
    Image.new("RGBA", (20, 16), (90, 120, 30, 128)).save(tmp_path / "glass.png")
    ran = moe("denoise", tmp_path / "glass.png", "-o", tmp_path / "glass.jpg")
    assert ran.code == 2
    assert "alpha" in ran.err
    assert denoiser.calls == []
    assert not (tmp_path / "glass.jpg").exists()


def test_a_level_beyond_the_scale(moe, picture, denoiser):
    ran = moe("denoise", picture("dusk.png"), "--sigma", "256")
    assert ran.code == 2
    assert "255" in ran.err
    assert denoiser.calls == []
