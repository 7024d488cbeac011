"""Tiles that share the statistics of their norms, against the whole."""

from __future__ import annotations

import logging

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from moesaic.errors import ArgumentError, LimitError, ModelError, ShapeError
from moesaic.tiling import run_tiled
from moesaic.upscale.latent import LatentCodec
from moesaic.upscale.shared_norm import run_shared
from tests.upscale.tiny_diffusion import Convolutional, picture, text, unet, vae


@pytest.fixture(scope="module")
def network():
    return Convolutional().eval()


def whole(network, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(x)


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (20, 70), (34, 34)])
def test_tiles_equal_the_whole(network, height, width, joined):
    """This network sees 4 px far, less than three eighths of the overlap; joined tiles need no overlap for that."""
    x = picture(height, width)
    made = run_shared(network, network, x, tile=32, overlap=16, multiple_of=2, joined=joined)
    assert made.shape == x.shape
    assert abs(made - whole(network, x)).max() < 2e-5


def test_without_sharing_they_would_not(network):
    x = picture(64, 96)
    assert abs(run_tiled(network, x, tile=32, overlap=16, multiple_of=2) - whole(network, x)).max() > 0.1


def test_in_float64_only_rounding_is_left(network):
    exact, x = Convolutional().double().eval(), picture(64, 96).double()
    made = run_shared(exact, exact, x, tile=18, overlap=0, multiple_of=2)
    assert made.dtype == torch.float64
    assert abs(made - whole(exact, x)).max() < 1e-12


def test_one_tile_gets_the_very_same_as_the_network_alone(network):
    x = picture(34, 34)
    assert torch.equal(run_shared(network, network, x, tile=64, overlap=16, multiple_of=2), whole(network, x))
    assert torch.equal(run_shared(network, network, x, multiple_of=2), whole(network, x))


def test_many_tiles_take_their_statistics_from_some(network):
    x, sizes = picture(96, 160), []

    def seen(piece):
        sizes.append(tuple(piece.shape))
        return network(piece)

    made = run_shared(seen, network, x, tile=32, overlap=16, multiple_of=2, together=20 * 32 * 32)
    assert sizes == [(18, 3, 32, 32)] + 45 * [(1, 3, 32, 32)]
    error = made - whole(network, x)
    assert 1e-5 < abs(error).max() < 0.25
    apart = run_tiled(network, x, tile=32, overlap=16, multiple_of=2)
    assert abs(error).mean() < 0.5 * abs(apart - whole(network, x)).mean()


def test_layers_see_one_tile_at_a_time():
    calls = []
    original = nn.Conv2d._conv_forward

    class Counting(nn.Conv2d):
        def _conv_forward(self, x, weight, bias):
            calls.append(len(x))
            return original(self, x, weight, bias)

    counted = Convolutional().eval()
    counted.last.__class__ = Counting
    run_shared(counted, counted, picture(64, 96), tile=32, overlap=16, multiple_of=2)
    assert calls == [1] * 12


def test_the_network_is_as_it_was(network):
    x = picture(40, 40)
    before = whole(network, x)
    network.first.__dict__["forward"] = lambda x: nn.Conv2d.forward(network.first, x)  # as adapters may have it
    try:
        own = network.first.__dict__["forward"]
        run_shared(network, network, x, tile=32, overlap=16, multiple_of=2)
        assert network.first.__dict__["forward"] is own
    finally:
        del network.first.__dict__["forward"]
    assert not any("forward" in module.__dict__ for module in network.modules())
    assert torch.equal(whole(network, x), before)

    def broken(piece):
        network(piece)
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run_shared(broken, network, x, tile=32, overlap=16, multiple_of=2)
    assert not any("forward" in module.__dict__ for module in network.modules())


def short_of_memory(network, largest: int):
    """The network on a machine whose memory holds maps of so many px a side, and a log of what it was given."""
    given = []

    def act(piece):
        given.append(tuple(piece.shape))
        if max(piece.shape[-2:]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return network(piece)

    return act, given


def test_out_of_memory_makes_tiles_and_changes_nothing(network, caplog):
    x = picture(64, 96)
    act, given = short_of_memory(network, 50)
    with caplog.at_level(logging.WARNING):
        made = run_shared(act, network, x, overlap=16, multiple_of=2)
    assert given == [(1, 3, 64, 96), (6, 3, 48, 48)]
    assert "tiles of 48 px" in caplog.text
    assert abs(made - whole(network, x)).max() < 2e-5
    act, given = short_of_memory(network, 24)
    smaller = run_shared(act, network, x, tile=64, overlap=16, multiple_of=2)
    assert given[-1][2:] == (16, 16)
    assert abs(smaller - whole(network, x)).max() < 2e-5


@pytest.mark.gpu
def test_maps_wait_in_the_memory_of_the_machine(caplog):
    network, told = unet(), text()
    z = torch.randn(1, 4, 16, 40, generator=torch.Generator().manual_seed(1))

    def act(z):
        if z.is_cuda:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return network(z, torch.tensor(1), encoder_hidden_states=told.expand(len(z), -1, -1)).sample

    expected = whole(act, z)
    made = run_shared(act, network.cuda(), z, multiple_of=2)
    assert "waits in the memory of the machine" in caplog.text
    torch.testing.assert_close(made, expected, atol=1e-2, rtol=1e-2)


def test_memory_that_is_never_enough_is_told_once(network):
    act, _ = short_of_memory(network, 4)
    with pytest.raises(LimitError, match="even for tiles of 16 px"):
        run_shared(act, network, picture(64, 96), overlap=16, multiple_of=2)


def test_a_whole_unet_in_tiles():
    """Convolutions that see farther than any tile, two sizes of maps, skips and attention: the same up to rounding."""
    network, told = unet().double(), text().double()

    def act(z):
        return network(z, torch.tensor(1), encoder_hidden_states=told.expand(len(z), -1, -1)).sample

    z = torch.randn(1, 4, 16, 40, generator=torch.Generator().manual_seed(1)).double() + torch.linspace(-1, 1, 40)
    with torch.no_grad():
        expected = act(z)
    made = run_shared(act, network, z, tile=16, overlap=8, multiple_of=2)
    assert abs(made - expected).max() < 1e-12
    # Where attention sees its tile alone, sharing still brings tiles nearer to the whole.
    shared = run_shared(act, network, z, tile=16, overlap=8, multiple_of=2, joined=False)
    apart = run_tiled(act, z, tile=16, overlap=8, multiple_of=2)
    assert abs(shared - expected).mean() < 0.9 * abs(apart - expected).mean()


def test_networks_as_deep_as_the_real_ones():
    """Four sizes of maps, two layers in each, as Stable Diffusion 2.1; a quarter to a tenth as wide."""
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        block_out_channels=(32, 32, 64, 64),
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=(2, 2, 4, 4),
        use_linear_projection=True,
    )
    network, told = network.double().eval(), text().double()
    codec = AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=8,
    )
    codec = LatentCodec(codec.double().eval())

    def act(z):
        return network(z, torch.tensor(999), encoder_hidden_states=told.expand(len(z), -1, -1)).sample

    z = torch.randn(1, 4, 32, 56, generator=torch.Generator().manual_seed(1)).double() + torch.linspace(-1, 1, 56)
    assert abs(run_shared(act, network, z, tile=32, multiple_of=8) - whole(act, z)).max() < 1e-11
    x = picture(64, 160).double()
    latent = whole(codec.encode, x)
    assert abs(codec.encode_tiled(x, tile=6) - latent).max() < 1e-11
    assert abs(codec.decode_tiled(latent, tile=6) - whole(codec.decode, latent)).max() < 1e-11


def test_joined_attention_sees_the_whole():
    network = vae().encoder.mid_block.attentions[0].double()
    nn.init.normal_(network.to_out[0].weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 64, 24, 40, generator=torch.Generator().manual_seed(0)).double() + torch.linspace(-1, 1, 40)
    expected = whole(network, x)
    assert abs(run_shared(network, network, x, tile=16) - expected).max() < 1e-12
    assert abs(run_shared(network, network, x, tile=16, overlap=8, joined=False) - expected).max() > 0.1


def test_what_cannot_go_by_tiles_is_refused():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.GroupNorm(1, 3)

        def forward(self, x):
            return self.norm(x).mean((-2, -1), keepdim=True)

    pooled = Pooled()
    with pytest.raises(ModelError, match="cannot go by tiles"):
        run_shared(pooled, pooled, picture(64, 64), tile=32, overlap=16)


def test_what_means_nothing_is_refused(network):
    x = picture(64, 64)
    for options in ({"tile": 0}, {"overlap": -1}, {"multiple_of": 0}, {"together": 0}):
        with pytest.raises(ArgumentError):
            run_shared(network, network, x, **{"overlap": 8, **options})
    for bad in (picture(63, 64), x[0], torch.cat([x, x]), x[..., :0]):
        with pytest.raises(ShapeError, match="multiples of 2"):
            run_shared(network, network, bad, multiple_of=2)
