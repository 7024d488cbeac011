"""The verb `explain`: pictures of routing on the command line."""

from __future__ import annotations

import pytest
from PIL import Image

import moesaic
from moesaic.cli.explaining import Kind
from moesaic.explain.use import KINDS


@pytest.fixture
def mixture(picture, tmp_path):
    """A picture file and the `.moe` file that was made of it."""
    source = picture("waves.png", size=(48, 40))
    moesaic.encode(source, tmp_path / "waves.moe", experts=40, fast=True)
    return source, tmp_path / "waves.moe"


def test_kinds_are_those_of_the_library():
    assert tuple(kind.value for kind in Kind) == KINDS


def test_a_file_with_its_source(moe, mixture, tmp_path):
    source, file = mixture
    ran = moe("explain", file, "--source", source, "--json")
    assert (ran.code, ran.err) == (0, "")
    (told,) = ran.objects
    assert (told["verb"], told["status"], told["kind"], told["kernels"]) == ("explain", "done", "mixture", 40)
    assert told["output"].endswith("waves.explained.png")
    assert told["psnr"] > 10
    assert told["bytes"] == file.stat().st_size
    with Image.open(tmp_path / "waves.explained.png") as sheet:
        assert (sheet.mode, sheet.width) == ("RGB", 1200)


def test_news_and_quiet(moe, mixture):
    ran = moe("explain", mixture[1])
    assert "waves.explained.png: mixture, 40 experts, " in ran.out
    assert moe("explain", mixture[1], "--force", "--quiet").out == ""


def test_nothing_is_replaced_unasked(moe, mixture, tmp_path):
    place = tmp_path / "waves.explained.png"
    place.write_bytes(b"mine")
    ran = moe("explain", mixture[1])
    assert ran.code == 2
    assert "exists" in ran.err
    assert place.read_bytes() == b"mine"
    assert moe("explain", mixture[1], "--force").code == 0
    assert place.read_bytes() != b"mine"


def test_the_same_file_each_time(moe, mixture, tmp_path):
    for name in ("a.png", "b.png"):
        assert moe("explain", mixture[1], "-o", name).code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pages(moe, mixture, tmp_path):
    assert moe("explain", mixture[1], "--html").code == 0
    assert (tmp_path / "waves.explained.html").read_text().startswith("<!DOCTYPE html>")
    assert moe("explain", mixture[1], "--html", "-o", "page.htm").code == 0
    ran = moe("explain", mixture[1], "--html", "-o", "page.png")
    assert ran.code == 2
    assert "--html writes pages in .html" in ran.err


@pytest.mark.parametrize("kind", ["mixture", "prediction", "restoration", "upscaling", "segmentation"])
def test_a_picture(moe, picture, tmp_path, kind):
    ran = moe("explain", picture("a.png", size=(40, 40)), "--as", kind, "--device", "cpu", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.objects[0]["kind"] == kind
    with Image.open(tmp_path / "a.explained.png") as sheet:
        assert sheet.mode == "RGB"


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_alpha(moe, picture, mode):
    assert moe("explain", picture("a.png", mode=mode), "--as", "mixture").code == 0
    assert moe("explain", "a.png", "--as", "prediction", "--force").code == 0


def test_a_folder(moe, mixture, tmp_path):
    ran = moe("explain", ".", "-o", "out/", "--json")  # of a folder without --as, its .moe files alone
    assert [told["input"] for told in ran.objects] == ["waves.moe"]
    again = moe("explain", ".", "-o", "out/", "--json")
    assert [told["status"] for told in again.objects] == ["kept"]
    (tmp_path / "waves.moe").rename(tmp_path / "other.moe")
    both = moe("explain", ".", "--as", "mixture", "--json")
    assert [told["output"] for told in both.objects] == ["other.explained.png", "waves.explained.png"]
    assert both.code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("waves.png",), "waves.png: say what to explain of a picture, with --as mixture, prediction, restoration,"),
        (("waves.moe", "--as", "upscaling"), "waves.moe holds a mixture; --as upscaling takes a picture"),
        (("waves.png", "--as", "else"), "else"),
        (("waves.png", "--as", "mixture", "--source", "waves.png"), "--source goes with one .moe file"),
        (("waves.moe", "--model", "stages_predict"), "--model goes with pictures"),
        (("waves.png", "--as", "mixture", "--model", "no_such"), "no_such"),
        (("waves.moe", "-o", "a.gif"), "gif"),
        (("waves.moe", "--source", "waves.png", "-o", "waves.png", "--force"), "is an input"),
        (("none.moe",), "there is no such file"),
        ((), "INPUT"),
    ],
)
def test_wrong_options(moe, mixture, arguments, says):
    ran = moe("explain", *arguments)
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.errors) == 1


def test_a_source_of_another_size(moe, mixture, picture):
    ran = moe("explain", mixture[1], "--source", picture("b.png"))
    assert ran.code == 2
    assert "the source is 32x24 px and the mixture's canvas 48x40" in ran.err
