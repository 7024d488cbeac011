"""Where the kernels of a fit begin, on the device: the rule of `start`, with the same random numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moesaic.mixture.start import POWER, SMOOTH, UNIFORM, WIDTH


def density(picture: Tensor) -> Tensor:  # (C, H, W) -> (H, W) float64
    """How densely kernels should stand at each pixel; the mean is 1."""
    square = torch.zeros(picture.shape[1:], dtype=torch.float64, device=picture.device)
    for channel in picture:
        for axis in (0, 1):
            if channel.shape[axis] > 1:
                square += torch.gradient(channel.double(), dim=axis)[0] ** 2
    detail = _smoothed(square.sqrt()).clamp(min=0.0) ** POWER
    mean = detail.mean()
    plain = mean <= 1e-12  # a picture of one colour
    return torch.where(
        plain, torch.ones_like(detail), (1.0 - UNIFORM) * detail / torch.where(plain, 1.0, mean) + UNIFORM
    )


def _smoothed(values: Tensor) -> Tensor:  # (H, W)
    """A Gaussian blur with mirrored borders, also where the picture is smaller than the blur."""
    radius = int(4 * SMOOTH)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / SMOOTH) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        n = values.shape[axis]
        place = torch.arange(-radius, n + radius, device=values.device) % (2 * n)
        padded = values.index_select(axis, torch.minimum(place, 2 * n - 1 - place))
        values = torch.zeros_like(values)
        for k, tap in enumerate(taps.tolist()):
            values += padded.narrow(axis, k, n) * tap
    return values


def hilbert_index(x: Tensor, y: Tensor, bits: int) -> Tensor:
    """As `start.hilbert_index`."""
    index = torch.zeros_like(x)
    side = 1 << (bits - 1)
    while side:
        right, below = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right.long()) ^ below.long())
        x, y = x & (side - 1), y & (side - 1)
        flip = right & ~below
        x, y = torch.where(flip, side - 1 - x, x), torch.where(flip, side - 1 - y, y)
        x, y = torch.where(below, x, y), torch.where(below, y, x)
        side >>= 1
    return index


def begin(
    picture: Tensor,  # (C, H, W)
    experts: int,
    order: int,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (N, 2) float64, geometry (N, 4) and experts (N, K), as `start.begin` makes them."""
    channels, height, width = picture.shape
    device = picture.device
    draws = torch.from_numpy(np.arange(experts) + random.uniform(size=experts)).to(device)
    jitter = torch.from_numpy(random.uniform(size=(experts, 2))).to(device)
    wanted = density(picture).flatten()
    place = torch.arange(height * width, device=device)
    bits = max(int(max(height, width) - 1).bit_length(), 1)
    path = hilbert_index(place % width, place // width, bits).argsort(stable=True)
    reached = wanted[path].cumsum(0)
    chosen = path[torch.searchsorted(reached, draws / experts * reached[-1]).clamp(max=height * width - 1)]
    columns, rows = chosen % width, chosen // width
    spacing = (reached[-1] / (experts * wanted[chosen])).sqrt()  # px
    sharpness = 1.0 / (WIDTH * spacing).clamp(0.3, max(height, width))
    zero = torch.zeros_like(sharpness)
    values = torch.zeros((experts, channels * (3 if order else 1)), dtype=torch.float32, device=device)
    values[:, :channels] = picture[:, rows, columns].T
    geometry = torch.stack([sharpness, zero, sharpness, zero], dim=1).float()
    return torch.stack([columns, rows], dim=1) + jitter, geometry, values
