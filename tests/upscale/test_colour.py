"""Both colour fixes against slow references, and on pictures with nothing to go by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.colour import COLOUR_FIXES, adain, coarse_band, fix_colour, wavelet_colour


def pair(height: int, width: int, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    one, two = torch.rand(2, 2, channels, height, width, generator=generator, dtype=torch.float64)
    return one, 0.3 * two + 0.5


def smoothed(x: np.ndarray, step: int) -> np.ndarray:
    """One level of the transform, a pixel at a time; beyond the rim its last row and column go on."""
    height, width = x.shape
    result = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            for down, a in ((-step, 1), (0, 2), (step, 1)):
                for right, b in ((-step, 1), (0, 2), (step, 1)):
                    row, column = min(max(i + down, 0), height - 1), min(max(j + right, 0), width - 1)
                    result[i, j] += a * b / 16 * x[row, column]
    return result


def bands(x: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the fine bands, and the coarse one."""
    fine = np.zeros_like(x)
    for level in range(levels):
        coarse = smoothed(x, 2**level)
        fine += x - coarse
        x = coarse
    return fine, x


@pytest.mark.parametrize(("height", "width"), [(9, 12), (7, 1), (1, 1)])
def test_wavelet_equals_the_slow_sum_of_bands(height, width):
    one, two = pair(height, width, channels=1)
    made = wavelet_colour(one, two)
    for b in range(2):
        fine, _ = bands(one[b, 0].numpy(), 5)
        _, coarse = bands(two[b, 0].numpy(), 5)
        np.testing.assert_allclose(made[b, 0].numpy(), fine + coarse, atol=1e-12)


def test_adain_equals_the_formula():
    one, two = pair(17, 23)
    made = adain(one, two).numpy()
    for b in range(2):
        for c in range(3):
            x, y = one[b, c].numpy(), two[b, c].numpy()
            np.testing.assert_allclose(made[b, c], (x - x.mean()) / x.std() * y.std() + y.mean(), atol=1e-12)


@pytest.mark.parametrize("how", ["wavelet", "adain"])
def test_a_cast_over_the_picture_goes_away(how):
    _, like = pair(40, 30)
    cast = like + torch.tensor([0.1, -0.05, 0.02]).view(3, 1, 1)
    torch.testing.assert_close(fix_colour(cast, like, how), like, atol=1e-12, rtol=0)


def test_the_wavelet_keeps_detail_and_leaves_the_noise_of_the_other():
    one = torch.zeros(1, 1, 64, 64)
    one[..., ::2, :] = 1
    noisy = 0.3 + 0.2 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    made = wavelet_colour(one, noisy)
    assert abs(made.mean() - noisy.mean()) < 5e-3  # its rim counts more
    assert (made - made.mean() - (one - 0.5)).std() < 0.05


def test_a_flat_picture_takes_the_mean():
    _, like = pair(5, 6)
    made = adain(torch.full_like(like, 0.9), like)
    torch.testing.assert_close(made, like.mean((-2, -1), keepdim=True).expand_as(like), atol=1e-9, rtol=0)


@pytest.mark.parametrize("how", COLOUR_FIXES)
def test_a_single_pixel_is_no_trouble(how):
    one, like = torch.full((1, 3, 1, 1), 0.2), torch.full((1, 3, 1, 1), 0.7)
    expected = one if how == "none" else like
    torch.testing.assert_close(fix_colour(one, like, how), expected)


def test_without_levels_all_of_the_picture_is_coarse():
    one, _ = pair(4, 4)
    assert torch.equal(coarse_band(one, 0), one)


def test_what_means_nothing_is_refused():
    one, like = pair(4, 4)
    with pytest.raises(ArgumentError, match="wavelet, adain, none"):
        fix_colour(one, like, "lab")
    with pytest.raises(ShapeError, match="one size"):
        fix_colour(one, like[..., 1:])
