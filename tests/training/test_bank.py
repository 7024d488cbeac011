"""Pictures of any sizes in one tensor: what is read, what is cut out, and where the cuts fall."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, PictureError
from moesaic.training.bank import Bank, _halved, held_out, list_pictures, read_bank

SIDE = 8


def _write(path, height, width, mode="RGB"):
    """A picture whose red says its row, and whose green its column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    whole = np.stack([rows, columns, np.full_like(rows, height), np.full_like(rows, 255)], axis=2)
    pixels = {"RGB": whole[..., :3], "RGBA": whole, "L": rows}[mode]
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


@pytest.fixture
def folder(tmp_path):
    _write(tmp_path / "data" / "a.png", 20, 30)
    _write(tmp_path / "data" / "deep" / "b.png", 40, 12)
    _write(tmp_path / "data" / "deep" / "c.png", 16, 16)
    (tmp_path / "data" / "notes.txt").write_text("no picture")
    return tmp_path / "data"


@pytest.fixture
def bank(folder):
    return read_bank(list_pictures(folder))


def _picture(bank, number) -> torch.Tensor:  # (H, W, 3)
    height, width = int(bank.heights[number]), int(bank.widths[number])
    first = int(bank.offsets[number])
    return bank.pixels[first : first + height * width].view(height, width, 3)


def _orientations(picture):
    for turned in (picture, picture.transpose(-1, -2)):
        for flipped in (turned, turned.flip(-2)):
            yield from (flipped, flipped.flip(-1))


def test_a_folder_is_read_with_its_folders(bank, folder):
    assert bank.names == ("a.png", "deep/b.png", "deep/c.png")
    assert (bank.heights.tolist(), bank.widths.tolist(), bank.smallest) == ([20, 40, 16], [30, 12, 16], 12)
    for number, name in enumerate(bank.names):
        assert np.array_equal(_picture(bank, number).numpy(), np.asarray(Image.open(folder / name)))


def test_a_list_is_read_from_where_it_lies(folder):
    (folder / "list.txt").write_text("deep/b.png\n\n# not this one: deep/c.png\na.png\n")
    assert [name for name, _ in list_pictures(folder / "list.txt")] == ["a.png", "deep/b.png"]


@pytest.mark.parametrize(
    ("text", "says"),
    [("gone.png\n", "lists .*gone.png, which is not there"), ("", "names no picture"), (None, "No such file")],
)
def test_lists_that_cannot_be(tmp_path, text, says):
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(PictureError, match=says):
        list_pictures(tmp_path / "list.txt")


def test_one_picture_or_no_text_is_told_what_data_is(folder):
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
    for name, says in (("a.png", "is one picture; data is a folder"), ("list.txt", "is no text; data is a folder")):
        with pytest.raises(PictureError, match=says):
            list_pictures(folder / name)


def test_hidden_files_and_a_runs_own_pictures_are_left_out(folder):
    whole = list_pictures(folder)
    for name in (".trash/d.png", "deep/.d.png", "deep/run/samples/step.png", "samples/e.png"):
        _write(folder / name, 20, 20)
    assert list_pictures(folder, leave_out=folder / "deep" / "run") == sorted(
        [*whole, ("samples/e.png", folder / "samples" / "e.png")]
    )
    names = [name for name, _ in list_pictures(folder, leave_out=folder)]  # data and run in one folder
    assert names == ["a.png", "deep/b.png", "deep/c.png", "deep/run/samples/step.png"]
    _write(folder.parent / "samples" / "f.png", 20, 20)
    assert len(list_pictures(folder, leave_out=folder.parent)) == 5  # its samples lie elsewhere
    assert len(list_pictures(folder.parent, leave_out=folder.parent)) == 5


def test_grey_and_alpha(tmp_path):
    _write(tmp_path / "a.png", 10, 10, "L")
    _write(tmp_path / "b.png", 10, 10, "RGBA")
    Image.fromarray(np.zeros((10, 10, 4), np.uint8)).save(tmp_path / "c.png")
    bank = read_bank(list_pictures(tmp_path))
    assert (_picture(bank, 0)[3] == 3).all()
    assert _picture(bank, 1)[3, 4].tolist() == [3, 4, 10]
    assert (_picture(bank, 2) == 255).all()  # clear: white shows through


def test_small_pictures_are_left_out_with_one_warning(folder, caplog):
    with caplog.at_level(logging.WARNING):
        bank = read_bank(list_pictures(folder), least=16)
    assert bank.names == ("a.png", "deep/c.png")
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 pictures have a side below 16 px and are left out"
    ]
    with pytest.raises(PictureError, match="none of 3 pictures has sides of at least 41 px"):
        read_bank(list_pictures(folder), least=41)


def test_a_crop_is_a_place_of_a_picture_in_one_of_eight_orientations(bank):
    crops = bank.crops(torch.Generator().manual_seed(0), 200, SIDE)
    assert (crops.shape, crops.dtype) == ((200, 3, SIDE, SIDE), torch.uint8)
    assert crops.is_contiguous(memory_format=torch.channels_last)
    ways, places = set(), set()
    for crop in crops:
        number = [20, 40, 16].index(int(crop[2, 0, 0]))  # blue says which picture
        top, left = int(crop[0].min()), int(crop[1].min())
        assert top + SIDE <= bank.heights[number]
        assert left + SIDE <= bank.widths[number]
        wanted = _picture(bank, number)[top : top + SIDE, left : left + SIDE].permute(2, 0, 1)
        found = [way for way, turned in enumerate(_orientations(wanted)) if torch.equal(turned, crop)]
        assert len(found) == 1
        ways.add(found[0])
        places.add((number, top, left))
    assert ways == set(range(8))
    assert len(places) > 100
    assert {(2, 0), (2, 8)} <= {(number, top) for number, top, _ in places}  # the first row and the last one


def test_the_same_generator_gives_the_same_crops(bank):
    first = bank.crops(torch.Generator().manual_seed(3), 6, SIDE, shrink=0.5)
    assert torch.equal(first, bank.crops(torch.Generator().manual_seed(3), 6, SIDE, shrink=0.5))
    assert not torch.equal(first, bank.crops(torch.Generator().manual_seed(4), 6, SIDE, shrink=0.5))


def test_a_large_picture_is_seen_as_often_as_its_capped_pixels_say(bank):
    crops = bank.crops(torch.Generator().manual_seed(1), 4000, 4)
    chances = torch.tensor([600, 480, 256]).clamp(max=2 * 480) / 1336
    seen = torch.tensor([(crops[:, 2, 0, 0] == height).float().mean() for height in (20, 40, 16)])
    torch.testing.assert_close(seen, chances, atol=0.03, rtol=0)
    huge = Bank(
        torch.zeros(11000, 3, dtype=torch.uint8),
        *torch.tensor([[0, 500, 1000], [50, 50, 100], [10, 10, 100]]),
        ("a", "b", "c"),
    )
    huge.pixels[1000:] = 1
    assert huge.crops(torch.Generator().manual_seed(1), 4000, 4).float().mean() == pytest.approx(0.5, abs=0.03)


def test_shrunk_crops_are_means_of_four_where_the_picture_is_large_enough(bank):
    side = 8  # b.png is 12 px wide: too narrow for crops of 16
    crops = bank.crops(torch.Generator().manual_seed(2), 100, side, shrink=1.0)
    for crop in crops:
        height, spread = int(crop[2, 0, 0]), int(crop[0].max()) - int(crop[0].min())
        assert spread == (7 if height == 40 else 14)
    plain = bank.crops(torch.Generator().manual_seed(2), 100, side, shrink=0.0)
    assert all(int(crop[0].max()) - int(crop[0].min()) == 7 for crop in plain)


def test_halving_is_the_mean_of_four_pixels():
    pixels = torch.randint(0, 256, (2, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    means = torch.nn.functional.avg_pool2d(pixels.permute(0, 3, 1, 2).double(), 2)
    assert torch.equal(_halved(pixels).permute(0, 3, 1, 2), torch.floor(means + 0.5).to(torch.uint8))


def test_the_middle_of_every_picture(bank):
    middles = bank.centres(SIDE)
    assert middles.shape == (3, 3, SIDE, SIDE)
    for number in range(3):
        assert middles[number, 0, 0, 0] == (int(bank.heights[number]) - SIDE + 1) // 2
        assert middles[number, 1, 0, 0] == (int(bank.widths[number]) - SIDE + 1) // 2


def test_crops_beyond_a_picture_are_refused(bank):
    with pytest.raises(ArgumentError, match="a crop of 13 px is larger than a picture's side of 12 px"):
        bank.crops(torch.Generator(), 1, 13)
    with pytest.raises(ArgumentError, match="13 px"):
        bank.centres(13)


def test_held_out_pictures_are_settled_by_their_names():
    names = [f"picture{number}" for number in range(100)]
    kept = held_out(names, 0.05)
    assert len(kept) == 5
    assert kept == held_out(reversed(names), 0.05)
    assert kept < held_out(names, 0.1)
    assert len(kept & held_out([*names, "one more"], 0.05)) >= 4
    assert [len(held_out(some, 0.01)) for some in (names[:1], names[:2])] == [0, 1]
    assert held_out(names, 0) == set()


def test_a_split_parts_the_pictures(bank):
    train, val = bank.split({"deep/b.png"})
    assert (train.names, val.names) == (("a.png", "deep/c.png"), ("deep/b.png",))
    assert torch.equal(_picture(val, 0), _picture(bank, 1))
    assert set(train.crops(torch.Generator(), 50, SIDE)[:, 2, 0, 0].tolist()) == {20, 16}
    assert bank.split({"other"}) == (bank, None)


def test_the_fingerprint_sees_pixels_sizes_and_names(folder, bank):
    first = bank.fingerprint()
    assert read_bank(list_pictures(folder)).fingerprint() == first
    (folder / "a.png").rename(folder / "aa.png")
    assert read_bank(list_pictures(folder)).fingerprint() != first
    (folder / "aa.png").rename(folder / "a.png")
    bank.pixels[5, 0] += 1
    assert bank.fingerprint() != first


@pytest.mark.gpu
def test_crops_are_the_same_on_the_gpu(bank):
    for seed in range(3):
        there = bank.to("cuda").crops(torch.Generator().manual_seed(seed), 20, SIDE, shrink=0.5)
        assert torch.equal(there.cpu(), bank.crops(torch.Generator().manual_seed(seed), 20, SIDE, shrink=0.5))
    assert bank.near(torch.device("cuda")).pixels.is_cuda


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_something_is_left_to_learn_from(share):
    assert len(held_out(["a", "b"], share)) == 1
    assert not held_out(["a"], share)
