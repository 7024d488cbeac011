"""Plain statistics of a picture: values by hand, and that those of a picture are the mean of those of its pieces."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from moesaic.restore.statistics import STATISTICS, Reader, described, moments

MAPS = STATISTICS // 2  # colours, darkest, brightest, darkest around; then slopes and corners of 1, 2, 4 and 8 px
SLOPES, CORNERS = slice(6, MAPS, 2), slice(7, MAPS, 2)


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed))


def test_a_flat_picture():
    colour = torch.tensor([0.2, 0.5, 0.7])
    mean, square = moments(colour[None, :, None, None].expand(1, 3, 32, 48)).chunk(2, dim=1)
    levels = torch.tensor([[0.2, 0.5, 0.7, 0.2, 0.7, 0.2]])
    torch.testing.assert_close(mean, torch.cat([levels, torch.zeros(1, 8)], 1))
    torch.testing.assert_close(square, torch.cat([levels.square(), torch.zeros(1, 8)], 1))


def test_a_checkerboard_has_corners_at_its_own_scale_alone():
    """Of squares of 2 px, black and white: at 1 px it is flat, at 2 px all corners, above it a grey."""
    rows, columns = torch.meshgrid(torch.arange(32) // 2, torch.arange(32) // 2, indexing="ij")
    mean, square = moments(((rows + columns) % 2).float().expand(2, 3, 32, 32)).chunk(2, dim=1)
    levels = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.5, 0.0]]).expand(2, 6)
    torch.testing.assert_close(mean[:, :6], levels)
    torch.testing.assert_close(square[:, :6], levels)  # each map holds only 0 and 1
    assert (mean[:, SLOPES] == 0).all()
    assert mean[:, CORNERS].tolist() == square[:, CORNERS].tolist() == [[0, 1, 0, 0]] * 2  # |1 - 0 - 0 + 1| / 2


def test_stripes_have_slopes():
    stripes = (torch.arange(16) % 2).float().expand(1, 3, 16, 16)  # upright, of 1 px
    mean, square = moments(stripes).chunk(2, dim=1)
    assert mean[:, SLOPES].tolist() == [[0.5, 0, 0, 0]]  # (|-1 - 1| + 0) / 4
    assert square[:, SLOPES].tolist() == [[0.25, 0, 0, 0]]
    assert (mean[:, CORNERS] == 0).all()


def test_the_colours_count_alike_in_what_is_strong():
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = (torch.arange(16) % 2).float()
    assert moments(red)[0, 6] == pytest.approx(0.5 / 3)
    assert moments(red)[0, :6].tolist() == [0.5, 0, 0, 0, 0.5, 0]


def test_of_pieces_they_average_to_those_of_the_whole():
    """Cut at multiples of 32 px, but for the darkest around, which looks past the cut."""
    x = pictures(2, 64, 96)
    pieces = [x[..., rows, columns] for rows in (slice(32), slice(32, 64)) for columns in (slice(64), slice(64, 96))]
    areas = torch.tensor([float(piece.shape[2] * piece.shape[3]) for piece in pieces])
    mean = (torch.stack([moments(piece) for piece in pieces], -1) * areas).sum(-1) / areas.sum()
    elsewhere = torch.arange(STATISTICS) % MAPS != 5
    torch.testing.assert_close(mean[:, elsewhere], moments(x)[:, elsewhere], atol=1e-6, rtol=1e-5)

    x[..., ::8, ::8] = x[..., 1::8, ::8] = x[..., ::8, 1::8] = x[..., 1::8, 1::8] = 0  # black in every window of 14 px
    mean = (torch.stack([moments(piece) for piece in pieces], -1) * areas).sum(-1) / areas.sum()
    torch.testing.assert_close(mean, moments(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (17, 31)])
def test_odd_sides_are_filled_by_their_edge(size):
    x = pictures(2, *size)
    found = moments(x)
    assert found.shape == (2, STATISTICS)
    assert found.isfinite().all()
    filled = nn.functional.pad(x, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    torch.testing.assert_close(found, moments(filled), rtol=0, atol=0)
    assert described(found).isfinite().all()


def test_in_float32_whatever_the_rest_is_in():
    x = pictures(1, 32, 32)
    wanted = moments(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = moments(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)
    assert torch.equal(moments(x.bfloat16()), moments(x.bfloat16().float()))


def test_described_by_hand():
    held = torch.zeros(STATISTICS)
    held[0], held[MAPS] = 0.5, 0.25 + 0.04  # red: mean 1/2, spread 0.2
    held[6], held[MAPS + 6] = 0.1, 0.09  # slopes of 1 px
    told, nothing = described(held), 3 + math.log(1e-3)
    assert told[:6].tolist() == pytest.approx([0, -2, -2, -2, -2, -2])
    assert told[6].item() == pytest.approx(3 + math.log(0.2 + 1e-3), abs=1e-5)
    assert told[7:12].tolist() == pytest.approx([nothing] * 5)
    assert told[12].item() == pytest.approx(3 + math.log(0.1 + 1e-3))
    assert told[20].item() == pytest.approx(3 + math.log(0.3 + 1e-3))
    assert told[21:].tolist() == pytest.approx([nothing] * 7)


def test_they_tell_noise_from_a_clean_picture_and_are_of_about_unit_size():
    smooth = nn.functional.interpolate(pictures(8, 8, 8), size=(96, 96), mode="bicubic").clamp(0, 1)
    noisy = (smooth + 0.1 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    clean, other = described(moments(smooth)), described(moments(noisy))
    assert max(clean.abs().max(), other.abs().max()) < 5
    assert (other - clean)[:, 13].min() > 1.5  # corners of 1 px, at least 4 times as strong
    assert (other - clean)[:, :5].abs().max() < 0.5


@pytest.mark.parametrize("picture", [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 0.3), pictures(1, 16, 16)])
def test_gradients_are_finite_even_of_a_flat_picture(picture):
    torch.manual_seed(0)
    reader, x = Reader(4, 8), picture.clone().requires_grad_()
    reading = reader(torch.cat([torch.zeros(1, 4), moments(x)], 1))
    reading.sum().backward()
    assert reading.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in reader.parameters())


def test_the_reader_sees_brightness_that_normalised_features_lose():
    torch.manual_seed(0)
    reader, means = Reader(6, 8), torch.randn(1, 6)
    dark, bright = (moments(level * pictures(1, 32, 32)) for level in (0.5, 1.0))
    alike = reader(torch.cat([means, dark], 1))
    torch.testing.assert_close(reader(torch.cat([2 * means, dark], 1)), alike, atol=1e-4, rtol=1e-4)
    assert (reader(torch.cat([means, bright], 1)) - alike).abs().max() > 1e-2
