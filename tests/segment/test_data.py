"""Folders of pictures and label maps: what is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, LimitError, PictureError, ShapeError
from moesaic.files import name_of
from moesaic.segment.data import (
    CAMVID,
    Classes,
    FolderData,
    fit_labels,
    fit_picture,
    read_labels,
    spread_colours,
)

ROADS = Classes(names=("road", "car"), colours=((128, 64, 128), (0, 0, 142)), ignore=7)


def _save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if mode == "P":
        image = Image.fromarray(array, mode="L").convert("L")
        image = image.copy()
        image.putpalette([0, 0, 0] * 256)
    image.save(path)
    return path


@pytest.fixture
def general(tmp_path):
    """The general layout: two classes, one split."""
    for number in range(2):
        _save(tmp_path / f"images/train/{number}.jpg", np.full((8, 10, 3), 90 * number, np.uint8))
        _save(tmp_path / f"labels/train/{number}.png", np.full((8, 10), number, np.uint8))
    (tmp_path / "classes.json").write_text(json.dumps({"names": ["road", "car"], "ignore": 7}))
    return tmp_path


def test_camvid_s_layout(camvid):
    data = FolderData(camvid)
    assert data.splits == ("train", "val")
    assert data.classes is CAMVID
    store = data.read("train")
    assert (tuple(store.pictures.shape), store.pictures.dtype) == ((9, 3, 32, 40), torch.uint8)
    assert store.names[0] == "t0.png"
    with Image.open(camvid / "train" / "t3.png") as image:
        assert torch.equal(store.pictures[3], torch.from_numpy(np.array(image)).permute(2, 0, 1))
    with Image.open(camvid / "trainannot" / "t3.png") as image:
        ids = torch.from_numpy(np.array(image))
    assert torch.equal(store.labels[3], torch.where(ids == 11, 255, ids))


def test_the_general_layout(general):
    data = FolderData(general)
    assert (data.splits, data.classes.names) == (("train",), ("road", "car"))
    assert len(set(data.classes.colours)) == 2
    store = data.read("train")
    assert store.labels.unique().tolist() == [0, 1]


def test_a_size_scales_pictures_smoothly_and_labels_by_centre(camvid):
    store = FolderData(camvid).read("val", (16, 20), limit=2)
    assert (tuple(store.pictures.shape), tuple(store.labels.shape)) == ((2, 3, 16, 20), (2, 16, 20))
    assert set(store.labels.unique().tolist()) <= {0, 1, 8, 255}


def test_halving_is_a_smooth_mean():
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    halved = fit_picture(picture, (4, 4))
    assert float(halved.std()) < float(picture.std())  # nothing is picked out
    torch.testing.assert_close(fit_picture(torch.full((3, 9, 7), 0.3), (4, 5)), torch.full((3, 4, 5), 0.3))
    assert fit_picture(picture, (8, 8)) is picture


def test_labels_take_what_is_at_their_centre():
    labels = torch.arange(6, dtype=torch.uint8).repeat(2, 1)
    assert fit_labels(labels, (2, 3)).tolist() == [[1, 3, 5]] * 2
    assert fit_labels(labels, (2, 2)).tolist() == [[1, 4]] * 2
    assert torch.equal(fit_labels(labels, (2, 6)), labels)
    assert fit_labels(labels, (4, 12)).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]] * 4


def test_ids_palettes_and_colours_mean_the_same(tmp_path):
    ids = np.array([[0, 1, 7, 255]], np.uint8)
    wanted = [[0, 1, 255, 255]]
    assert read_labels(_save(tmp_path / "l.png", ids), ROADS).tolist() == wanted
    assert read_labels(_save(tmp_path / "p.png", ids, "P"), ROADS).tolist() == wanted
    assert read_labels(_save(tmp_path / "i16.png", ids.astype(np.uint16)), ROADS).tolist() == wanted
    colours = np.array([[(128, 64, 128), (0, 0, 142), (0, 0, 0), (0, 0, 0)]], np.uint8)
    assert read_labels(_save(tmp_path / "rgb.png", colours), ROADS).tolist() == wanted
    opaque = np.concatenate([colours, np.full((1, 4, 1), 255, np.uint8)], axis=2)
    assert read_labels(_save(tmp_path / "rgba.png", opaque), ROADS).tolist() == wanted


def test_labels_outside_the_classes_are_named(tmp_path):
    with pytest.raises(PictureError, match=r"l\.png holds label 2: allowed are 0 to 1, and 7 to be ignored"):
        read_labels(_save(tmp_path / "l.png", np.array([[0, 2]], np.uint8)), ROADS)
    with pytest.raises(PictureError, match="holds label 300"):
        read_labels(_save(tmp_path / "i.png", np.array([[0, 300]], np.uint16)), ROADS)
    with pytest.raises(
        PictureError, match=r"the colour \(1, 2, 3\), which is no class: allowed are road \(128, 64, 128\)"
    ):
        read_labels(_save(tmp_path / "c.png", np.array([[(1, 2, 3)]], np.uint8)), ROADS)
    with pytest.raises(PictureError, match="not LA"):
        read_labels(_save(tmp_path / "la.png", np.zeros((2, 2, 2), np.uint8)), ROADS)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"no\.png: no label map that can be read"):
        read_labels(tmp_path / "no.png", ROADS)


def test_what_a_folder_lacks(tmp_path, camvid, general):
    with pytest.raises(PictureError, match="there is no such folder"):
        FolderData(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="neither layout"):
        FolderData(tmp_path / "empty")
    with pytest.raises(ArgumentError, match=r"split 'test' is not in .*; choose one of train, val"):
        FolderData(camvid).files("test")
    (general / "classes.json").unlink()
    with pytest.raises(PictureError, match=r"classes\.json: there is no such file"):
        FolderData(general)


def test_pairs_must_be_complete(camvid):
    (camvid / "trainannot" / "t4.png").unlink()
    with pytest.raises(PictureError, match=r"t4\.png has no label map"):
        FolderData(camvid).read("train")
    (camvid / "valannot" / "more.png").write_bytes(b"")
    with pytest.raises(PictureError, match=r"more\.png has no picture"):
        FolderData(camvid).read("val")


def test_sizes_must_agree(camvid):
    _save(camvid / "train" / "t0.png", np.zeros((32, 30, 3), np.uint8))
    with pytest.raises(PictureError, match=r"t0\.png is 40x32 and its picture t0\.png 30x32"):
        FolderData(camvid).read("train")
    _save(camvid / "trainannot" / "t0.png", np.zeros((32, 30), np.uint8))
    with pytest.raises(ShapeError, match="state the size"):
        FolderData(camvid).read("train")
    assert FolderData(camvid).read("train", (16, 16)).size == (16, 16)


def test_grey_and_transparent_pictures_become_rgb(camvid):
    _save(camvid / "train" / "t0.png", np.full((32, 40), 7, np.uint8))
    _save(camvid / "train" / "t1.png", np.full((32, 40, 4), 9, np.uint8))
    store = FolderData(camvid).read("train")
    assert store.pictures[0].unique().tolist() == [7]
    assert store.pictures[1].unique().tolist() == [9]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "must be JSON"),
        ("[]", "must be JSON"),
        ('{"names": ["a"], "colours": [[1, 2]]}', "must be JSON"),
        ('{"names": []}', "1 to 255 names"),
        ('{"names": ["a", "b"], "colours": [[1, 2, 3]]}', "2 and 1"),
        ('{"names": ["a", "b"], "ignore": 1}', "ignore 1 is the class 'b'"),
    ],
)
def test_classes_that_cannot_be(general, text, says):
    (general / "classes.json").write_text(text)
    with pytest.raises(ArgumentError, match=says):
        FolderData(general)


def test_spread_colours_differ():
    assert len(set(spread_colours(40))) == 40


def test_real_frames(shared):
    folder = shared / "camvid"
    if not folder.is_dir():
        pytest.skip("CamVid is not there")
    data = FolderData(folder)
    assert [len(data.files(split)) for split in ("train", "val", "test")] == [367, 101, 233]
    store = data.read("test", limit=2)
    assert (store.size, int(store.labels[store.labels != 255].max()) < 11) == ((360, 480), True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"names": "road"}', "names must be a list"),
        ('{"names": ["a", "a"]}', "'a' comes twice"),
        ('{"names": ["a"], "ignore": "x"}', "must be JSON"),
        ('{"names": ["a"], "ignore": -100}', "ignore -100 is no id of 16 bits"),
        ('{"names": ["a"], "ignore": 1e9}', "ignore 1000000000 is no id"),
        ('{"names": ["a"], "ignore": Infinity}', "must be JSON"),
        ('{"names": ["a"], "colours": [[300, 0, 0]]}', r"the colour \(300, 0, 0\) is none"),
        ('{"names": ["a"], "ignore_colour": [0, 0, -1]}', "the colour"),
        ("[" * 100_000, "must be JSON"),
    ],
)
def test_classes_that_mean_harm(general, text, says):
    (general / "classes.json").write_text(text)
    with pytest.raises(ArgumentError, match=says) as caught:
        FolderData(general)
    assert str(caught.value).startswith(str(general / "classes.json"))
    assert "\n" not in str(caught.value)


def test_one_colour_for_two_classes_cannot_be_read_back(tmp_path):
    classes = Classes(names=("a", "b"), colours=((1, 2, 3), (1, 2, 3)))
    assert read_labels(_save(tmp_path / "ids.png", np.array([[0, 1]], np.uint8)), classes).tolist() == [[0, 1]]
    with pytest.raises(PictureError, match=r"\(1, 2, 3\) stands for several classes"):
        read_labels(_save(tmp_path / "rgb.png", np.array([[(1, 2, 3)]], np.uint8)), classes)


def test_sizes_beyond_measure(camvid):
    with pytest.raises(LimitError, match="size: 1000000x1000000 has more than"):
        FolderData(camvid).read("val", (10**6, 10**6))


@pytest.mark.parametrize("root", [5, None, "a\0b", "x" * 5000])
def test_folders_of_another_kind(root):
    with pytest.raises(PictureError):
        FolderData(root)


def test_a_folder_that_may_not_be_read(camvid, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PictureError, match="the folder cannot be read: Permission denied"):
        FolderData(camvid)


def test_label_maps_that_decoders_stumble_over(tmp_path, monkeypatch):
    path = _save(tmp_path / "l.png", np.zeros((4, 4), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(PictureError, match=r"l\.png: no label map that can be read"):
        read_labels(path, ROADS)
    monkeypatch.setattr(Image, "open", lambda _: 1 / 0)
    with pytest.raises(PictureError, match=r"l\.png: no label map that can be read \(division by zero\)"):
        read_labels(path, ROADS)


def test_folders_are_called_by_their_own_name(camvid, monkeypatch):
    monkeypatch.chdir(camvid)
    assert name_of(FolderData(".").root) == name_of(camvid) == "data"
