"""The NumPy functions and those for batches give the same pictures from the same fields and parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.degrade import codec, depth, optics, sensor, weather, wild
from moesaic.degrade.batched import codec as batched_codec
from moesaic.degrade.batched import depth as batched_depth
from moesaic.degrade.batched import optics as batched_optics
from moesaic.degrade.batched import sensor as batched_sensor
from moesaic.degrade.batched import weather as batched_weather
from moesaic.degrade.batched import wild as batched_wild
from moesaic.degrade.ranges import DEPTH_MODES, PATH_POINTS, STREAK_REACH
from moesaic.degrade.told import Told

CLOSE = 1e-5
SHAPES = [(48, 64), (33, 17), (1, 1), (1, 9)]


@pytest.fixture(params=SHAPES, ids=str)
def pair(request, picture):
    """Two pictures as a list of arrays (H, W, 3) and as one batch."""
    height, width = request.param
    light = picture(height, width) / 255.0
    arrays = [light, light[::-1, ::-1] ** 2]
    return arrays, batch_of(arrays)


def batch_of(arrays) -> torch.Tensor:
    """(B, C, H, W) float32 from arrays (H, W, C)."""
    return torch.stack([torch.tensor(np.ascontiguousarray(one)).permute(2, 0, 1).float() for one in arrays])


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def agree(batch: torch.Tensor, arrays, within: float = CLOSE) -> None:
    assert batch.dtype == torch.float32
    for one, array in zip(batch, arrays, strict=True):
        found = one.permute(1, 2, 0).numpy() if one.ndim == 3 else one.numpy()
        np.testing.assert_allclose(found, array, atol=within, rtol=0)


def normals(arrays, seed: int = 0):
    return [np.random.default_rng(seed + i).standard_normal(one.shape) for i, one in enumerate(arrays)]


def test_gaussian(pair):
    arrays, batch = pair
    fields = normals(arrays)
    agree(
        batched_sensor.gaussian(batch, batch_of(fields), vector(25, 5)),
        [sensor.gaussian(x, n, s) for x, n, s in zip(arrays, fields, (25, 5), strict=True)],
    )


def test_grain(pair):
    arrays, _ = pair
    fields = [np.random.default_rng(seed).standard_normal((*x.shape[:2], 4)) for seed, x in enumerate(arrays)]
    agree(
        batched_sensor.grain(batch_of(fields), vector(0.3, 1.0), vector(0.9, 0.2)),
        [sensor.grain(n, c, w) for n, c, w in zip(fields, (0.3, 1.0), (0.9, 0.2), strict=True)],
    )


def test_poisson(pair):
    arrays, batch = pair
    fields = normals(arrays)
    agree(
        batched_sensor.poisson(batch, batch_of(fields), vector(0.01, 0.03), vector(2, 9)),
        [sensor.poisson(x, n, g, r) for x, n, g, r in zip(arrays, fields, (0.01, 0.03), (2, 9), strict=True)],
    )


def test_darken(pair):
    arrays, batch = pair
    numbers = (0.9, 1.0), (0.6, 0.8), (1.5, 4.5)
    agree(
        batched_sensor.darken(batch, *(vector(*n) for n in numbers)),
        [sensor.darken(x, *n) for x, *n in zip(arrays, *numbers, strict=True)],
    )


def test_particles_rain_and_snow(pair):
    arrays, batch = pair
    height, width = arrays[0].shape[:2]
    seeds = np.random.default_rng(1).random((2, 2, height + 2 * STREAK_REACH, width + 2 * STREAK_REACH))
    numbers = {
        "length": [[20.0, 44.0], [3.0, 0.0]],
        "angle": [[0.2, -0.3], [1.0, 0.0]],
        "radius": [[0.5, 0.8], [2.0, 3.5]],
        "soft": [[1.0, 1.0], [2.5, 4.0]],
    }
    density = [[0.01, 0.004], [0.02, 0.005]]
    covers = []
    for b in range(2):
        cover = np.zeros((height, width))
        for layer in range(2):
            kernel = weather.particle_kernel(*(numbers[name][b][layer] for name in numbers))
            weather.add_particles(cover, seeds[b, layer], density[b][layer], kernel)
        covers.append(np.clip(cover, 0, 1))
    kernels = batched_weather.particle_kernels(*(torch.tensor(value) for value in numbers.values()))
    masks = batched_weather.particles(torch.tensor(seeds).float(), torch.tensor(density), kernels)
    agree(masks, covers, 3e-5)
    if min(height, width) > 9:
        assert np.count_nonzero(covers[0]) > 50
    agree(
        batched_weather.rain(batch, masks, vector(0.5, 0.3), vector(0, 0.3), vector(0.6, 0.9)),
        [
            weather.rain(arrays[0], covers[0], 0.5, 0, 0.6),
            weather.rain(arrays[1], covers[1], 0.3, 0.3, 0.9),
        ],
        3e-5,
    )
    agree(
        batched_weather.snow(batch, masks, vector(0.9, 1.0)),
        [weather.snow(arrays[0], covers[0], 0.9), weather.snow(arrays[1], covers[1], 1.0)],
        3e-5,
    )


def test_haze_and_its_depths(pair):
    arrays, batch = pair
    shape = arrays[0].shape[:2]
    waves = np.random.default_rng(2).standard_normal((2, DEPTH_MODES, DEPTH_MODES))
    windows = [[0.1, 0.2, 0.5], [0.0, 0.0, 1.0]]
    planes = ((0.1, -0.2), (-0.2, 0.1), (0.2, 0.5))
    smooth = [depth.field_depth(shape, w, window) for w, window in zip(waves, windows, strict=True)]
    flat = [depth.plane_depth(shape, *numbers, window) for *numbers, window in zip(*planes, windows, strict=True)]
    coloured = [depth.colour_depth(x) for x in arrays]
    agree(batched_depth.field_depth(shape, torch.tensor(waves).float(), torch.tensor(windows)), smooth)
    agree(batched_depth.plane_depth(shape, *(vector(*n) for n in planes), torch.tensor(windows)), flat)
    agree(batched_depth.colour_depth(batch), coloured, 2e-4)  # a guided filter divides by a small variance
    airlight = [[0.9, 0.91, 0.88], [0.7, 0.7, 0.7]]
    fields = torch.stack([torch.tensor(d).float() for d in flat])
    agree(
        batched_weather.haze(batch, fields, vector(0.7, 2), torch.tensor(airlight)),
        [weather.haze(x, d, b, a) for x, d, b, a in zip(arrays, flat, (0.7, 2), airlight, strict=True)],
    )


def test_kernels():
    pushes = np.random.default_rng(3).standard_normal((2, PATH_POINTS, 2))
    agree(
        batched_optics.path_kernels(batched_optics.line_paths(vector(7, 25), vector(0.3, 2))),
        [optics.path_kernel(optics.line_path(*n)) for n in ((7, 0.3), (25, 2))],
    )
    agree(
        batched_optics.path_kernels(batched_optics.walk_paths(vector(9, 24), torch.tensor(pushes).float())),
        [optics.path_kernel(optics.walk_path(length, p)) for length, p in zip((9, 24), pushes, strict=True)],
    )
    agree(batched_optics.disc_kernels(vector(1, 4.3)), [optics.disc_kernel(r) for r in (1, 4.3)])
    agree(batched_optics.bell_kernels(vector(0.6, 3)), [optics.bell_kernel(s) for s in (0.6, 3)])


def test_blur(pair):
    arrays, batch = pair
    kernels = [optics.path_kernel(optics.arc_path(25, 0.4, 3)), optics.disc_kernel(3)]
    agree(
        batched_optics.blur(batch, torch.stack([torch.tensor(k).float() for k in kernels])),
        [optics.blur(x, k) for x, k in zip(arrays, kernels, strict=True)],
    )


@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("quality", [1, 10, 60, 100])
def test_jpeg(pair, quality, halved):
    arrays, batch = pair
    arrays = [one.permute(1, 2, 0).numpy().astype(np.float64) for one in batch]  # the same after rounding to 8 bits
    agree(
        batched_codec.jpeg(batch, [quality, 50], halved=halved),
        [codec.jpeg(x, q, halved=halved) for x, q in zip(arrays, (quality, 50), strict=True)],
        1e-6,
    )


def test_shrink_and_enlarge(pair):
    arrays, batch = pair
    agree(
        batched_codec.shrink_and_enlarge(batch, [2.0, 3.25]),
        [codec.shrink_and_enlarge(x, s) for x, s in zip(arrays, (2.0, 3.25), strict=True)],
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_chain(picture, seed):
    light = picture() / 255.0
    steps = wild.draw_steps(np.random.default_rng(seed), 48, 64, 0.6, 1)

    def field(step, shape):
        drawn = np.random.default_rng(step["seed"]).standard_normal((shape[2], shape[3], shape[1]))
        return torch.tensor(drawn).permute(2, 0, 1)[None].float()

    ours = wild.apply_steps(light, [Told("wild", step) for step in steps])
    theirs = batched_wild.apply_steps(batch_of([light]), steps, field)[0].permute(1, 2, 0).numpy()
    # What lies within 1e-6 of a half may round either way at each JPEG, and moves a block by a step of its table.
    different = np.abs(ours - theirs) > CLOSE
    assert different.mean() < 0.03
    assert np.abs(ours - theirs).mean() < 1e-3
