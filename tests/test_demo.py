"""The program behind `make demo`: its files, its table, and the picture that it draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from moesaic.image import Picture, read_picture


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).parents[1] / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_photograph_goes_there_and_back(demo, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    Image.fromarray(np.rint(photo * 255).astype(np.uint8)).save("photo.jpg")
    assert demo.main(["photo.jpg"]) == 0
    assert read_picture("demo/photo.png").pixels.shape == (96, 128, 3)
    assert read_picture("demo/photo.x4.png").pixels.shape == (384, 512, 3)
    assert read_picture("demo/comparison.png").width > 256
    table = capsys.readouterr().out
    assert f"{Path('demo/photo.moe').stat().st_size:,}" in table
    for row in ("encode to photo.moe", "decode x1", "decode x4 (512x384)", "JPEG of that size"):
        assert row in table


def test_what_is_no_photograph_is_one_line_and_code_2(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert demo.main(["missing.jpg"]) == 2
    assert "missing.jpg" in capsys.readouterr().err
    assert not Path("demo").exists()


def test_a_large_photograph_is_shrunk_and_keeps_its_shape(demo):
    large = Picture(pixels=np.full((1000, 4000, 4), 0.5, np.float32), depth=16)
    prepared = demo._prepared(large)
    assert (prepared.width, prepared.height, prepared.channels, prepared.depth) == (2000, 500, 3, 8)


def test_the_jpeg_is_the_largest_that_fits(demo, photo):
    picture = Picture(pixels=photo)
    sizes = [len(demo._jpeg_of_size(picture, most)) for most in (1, 2000, 4000, 10**6)]
    assert sizes == sorted(set(sizes))
    assert sizes[1] <= 2000
    assert 3000 < sizes[2] <= 4000


@pytest.mark.parametrize("size", [(451, 300), (1500, 600), (5, 3), (1, 900)])
def test_the_comparison_holds_every_panel(demo, size):
    width, height = size
    same = Picture(pixels=np.full((height, width, 3), 0.25, np.float32))
    large = Picture(pixels=np.full((height * 4, width * 4, 3), 0.75, np.float32))
    sheet = demo.comparison(same, same, large, None, "label")
    values = np.asarray(sheet)[..., 0]
    assert (values == 64).any()
    assert (values == 191).any()
    assert sheet.width <= 2 * demo.PANEL + 3 * demo.GAP


def test_the_detail_is_where_the_edges_are(demo):
    pixels = np.zeros((60, 80, 3), np.float32)
    pixels[40:50:2, 60:70] = 1
    left, top = demo._corner(Picture(pixels=pixels), (16, 16), None)
    assert left <= 60 <= 70 <= left + 16
    assert top <= 40 <= 50 <= top + 17
