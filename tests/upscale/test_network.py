"""The compact upscaler: bicubic plus a residual, any size, as many pixels as promised, tiles that equal the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from moesaic.errors import ArgumentError, ShapeError
from moesaic.upscale.network import CompactUpscaler, enlarged
from moesaic.upscale.tiled import upscale_tiled


def fresh(**options) -> CompactUpscaler:
    torch.manual_seed(0)
    return CompactUpscaler(**{"width": 8, "blocks": 2, **options}).eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_is_that_of_pillow(scale):
    low = noise(1, 1, 13, 17)
    size = (17 * scale, 13 * scale)
    theirs = np.asarray(Image.fromarray(low[0, 0].numpy()).resize(size, Image.Resampling.BICUBIC))
    assert np.abs(enlarged(low, scale)[0, 0].numpy() - theirs).max() < 2e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (16, 16)])
@pytest.mark.parametrize("scale", [2, 4])
def test_any_size(size, scale):
    made = fresh()(noise(2, 3, *size), scale)
    assert made.shape == (2, 3, scale * size[0], scale * size[1])
    assert made.dtype == torch.float32
    assert made.isfinite().all()


def test_a_fresh_network_is_nearly_bicubic():
    low = noise(1, 3, 16, 16)
    for scale in (2, 4):
        assert (fresh(width=64, blocks=8)(low, scale) - enlarged(low, scale)).abs().max() < 0.1


def test_one_step_is_a_residual():
    network, low = fresh(), noise(1, 3, 8, 8)
    with torch.no_grad():
        for parameter in network.tails.parameters():
            parameter.zero_()
    assert torch.equal(network(low, 2), enlarged(low, 2))


@pytest.mark.parametrize("scale", [2, 4])
def test_nothing_looks_farther_than_its_reach(scale):
    network = fresh()
    reach, side = network.reach, 31
    low = noise(1, 3, side, side).requires_grad_()
    middle = side // 2
    network(low, scale)[..., middle * scale : (middle + 1) * scale, :].sum().backward()
    seen = low.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert middle - reach <= seen.min()
    assert seen.max() <= middle + reach
    assert seen.min() <= middle - reach + 1  # and the number is no larger than need be


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_equal_the_whole(scale):
    network, low = fresh(), noise(1, 3, 83, 101)
    whole = upscale_tiled(network, low, scale)
    tiled = upscale_tiled(network, low, scale, tile=1)  # made as large as its overlap asks for
    assert (tiled - whole).abs().max() < 1e-5
    with torch.no_grad():
        assert (network(low, scale) - whole).abs().max() < 1e-5


def test_tiles_shrink_when_memory_runs_out():
    network, low = fresh(), noise(1, 3, 90, 90)
    whole, sizes = upscale_tiled(network, low, 2), []

    def greedy(module, arguments):
        sizes.append(arguments[0].shape[-1])
        if arguments[0].shape[-1] > 80:
            raise torch.OutOfMemoryError("CUDA out of memory: none is left")

    with network.register_forward_pre_hook(greedy):
        assert (upscale_tiled(network, low, 2) - whole).abs().max() < 1e-5
    assert sizes[0] == 90
    assert max(sizes[1:]) <= 80


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0}, "width is a whole number from 1"),
        ({"blocks": 1.5}, "blocks is a whole number"),
        ({"scales": ()}, "scales are whole numbers"),
        ({"scales": (2, 2)}, "scales are whole numbers"),
        ({"scales": "24"}, "scales are whole numbers"),
        ({"scales": (64,)}, "scales are whole numbers"),
    ],
)
def test_wrong_options(options, says):
    with pytest.raises(ArgumentError, match=says):
        fresh(**options)


def test_wrong_calls():
    network = fresh()
    with pytest.raises(ArgumentError, match="scale is one of 2, 4 for this network, not 3"):
        network(noise(1, 3, 8, 8), 3)
    for shape in ((3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ShapeError, match="pictures have the shape"):
            network(noise(*shape), 2)
