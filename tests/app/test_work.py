"""Each verb as a worker does it, on pictures of every kind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.app.limits import Limits
from moesaic.app.verbs import VERBS, Asked
from moesaic.app.work import work
from moesaic.errors import ArgumentError, MoesaicError, ShapeError
from moesaic.picture import Picture

QUICK: dict[str, dict[str, Any]] = {
    "encode": {"quality": "quick"},
    "denoise": {"quality": "quick", "noise": "10"},
    "upscale": {"scale": "2"},
}
PICTURES = [verb for verb, known in VERBS.items() if "picture" in known.accepts]


def run(folder: Path, verb: str, picture: Picture | None = None, **options: Any) -> tuple[dict[str, Any], list[Any]]:
    if picture is not None:
        moesaic.write_picture(picture, folder / "in.png", force=True)
        (folder / "in.png").rename(folder / "input")
    told: list[Any] = []
    result, draw = work(folder, Asked.read(verb, {**QUICK.get(verb, {}), **options}), "photo", Limits(), told.append)
    draw()
    return result, told


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def plain(photo: np.ndarray, **more: Any) -> Picture:
    return Picture(pixels=photo[:36, :48].copy(), **more)


@pytest.mark.parametrize("verb", PICTURES)
def test_each_verb(tmp_path, photo, verb):
    result, told = run(tmp_path, verb, plain(photo))
    factor = 2 if verb in ("upscale", "enlarge") else 1
    assert (result["width"], result["height"]) == (48 * factor, 36 * factor)
    assert result["bytes"] == (tmp_path / "result").stat().st_size
    assert result["name"].startswith("photo.")
    assert told[0]["step"] == "reading the picture"
    for view in {"before", "after"} & set(result["views"]):
        assert opened(tmp_path / view).size == (48 * factor, 36 * factor)
    for view in ("explain", "overlay", "legend"):
        assert (tmp_path / view).is_file() == (view in result["views"])
    if not result["mixture"]:
        assert moesaic.read_picture((tmp_path / "result").read_bytes()).width == 48 * factor


@pytest.mark.parametrize("verb", ["restore", "encode", "enlarge"])
@pytest.mark.parametrize("kind", ["grey", "alpha", "deep"])
def test_pictures_of_every_kind(tmp_path, photo, verb, kind):
    pixels = photo[:36, :48]
    picture = {
        "grey": Picture(pixels=pixels[..., :1].copy()),
        "alpha": Picture(pixels=np.concatenate([pixels, pixels[..., :1]], axis=2)),
        "deep": Picture(pixels=pixels[..., :1].copy(), depth=16),
    }[kind]
    result, _ = run(tmp_path, verb, picture)
    if verb == "encode":
        made = moesaic.decode(io.BytesIO((tmp_path / "result").read_bytes()))
    else:
        made = moesaic.read_picture((tmp_path / "result").read_bytes())
    assert (made.channels, made.depth) == (picture.channels, picture.depth)
    assert opened(tmp_path / "after").mode == ("RGBA" if kind == "alpha" else "RGB")
    assert result["width"] >= 48


def test_a_smaller_copy_is_worked_on_where_that_is_asked_for(tmp_path):
    picture = Picture(pixels=np.full((1200, 1500, 3), 0.5, np.float32))
    result, _ = run(tmp_path, "encode", picture, shrink="1", detail="less")
    assert result["width"] * result["height"] <= 1_000_000
    assert result["width"] / result["height"] == pytest.approx(1.25, abs=2e-3)
    assert result["psnr"] is None or result["psnr"] > 40


def test_a_mixture_is_opened_at_another_size(tmp_path, photo):
    moesaic.encode(plain(photo), tmp_path / "a.moe", experts=40, fast=True)
    (tmp_path / "a.moe").rename(tmp_path / "input")
    result, _ = run(tmp_path, "decode", scale=3.0)
    assert (result["name"], result["width"], result["views"][:2]) == ("photo.x3.png", 144, ["after", "explain"])
    wanted = moesaic.decode(io.BytesIO((tmp_path / "input").read_bytes()), scale=3)
    found = moesaic.read_picture((tmp_path / "result").read_bytes())
    assert np.abs(found.pixels - wanted.pixels.clip(0, 1)).max() <= 0.51 / 255


@pytest.mark.parametrize("verb", ["restore", "upscale", "encode", "enlarge", "segment"])
@pytest.mark.parametrize("kind", ["colour", "alpha", "grey"])
def test_maps_have_the_shape_of_the_picture_and_a_legend(tmp_path, photo, verb, kind):
    pixels = photo[:36, :48]
    shapes = {"colour": pixels, "alpha": np.concatenate([pixels, pixels[..., :1]], axis=2), "grey": pixels[..., :1]}
    run(tmp_path, verb, Picture(pixels=shapes[kind].copy()))
    laid = opened(tmp_path / "overlay").convert("RGBA")
    assert laid.width / laid.height == pytest.approx(48 / 36, rel=0.01)
    assert 48 <= laid.width <= Limits().view_side
    legend = json.loads((tmp_path / "legend").read_text())
    assert legend["told"].endswith(".")
    if verb == "segment":
        first = legend["keys"][0]
        assert first["label"].startswith("expert ")
        assert tuple(first["colour"]) in {colour[:3] for _, colour in laid.getcolors(2**24) or []}
    else:
        ats = [tick["at"] for tick in legend["scale"]["ticks"]]
        assert ats == sorted(ats)
        assert (ats[0], ats[-1]) == (0, 1)
    opaque = np.asarray(laid)[..., 3]
    assert (opaque.min() == 255) == (verb in ("encode", "segment"))  # of a change, what is alike shows through
    assert opaque.max() > 0
    if verb == "restore":
        assert any("expert" in note and "of the work" in note for note in legend["notes"])


def test_where_nothing_was_changed_the_map_is_clear(tmp_path, photo):
    run(tmp_path, "restore", plain(photo), strength=0.0)
    assert opened(tmp_path / "overlay").convert("RGBA").getextrema()[3] == (0, 0)
    assert "Nothing was changed" in json.loads((tmp_path / "legend").read_text())["told"]


@pytest.mark.parametrize("broken", [ValueError("no"), MemoryError(), ShapeError("no")])
def test_a_map_that_fails_costs_neither_the_result_nor_the_sheet(tmp_path, photo, monkeypatch, broken, caplog):
    def fails(*_: Any) -> None:
        raise broken

    monkeypatch.setattr("moesaic.app.overlays.pieces", fails)
    result, _ = run(tmp_path, "encode", plain(photo))
    assert result["bytes"] == (tmp_path / "result").stat().st_size
    assert (tmp_path / "explain").is_file()
    assert not (tmp_path / "overlay").exists()
    assert "a map could not be drawn" in caplog.text


def test_broken_input_is_an_error_of_ours(tmp_path):
    for data in (b"", b"\x89PNG\r\n\x1a\n", b"\x89MOE\r\n\x1a\n"):
        (tmp_path / "input").write_bytes(data)
        with pytest.raises(MoesaicError):
            run(tmp_path, "decode" if data[1:4] == b"MOE" else "restore")


def test_sizes_that_are_too_large_are_refused_with_advice():
    verb = VERBS["encode"]
    with pytest.raises(ArgumentError, match=r"100 megapixels.*at most 16 here\. Choose a smaller size"):
        verb.refuse_size(10_000, 10_000, verb.checked({}))
    verb.refuse_size(10_000, 10_000, verb.checked({"shrink": "12"}))
    with pytest.raises(ArgumentError, match="result would have 128 megapixels"):
        VERBS["enlarge"].refuse_size(2000, 1000, VERBS["enlarge"].checked({"scale": 8}))
