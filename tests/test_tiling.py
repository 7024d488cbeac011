"""Tiles against the whole picture, at every size and step; and what happens when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from moesaic.errors import ArgumentError, LimitError, ShapeError
from moesaic.tiling import is_out_of_memory, of_tensor, run_tiled, stream_tiled


@pytest.fixture(scope="module")
def network():
    """Two 3x3 convolutions: an output sees 2 px in each direction."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1))


@pytest.fixture(scope="module")
def picture():
    return torch.rand(2, 3, 100, 77, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tile", [17, 32, 48, 77, 100, 500, None])
@pytest.mark.parametrize("overlap", [8, 13, 16])
def test_tiled_equals_whole_where_a_quarter_of_the_overlap_covers_what_is_seen(network, picture, tile, overlap):
    with torch.no_grad():
        whole = network(picture)
    torch.testing.assert_close(run_tiled(network, picture, tile=tile, overlap=overlap), whole, rtol=0, atol=1e-6)


def test_a_smaller_overlap_shows(network, picture):  # so that the test above can fail
    with torch.no_grad():
        whole = network(picture)
    assert (run_tiled(network, picture, tile=32, overlap=4) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("multiple_of", [4, 8, 16])
def test_tiles_keep_the_step_of_the_network(multiple_of):
    """A network that shrinks by the step sees the same cells in every tile."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, multiple_of, stride=multiple_of), nn.Upsample(scale_factor=multiple_of, mode="nearest")
    )
    x = torch.rand(1, 3, 9 * multiple_of, 7 * multiple_of)
    with torch.no_grad():
        whole = network(x)
    tiled = run_tiled(network, x, tile=3 * multiple_of, overlap=multiple_of, multiple_of=multiple_of)
    torch.testing.assert_close(tiled, whole)


def test_other_sizes_are_filled_up_by_repetition():
    seen = []
    x = torch.rand(1, 1, 13, 10)

    def model(piece):
        seen.append(piece)
        return piece

    torch.testing.assert_close(run_tiled(model, x, tile=64, overlap=0, multiple_of=8), x)
    assert seen[0].shape == (1, 1, 16, 16)
    assert torch.equal(seen[0][..., 13:, :10], x[..., 12:, :].expand(-1, -1, 3, -1))


@settings(max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 24),
    share=st.floats(0, 0.99),
    multiple_of=st.integers(1, 7),
    scale=st.integers(1, 3),
)
def test_shares_of_tiles_always_sum_to_one(height, width, tile, share, multiple_of, scale):
    def model(piece):
        return piece.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    x = torch.rand(1, 2, height, width)
    tiled = run_tiled(model, x, tile=tile, overlap=int(share * tile), multiple_of=multiple_of, scale=scale)
    torch.testing.assert_close(tiled, model(x))


def test_blending_is_smooth():
    """Tiles that disagree meet in a ramp, not in a step."""
    number = iter(range(100))
    x = torch.zeros(1, 1, 8, 200)
    blended = run_tiled(lambda piece: torch.full_like(piece, next(number) % 2), x, tile=60, overlap=40)
    assert blended.min() == 0
    assert blended.max() == 1
    assert blended[0, 0, 0].diff().abs().max() < 0.1


def test_bands_are_finished_one_by_one(network, picture):
    heights = []

    def best(band):
        heights.append(band.shape[2])
        return band.argmax(1, keepdim=True).to(torch.uint8)

    found = run_tiled(network, picture, tile=32, overlap=8, finish=best)
    with torch.no_grad():
        assert torch.equal(found, network(picture).argmax(1, keepdim=True).to(torch.uint8))
    assert len(heights) > 2
    assert sum(heights) == 100


def test_progress_counts_to_the_end(network, picture):
    told = []
    run_tiled(network, picture, tile=64, overlap=8, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_gradients(network, picture):
    assert not run_tiled(network, picture.clone().requires_grad_(), tile=64, overlap=8).requires_grad


class Greedy:
    """Runs out of memory above a size."""

    def __init__(self, most, error):
        self.most, self.error, self.sizes = most, error, []

    def __call__(self, piece):
        self.sizes.append(max(piece.shape[-2:]))
        if self.sizes[-1] > self.most:
            raise self.error
        return piece


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
@pytest.mark.parametrize("tile", [None, 256])
def test_tiles_are_halved_when_memory_runs_out(error, tile, caplog):
    model = Greedy(40, error)
    x = torch.rand(1, 1, 100, 130)
    torch.testing.assert_close(run_tiled(model, x, tile=tile, overlap=8, multiple_of=4), x)
    first = sorted(set(model.sizes), reverse=True)
    assert first[0] == 132
    assert first[-1] <= 40
    assert "trying again" in caplog.text


def test_at_the_smallest_tile_it_is_a_limit(caplog):
    model = Greedy(3, MemoryError())
    with pytest.raises(LimitError, match="not enough memory even for tiles of 16 px"):
        run_tiled(model, torch.rand(1, 1, 100, 130), tile=64, overlap=8)
    assert model.sizes == [64, 32, 16]


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="kernel size"):
        run_tiled(Greedy(0, RuntimeError("kernel size")), torch.rand(1, 1, 9, 9), tile=4, overlap=0)
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tile": 0}, "tile"),
        ({"overlap": -1}, "overlap"),
        ({"multiple_of": 0}, "multiple_of"),
        ({"scale": 0}, "scale"),
        ({"tile": 8, "overlap": 8}, "larger than its overlap"),
    ],
)
def test_refuses_senseless_sizes(options, says):
    with pytest.raises(ArgumentError, match=says):
        run_tiled(nn.Identity(), torch.rand(1, 1, 9, 9), **({"overlap": 0} | options))


def test_refuses_what_is_no_picture_and_what_is_no_answer():
    for shape in ((3, 9, 9), (1, 3, 0, 9)):
        with pytest.raises(ShapeError, match="B, C, H, W"):
            run_tiled(nn.Identity(), torch.rand(shape))
    with pytest.raises(ShapeError, match="expected"):
        run_tiled(nn.MaxPool2d(2), torch.rand(1, 1, 20, 20), tile=8, overlap=2)


@pytest.mark.parametrize(
    "change",
    [
        {"tile": 8.5},
        {"tile": "8"},
        {"tile": True},
        {"overlap": 2.5},
        {"multiple_of": 1.5},
        {"scale": 1.5},
        {"scale": "2"},
    ],
)
def test_sizes_of_another_kind(change):
    with pytest.raises(ArgumentError, match=f"^{next(iter(change))} is a"):
        run_tiled(lambda x: x, torch.zeros(1, 3, 9, 9), **({"tile": 8, "overlap": 2} | change))


@pytest.mark.parametrize("x", [None, np.zeros((1, 3, 9, 9)), torch.zeros(1, 3, 9, 9, dtype=torch.uint8)])
def test_inputs_of_another_kind(x):
    with pytest.raises(ShapeError, match=r"^x "):
        run_tiled(lambda x: x, x)


@pytest.mark.parametrize("made", [None, 5, {"out": torch.zeros(1, 3, 9, 9)}])
def test_models_that_make_no_tensor(made):
    with pytest.raises(ShapeError, match="the model makes no tensor"):
        run_tiled(lambda x: made, torch.zeros(1, 3, 9, 9))


@pytest.mark.parametrize(("tile", "overlap", "multiple_of"), [(32, 8, 1), (30, 10, 4), (None, 8, 1), (17, 0, 1)])
def test_bands_are_the_rows_of_the_whole_and_taken_from_top_to_bottom(network, picture, tile, overlap, multiple_of):
    options = {"tile": tile, "overlap": overlap, "multiple_of": multiple_of, "finish": lambda band: band.mean(1, True)}
    tops, done = [], 0

    def take(top, bottom, left, right):
        assert done <= top < bottom <= 100  # no row above the bands that are out
        assert 0 <= left < right <= 77
        tops.append(top)
        return picture[..., top:bottom, left:right]

    bands = []
    for band in stream_tiled(network, take, (100, 77), **options):
        bands.append(band)
        done += band.shape[2]
    assert tops == sorted(tops)
    assert len(bands) == len(set(tops))
    assert torch.equal(torch.cat(bands, 2), run_tiled(network, picture, **options))


def test_memory_that_runs_out_before_the_first_band_halves_the_tiles(network, picture, caplog):
    def greedy(piece):
        if piece.shape[-1] > 40:
            raise MemoryError
        return network(piece)

    bands = list(stream_tiled(greedy, of_tensor(picture), (100, 77), tile=64, overlap=8))
    torch.testing.assert_close(torch.cat(bands, 2), run_tiled(network, picture, tile=32, overlap=8))
    assert "tiles of 32 px" in caplog.text


def test_memory_that_runs_out_later_ends_the_work(network, picture):
    calls = []

    def greedy(piece):
        calls.append(piece)
        if len(calls) == 9:  # with four tiles in a row, in the third row
            raise RuntimeError("out of memory")
        return network(piece)

    bands = stream_tiled(greedy, of_tensor(picture), (100, 77), tile=32, overlap=12)
    assert [next(bands).shape[2], next(bands).shape[2]] == [20, 20]
    with pytest.raises(LimitError, match="after 40 of 100 rows"):
        next(bands)


def test_the_smallest_tile_may_be_too_large(network, picture):
    def greedy(piece):
        raise MemoryError

    with pytest.raises(LimitError, match="even for tiles"):
        list(stream_tiled(greedy, of_tensor(picture), (100, 77), tile=64, overlap=8))


def test_wrong_sides_are_refused_when_bands_are_asked_for(network, picture):
    with pytest.raises(ArgumentError):
        next(stream_tiled(network, of_tensor(picture), (100, 77), tile=8, overlap=8))
