"""explain(): one call for the five systems, and refusals that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import moesaic
from moesaic.errors import ArgumentError, FormatError, LimitError, ModelError, PictureError
from moesaic.explain.use import KINDS, explain, explainer


@pytest.fixture
def file(tmp_path, make_mixture):
    path = tmp_path / "a.moe"
    moesaic.save(make_mixture(40), path)
    return path


def test_a_file(file):
    found = moesaic.explain(str(file))
    assert (found.kind, found.title, found.figures["kernels"]) == ("mixture", "a.moe", 40)
    assert found.figures["bytes"] == file.stat().st_size
    against = explain(file, against=moesaic.decode(file))
    assert against.figures["psnr"] == float("inf")


def test_a_picture_as_a_mixture(photo):
    found = explain(photo, "mixture")
    assert (found.title, found.figures["kernels"]) == ("picture", round(photo.shape[0] * photo.shape[1] / 40))
    assert found.figures["psnr"] > 20


@pytest.mark.parametrize(
    ("kind", "figures"),
    [
        ("restoration", ("detected", "experts", "cost")),
        ("upscaling", ("severity", "ranks", "zero_slots")),
        ("segmentation", ("shares", "layers")),
    ],
)
def test_networks(photo, kind, figures):
    found = explain(photo[:64, :64], kind, device="cpu")
    assert found.kind == kind
    assert set(figures) <= set(found.figures)
    assert found.picture.channels == 3
    assert found.hover is None


def test_kinds_are_all_known():
    with pytest.raises(
        ArgumentError, match="known are mixture, prediction, restoration, upscaling, segmentation, routing"
    ):
        explainer("else")
    for kind in KINDS:
        with pytest.raises(ModelError):
            explainer(kind, model="no_such_model", device="cpu")


def test_wrong_inputs(file, tmp_path, photo):
    with pytest.raises(ArgumentError, match=r"a\.moe holds a mixture; --as upscaling takes a picture"):
        explain(file, "upscaling")
    with pytest.raises(ArgumentError, match=r"say what to explain.* mixture, prediction, .* or routing"):
        explain(photo)
    with pytest.raises(ArgumentError, match="no 'else' to explain"):
        explain(photo, "else")
    with pytest.raises(ArgumentError, match="its own source"):
        explain(photo, "mixture", against=photo)
    with pytest.raises(ArgumentError, match="cannot read"):
        explain(tmp_path / "none.moe")
    with pytest.raises(PictureError):
        explain(tmp_path / "none.png", "mixture")
    (tmp_path / "bad.moe").write_bytes(b"no mixture")
    with pytest.raises(FormatError):
        explain(tmp_path / "bad.moe")
    with pytest.raises(LimitError):
        explain(file, pixel_limit=100)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(LimitError):
        explain(tmp_path / "a.png", "mixture", pixel_limit=100)
