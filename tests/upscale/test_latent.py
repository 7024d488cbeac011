"""An autoencoder with random weights: whole, in tiles, and against what diffusers makes of it."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import ModelError, ShapeError
from moesaic.upscale import latent as latent_module
from moesaic.upscale.latent import LatentCodec, filled
from tests.upscale.tiny_diffusion import picture, vae


@pytest.fixture(scope="module")
def codec():
    return LatentCodec(vae())


def test_it_is_what_diffusers_makes(codec):
    x = picture(24, 32)
    with torch.no_grad():
        latent = codec.encode(x)
        told = codec.vae.encode(2 * x - 1).latent_dist
        torch.testing.assert_close(latent, told.mean * 0.18215)
        torch.testing.assert_close(codec.decode(latent), codec.vae.decode(latent / 0.18215).sample / 2 + 0.5)
    assert (codec.factor, codec.channels) == (2, 4)
    assert latent.shape == (1, 4, 12, 16)


def test_tiles_equal_the_whole(codec):
    x = picture(48, 70)
    with torch.no_grad():
        latent, decoded = codec.encode(x), codec.decode(codec.encode(x))
    tiled = codec.encode_tiled(x, tile=16)
    assert abs(tiled - latent).max() < 1e-5 * latent.std()
    again = codec.decode_tiled(latent, tile=16)
    assert abs(again - decoded).max() < 1e-5 * decoded.std()


def test_a_picture_beyond_memory_takes_statistics_from_some_tiles(codec, monkeypatch):
    """Then nothing is exact: attention sees one tile, and this network sees farther than the overlap."""
    x = picture(64, 100)
    with torch.no_grad():
        latent = codec.encode(x)
    per_latent = 3 * 64 * 4 * 4  # bytes of three maps of 64 channels at 2 x 2 px, float32
    monkeypatch.setattr(latent_module, "machine_bytes", lambda: 2 * per_latent * 4 * 16 * 16)
    tiled = codec.encode_tiled(x, tile=16, overlap=8)
    assert tiled.shape == latent.shape
    assert 1e-3 < abs(tiled - latent).mean() / latent.std() < 0.5


def test_a_seed_draws_the_same_latents_in_tiles(codec):
    x = picture(48, 70)
    with torch.no_grad():
        one, two = (codec.encode(x, generator=torch.Generator().manual_seed(seed)) for seed in (4, 5))
    tiled = codec.encode_tiled(x, tile=16, generator=torch.Generator().manual_seed(4))
    assert abs(tiled - one).max() < 1e-5 * one.std()
    assert abs(one - two).max() > 0.1 * one.std()


def test_gradients_go_through(codec):
    x = picture(8, 8).requires_grad_()
    codec.decode(codec.encode(x)).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())


def test_a_shift_is_taken_off_and_added_again():
    network = vae()
    plain = LatentCodec(network)
    network.register_to_config(shift_factor=0.5)
    shifted = LatentCodec(network)
    x = picture(8, 8)
    with torch.no_grad():
        torch.testing.assert_close(shifted.encode(x), plain.encode(x) - 0.5 * 0.18215)
        torch.testing.assert_close(shifted.decode(shifted.encode(x)), plain.decode(plain.encode(x)))


def test_without_quantising_convolutions():
    network = vae()
    network.quant_conv = network.post_quant_conv = None
    codec, x = LatentCodec(network), picture(32, 48)
    with torch.no_grad():
        expected = codec.encode(x)
    assert abs(codec.encode_tiled(x, tile=16) - expected).max() < 1e-5 * expected.std()
    assert codec.decode_tiled(expected).shape == x.shape


@pytest.mark.parametrize(("height", "width"), [(17, 23), (1, 5), (16, 24), (2, 1)])
def test_pictures_are_filled_up_to_multiples(height, width):
    x = picture(height, width)
    whole = filled(x, 8)
    assert whole.shape[-2] == -(-height // 8) * 8
    assert whole.shape[-1] == -(-width // 8) * 8
    assert torch.equal(whole[..., :height, :width], x)
    if height == 17:
        assert torch.equal(whole[..., 17, :23], x[..., 15, :])
    if width == 1:
        assert torch.equal(whole[..., :2, 7:], x)


def test_what_does_not_fit_is_refused(codec):
    for bad in (picture(7, 8), picture(8, 8, channels=1), picture(8, 8)[0]):
        with pytest.raises(ShapeError, match="multiples of 2"):
            codec.encode(bad)
        with pytest.raises(ShapeError, match="multiples of 2"):
            codec.encode_tiled(bad)
    network = vae()
    for wrong in (None, 0, "x", [0.18]):
        network.register_to_config(scaling_factor=wrong)
        with pytest.raises(ModelError, match="scaling_factor"):
            LatentCodec(network)
    network.register_to_config(scaling_factor=0.18215, shift_factor="x")
    with pytest.raises(ModelError, match="shift_factor"):
        LatentCodec(network)
