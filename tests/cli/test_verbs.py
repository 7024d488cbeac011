"""The verbs from end to end, with the real codec, on pictures of 32x24 pixels."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic import metrics
from moesaic.image import read_picture

FAST = ("--experts", "50", "--seed", "1")


def _size(path: str | Path) -> tuple[int, int]:
    picture = read_picture(path)
    return picture.width, picture.height


@pytest.fixture
def encoded(moe, picture) -> Path:
    """A .moe file of 50 experts, with its source photo.png beside it."""
    source = picture("photo.png")
    assert moe("encode", source, *FAST).code == 0
    return source.with_suffix(".moe")


def test_encode_tells_the_truth_about_its_file(moe, picture, tmp_path):
    ran = moe("encode", picture("photo.png"), *FAST, "--json", "--quiet")  # compiling may take long enough to tell
    assert (ran.code, ran.err) == (0, "")
    (told,) = ran.objects
    size = (tmp_path / "photo.moe").stat().st_size
    assert told["bytes"] == size
    assert told["bpp"] == pytest.approx(8 * size / (32 * 24))
    assert (told["experts"], told["order"]) == (50, 0)
    decoded = moesaic.decode(tmp_path / "photo.moe")
    pixels = (np.rint(decoded.pixels * 255) / 255).astype(np.float32)
    assert told["psnr"] == pytest.approx(metrics.psnr(pixels, read_picture(tmp_path / "photo.png").pixels), abs=1e-3)
    assert told["psnr"] > 25


def test_decode_at_all_sizes(moe, encoded, tmp_path):
    for options, name, size in (
        (["--scale", "4"], "photo.x4.png", (128, 96)),
        (["--size", "20x10"], "photo.20x10.png", (20, 10)),
        (["--region", "0,0,16,12"], "photo.region0,0,16,12.png", (16, 12)),
        (["--region", "0,0,16,12", "--scale", "2"], "photo.region0,0,16,12.x2.png", (32, 24)),
        (["--layers", "1"], "photo.layers1.png", (32, 24)),
        (["--format", "webp"], "photo.webp", (32, 24)),
        (["-o", "other.jpg", "--quality", "80"], "other.jpg", (32, 24)),
    ):
        ran = moe("decode", encoded, *options, "--json")
        assert (ran.code, ran.err) == (0, "")
        assert Path(ran.objects[0]["output"]).name == name
        assert _size(tmp_path / name) == size == (ran.objects[0]["width"], ran.objects[0]["height"])
        assert ran.objects[0]["bytes"] == (tmp_path / name).stat().st_size


def test_decode_never_replaces_the_source_unasked(moe, encoded, tmp_path):
    before = (tmp_path / "photo.png").read_bytes()
    ran = moe("decode", encoded)
    assert ran.code == 2
    assert "photo.png exists" in ran.err
    assert (tmp_path / "photo.png").read_bytes() == before
    assert moe("decode", encoded, "--force").code == 0
    assert (tmp_path / "photo.png").read_bytes() != before


def test_depth_is_the_source_s_unless_asked_otherwise(moe, tmp_path):
    rows = np.mgrid[:24, :32][0] * 2500
    Image.fromarray(rows.astype(np.uint16)).save(tmp_path / "deep.png")
    assert moe("encode", "deep.png", *FAST).code == 0
    for options, depth in ([], 16), (["--depth", "8"], 8):
        ran = moe("decode", "deep.moe", "-o", "back.png", "--force", "--json", *options)
        assert ran.objects[0]["depth"] == read_picture(tmp_path / "back.png").depth == depth


def test_metadata_is_kept_or_stripped(moe, picture, tmp_path):
    picture("photo.png")
    exif = Image.Exif()
    exif[0x010E] = "a description"
    with Image.open(tmp_path / "photo.png") as image:
        image.save(tmp_path / "photo.png", exif=exif)
    assert moe("encode", "photo.png", *FAST).code == 0
    assert moe("encode", "photo.png", *FAST, "--metadata", "strip", "-o", "bare.moe").code == 0
    assert moe("decode", "photo.moe", "bare.moe", "-o", "out").code == 0
    assert moe("decode", "photo.moe", "-o", "stripped.png", "--metadata", "strip").code == 0
    assert b"a description" in (read_picture("out/photo.png").exif or b"")
    assert read_picture("out/bare.png").exif is None
    assert read_picture("stripped.png").exif is None


def test_decode_refuses_more_pixels_than_the_limit(moe, encoded):
    ran = moe("decode", encoded, "--scale", "100000")
    assert ran.code == 2
    assert len(ran.errors) == 1
    ran = moe("decode", encoded, "--scale", "2", "--pixel-limit", "3071")
    assert ran.code == 2
    assert "3071" in ran.err
    assert moe("decode", encoded, "--scale", "2", "--pixel-limit", "3072").code == 0


@pytest.mark.parametrize("verb", ["decode", "info", "compare"])
def test_a_damaged_file_is_one_line(moe, encoded, verb):
    encoded.write_bytes(encoded.read_bytes()[:40])
    ran = moe(verb, *(["photo.png"] if verb == "compare" else []), encoded, "--quiet")
    assert ran.code == 2
    assert len(ran.errors) == 1
    assert "bug" not in ran.err


def test_info_tells_what_a_file_holds(moe, encoded):
    ran = moe("info", encoded, "--json")
    assert (ran.code, ran.err) == (0, "")
    (told,) = ran.objects
    assert (told["width"], told["height"], told["channels"], told["depth"]) == (32, 24, 3, 8)
    assert (told["kernels"], told["order"]) == (50, 0)
    assert told["bytes"] == encoded.stat().st_size
    assert told["output"] is None
    text = moe("info", encoded, "--quiet").out
    assert "32 x 24 px, RGB, 8 bits" in text
    assert "50 of order 0" in text


def test_compare_measures_and_draws(moe, encoded, tmp_path):
    ran = moe("compare", "photo.png", encoded, "photo.png", "--json")
    assert (ran.code, ran.err) == (0, "")
    of_file, of_itself = ran.objects
    assert of_file["bytes"] == encoded.stat().st_size
    assert of_file["psnr"] > 25
    assert (of_itself["psnr"], of_itself["ssim"]) == (None, 1.0)  # JSON has no infinity
    assert moe("compare", "photo.png", encoded, "-o", "map.png").code == 0
    assert _size("map.png") == (3 * 32 + 2 * 8, 24 + 22)
    assert moe("compare", "photo.png", encoded, "-o", "maps/").code == 0
    assert (tmp_path / "maps/photo.comparison.png").exists()
    ran = moe("compare", "photo.png", encoded, "-o", "photo.png", "--force")
    assert (ran.code, ran.out) == (2, "")
    assert "is an input" in ran.err


def test_folders_go_there_and_back(moe, picture, tmp_path):
    picture("in/a.png")
    picture("in/deep/b.png", mode="L")
    (tmp_path / "in/notes.txt").touch()
    assert moe("encode", "in", "-o", "files", "-r", *FAST).code == 0
    ran = moe("decode", "files", "-o", "out", "-r", "--json", "--scale", "2")
    assert [told["output"] for told in ran.objects] == ["out/a.x2.png", "out/deep/b.x2.png"]
    assert read_picture(tmp_path / "out/deep/b.x2.png").channels == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ there")
def test_ctrl_c_stops_a_real_fit_and_leaves_nothing(picture, tmp_path):
    picture("photo.png", size=(320, 240))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "moesaic", "encode", "photo.png", "--seconds", "60", "--experts", "500"]
    heeded = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        preexec_fn=heeded,  # noqa: PLW1509
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()  # the first line of progress, after some five seconds of fitting
        assert "left" in line
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert time.monotonic() - started < 25  # the fit would have gone on for a minute
    assert rest == "moesaic: interrupted; no half-written file was left\n"
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
