"""Large pictures through the verbs: from disk to disk in bands, with what comes out as if they were small."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import moesaic
from moesaic import picture_files, png_rows, rows
from moesaic.mixture import render
from moesaic.png16 import encode_png16


@pytest.fixture
def by_rows(monkeypatch):
    """Makes every picture a large one, and says which were read as a whole."""
    whole = []
    real = picture_files.read_file

    def read_file(source, **options):
        whole.append(source)
        return real(source, **options)

    def change():
        monkeypatch.setattr(rows, "LARGE", 0)
        monkeypatch.setattr(render, "_BAND", 1)
        monkeypatch.setattr(picture_files, "read_file", read_file)
        monkeypatch.setattr(png_rows, "_STEP", 16)
        whole.clear()
        return whole

    return change


def photo(height=150, width=100):
    return data.astronaut()[:height, 100 : 100 + width]


def sources(folder):
    made = photo()
    grey = made[..., 1]
    alpha = np.dstack([made, np.where(np.arange(150)[:, None] < 75, 255, grey)]).astype(np.uint8)
    Image.fromarray(made).save(folder / "rgb.png", icc_profile=b"no profile at all")
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(made).save(folder / "photo.jpg")
    (folder / "deep.png").write_bytes(encode_png16(made.astype(np.uint16) * 257))
    return [folder / name for name in ("rgb.png", "grey.png", "alpha.png", "photo.jpg", "deep.png")]


def without_clock(objects):
    return [
        {key: value for key, value in one.items() if key not in ("seconds", "output", "explained")} for one in objects
    ]


VERBS = {
    "restore": ["--tile", "96"],
    "restore, half": ["--tile", "96", "--strength", "0.5"],
    "restore, none": ["--strength", "0"],
    "upscale": ["--scale", "2", "--tile", "40"],
    "upscale, set": ["--scale", "2", "--severity", "0.3"],
    "segment": [],
    "segment, labels": ["--labels"],
    "segment, full": ["--scale", "full", "--tile", "64", "--no-legend"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_comes_out_is_what_the_whole_gives(verb, moe, by_rows, tmp_path, monkeypatch):
    given = sources(tmp_path)
    name = verb.partition(",")[0]
    if name == "segment":
        monkeypatch.setattr("moesaic.segment.use._BAND", 2**16)
        monkeypatch.setattr("moesaic.segment.streaming._ROWS", 32)
    told = {}
    for folder in ("whole", "bands"):
        read = by_rows() if folder == "bands" else None
        ran = moe(name, *given, "-o", f"{folder}/", *VERBS[verb], "--json")
        assert ran.code == 0, ran.err
        told[folder] = without_clock(ran.objects)
        if read is not None:
            assert not read
    for one, other in zip(told["whole"], told["bands"], strict=True):
        assert one.pop("changed", 0) == pytest.approx(other.pop("changed", 0), abs=2e-4)
        assert one == other
    for path in sorted((tmp_path / "whole").iterdir()):
        one, other = moesaic.read_picture(path), moesaic.read_picture(tmp_path / "bands" / path.name)
        assert (one.depth, one.icc, one.exif, one.xmp) == (other.depth, other.icc, other.exif, other.xmp)
        assert one.pixels.shape == other.pixels.shape
        assert np.array_equal(one.pixels, other.pixels), (path.name, np.abs(one.pixels - other.pixels).max() * 255)
    assert not [path for path in (tmp_path / "bands").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "options", [["--scale", "2.5"], ["--region", "3.5,-8,60,40", "--size", "90x170"], ["--depth", "16"]]
)
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_decode(options, name, moe, by_rows, tmp_path):
    moesaic.save(moesaic.predict(photo(64, 96), experts=150), tmp_path / "a.moe", depth=8, xmp=b"<x/>")
    if name == "a.webp" and "16" in options:
        options = []
    assert moe("decode", "a.moe", "-o", f"whole_{name}", *options, "--quiet").code == 0
    by_rows()
    ran = moe("decode", "a.moe", "-o", name, *options, "--json")
    assert ran.code == 0, ran.err
    one, other = moesaic.read_picture(f"whole_{name}"), moesaic.read_picture(name)
    assert (other.width, other.height, other.xmp) == (one.width, one.height, one.xmp)
    assert ran.objects[0]["bytes"] == (tmp_path / name).stat().st_size
    if "--depth" not in options and name == "a.png":
        assert np.abs(one.pixels - other.pixels).max() * 255 < 1.01  # bands leave out other kernels
        assert (one.pixels != other.pixels).mean() < 1e-3
        scale = {options[0][2:]: float(options[1])} if options[0] == "--scale" else None
        if scale:
            assert np.array_equal(np.rint(moesaic.decode("a.moe", **scale).pixels * 255), np.rint(other.pixels * 255))


@pytest.mark.parametrize(("verb", "options"), [("restore", []), ("upscale", ["--scale", "2"])])
def test_explained(verb, options, moe, by_rows, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    read = by_rows()
    ran = moe(verb, "a.png", "-o", "b.png", "--explain", *options, "--json")
    assert ran.code == 0, ran.err
    assert not read
    assert moesaic.read_picture(ran.objects[0]["explained"]).width == 1200
    again = moe(verb, "a.png", "-o", "c.png", "--explain", *options)
    assert again.code == 0
    (tmp_path / "d.explained.png").write_bytes(b"mine")
    refused = moe(verb, "a.png", "-o", "d.png", "--explain", *options)
    assert refused.code == 2
    assert not (tmp_path / "d.png").exists()


@pytest.mark.parametrize(
    ("verb", "options"), [("restore", ["--tile", "96"]), ("upscale", ["--scale", "2"]), ("segment", [])]
)
def test_damage_found_on_the_way_leaves_nothing(verb, options, moe, by_rows, tmp_path):
    raw = b"".join(b"\0" + row.tobytes() for row in photo())
    idat = png_rows.chunk(b"IDAT", zlib.compress(raw[:-100]))
    path = tmp_path / "a.png"
    path.write_bytes(png_rows.head_chunks(100, 150, 3, 8) + idat + png_rows.chunk(b"IEND", b""))
    by_rows()
    ran = moe(verb, "a.png", "-o", "b.png", "--quiet", *options)  # a slow machine would tell of its progress
    assert ran.code == 2
    assert len(ran.errors) == 1, ran.err
    assert "a.png" in ran.errors[0]
    assert "rows are missing" in ran.errors[0]
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("verb", ["restore", "upscale", "segment"])
def test_bad_input_is_refused_as_ever(verb, moe, by_rows, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    Image.fromarray(photo()).convert("RGBA").save(tmp_path / "alpha.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "there.png").write_text("mine")
    cut = io.BytesIO()
    Image.fromarray(photo()).save(cut, "PNG")
    (tmp_path / "cut.png").write_bytes(cut.getvalue()[:5000])
    before = sorted(tmp_path.iterdir())
    by_rows()
    for arguments in (
        ["text.png", "-o", "b.png"],
        ["cut.png", "-o", "b.png"],
        ["none.png", "-o", "b.png"],
        ["alpha.png", "-o", "b.jpg"],
        ["a.png", "-o", "there.png"],
        ["a.png", "-o", "b.png", "--pixel-limit", "10"],
    ):
        ran = moe(verb, *arguments, "--quiet")  # a slow machine would tell of its progress
        assert ran.code == 2, (arguments, ran.err)
        assert len(ran.errors) == 1, ran.err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.png").read_text() == "mine"


def test_routing_is_drawn_of_the_whole(moe, by_rows, tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    read = by_rows()
    ran = moe("segment", "a.png", "--routing")
    assert ran.code == 0, ran.err
    assert read


def test_a_batch_goes_by_rows_too(moe, by_rows, tmp_path):
    del by_rows  # workers are processes of their own: this only tells that the verb's work can be handed over
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(40, 50)).save(tmp_path / "in" / "a.png")
    ran = moe("batch", "restore", "in", "-o", "out", "--workers", "1")
    assert ran.code == 0, ran.err


RUN = """
import sys
from moesaic import rows
from moesaic.cli import main
from moesaic.restore import tiled
rows.LARGE = 0
tiled.WHOLE, tiled.PIECES = 100_000, 2  # as small beside these pictures as they are beside large ones
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
print(code, status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
@pytest.mark.parametrize(
    ("verb", "options", "width"),
    [
        ("restore", ["--tile", "128", "--device", "cpu"], 200),
        ("segment", ["--scale", "full", "--tile", "128", "--device", "cpu"], 400),
        ("decode", ["--size"], 1000),
    ],
)
def test_memory_does_not_grow_with_the_height(verb, options, width, tmp_path):
    peaks = []
    for height in (600, 6000):
        source = tmp_path / f"{height}.png"
        if verb == "decode":
            source = tmp_path / "a.moe"
            moesaic.save(moesaic.predict(photo(64, 96), experts=50), source, force=True)
            chosen = [*options, f"{width}x{height * 2}"]
        else:
            Image.fromarray(photo(512, 400)).resize((width, height)).save(source)
            chosen = options
        words = [verb, source, "-o", tmp_path / f"{height}.made.png", "--quiet", *chosen]
        ran = subprocess.run([sys.executable, "-c", RUN, *map(str, words)], check=True, capture_output=True, text=True)
        code, peak = re.findall(r"\d+", ran.stdout)[-2:]
        assert code == "0", ran.stderr
        peaks.append(int(peak) / 1024)
    more = 5400 * width * (2 if verb == "decode" else 1) / 2**20  # megapixels
    assert peaks[1] - peaks[0] < 24 * more, peaks  # MiB; a picture and a result in floats are 24 bytes a pixel
