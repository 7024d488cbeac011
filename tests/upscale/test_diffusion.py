"""Upscaling with random weights in the layout of Stable Diffusion: it runs, is repeatable, and tiles do not show."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
import torch

from moesaic.errors import ArgumentError, ModelError, ShapeError
from moesaic.upscale import diffusion
from moesaic.upscale.adapters import mix_of_ranks
from moesaic.upscale.diffusion import TARGETS, DiffusionUpscaler
from moesaic.upscale.network import enlarged
from moesaic.upscale.prompt import write_embeddings
from moesaic.upscale.scores import Scores
from tests.upscale.tiny_diffusion import one_step, picture, save_folder, text, unet, vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture(scope="module")
def upscaler(folder, tmp_path_factory):
    return DiffusionUpscaler.load(folder, device="cpu", cache=tmp_path_factory.mktemp("cache"))


def test_it_is_encode_step_decode(upscaler):
    x = picture(6, 8)
    made = upscaler.upscale(x, 2, colour="none")
    large = enlarged(x, 2).clamp(0, 1)
    assert upscaler.multiple_of == 4
    assert large.shape[-2:] == (12, 16)
    with torch.no_grad():
        told = upscaler(large)
        z = upscaler.vae.encode(2 * large - 1).latent_dist.mean * 0.18215
        eps = upscaler.unet(z, 1, encoder_hidden_states=upscaler.prompt).sample
        expected = upscaler.vae.decode((z - eps) / 0.18215).sample / 2 + 0.5
    torch.testing.assert_close(told[0], expected)
    torch.testing.assert_close(told[1], z - eps)
    torch.testing.assert_close(made, expected.clamp(0, 1))
    assert made.std() > 0.01


@pytest.mark.parametrize("mode", ["residual", "eps_t"])
@pytest.mark.parametrize(("height", "width", "channels", "scale"), [(17, 23, 3, 1), (5, 1, 3, 4), (1, 7, 1, 3)])
def test_odd_sizes_single_columns_and_grey(folder, tmp_path, mode, height, width, channels, scale):
    upscaler = DiffusionUpscaler.load(folder, mode=mode, device="cpu", cache=tmp_path)
    x = picture(height, width, channels=channels)
    made = upscaler.upscale(x, scale)
    assert made.shape == (1, channels, height * scale, width * scale)
    assert made.dtype == torch.float32
    assert made.min() >= 0
    assert made.max() <= 1
    assert upscaler.one_step.at == (1 if mode == "residual" else 999)


def test_tiles_equal_the_whole(upscaler):
    x = picture(20, 35)
    whole = upscaler.upscale(x, 2)
    assert abs(whole - upscaler.upscale(x, 2, tile=32)).max() < 1e-4
    assert whole.std() > 0.1


def test_beyond_the_limit_attention_stays_in_its_tile(upscaler, monkeypatch):
    x = picture(20, 35)
    whole = upscaler.upscale(x, 2)
    monkeypatch.setattr(diffusion, "WHOLE", 19 * 19)
    monkeypatch.setattr(diffusion, "TILE", 16)
    tiled = upscaler.upscale(x, 2)
    assert tiled.shape == whole.shape
    assert 1e-3 < abs(whole - tiled).mean() < 0.1
    # Neighbouring pixels differ as much where tiles meet as elsewhere.
    jumps = abs((tiled - whole)[..., 1:] - (tiled - whole)[..., :-1]).mean((0, 1, 2))
    assert jumps.max() < 4 * jumps.median()


def test_out_of_memory_makes_smaller_tiles_and_the_same_picture(upscaler, monkeypatch, caplog):
    x = picture(20, 35)
    whole = upscaler.upscale(x, 2)
    for part in (upscaler.vae.encoder.conv_in, upscaler.vae.decoder.conv_out, upscaler.unet.conv_in):
        forward, largest = part.forward, 18 if part is upscaler.unet.conv_in else 36

        def act(piece, forward=forward, largest=largest):
            if max(piece.shape[-2:]) > largest:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return forward(piece)

        monkeypatch.setitem(part.__dict__, "forward", act)
    tiled = upscaler.upscale(x, 2)
    assert caplog.text.count("not enough memory") == 3
    assert abs(whole - tiled).max() < 1e-4


def test_seeds_decide(upscaler):
    x = picture(8, 8)
    one, again, other, mean = (upscaler.upscale(x, 1, seed=seed) for seed in (1, 1, 2, None))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, mean)
    assert torch.equal(mean, upscaler.upscale(x, 1))


def test_a_batch_is_one_picture_after_the_other(upscaler):
    x, told = torch.cat([picture(8, 12), picture(8, 12, seed=1)]), []
    both = upscaler.upscale(x, 1, progress=lambda *now: told.append(now))
    assert torch.equal(both[1:], upscaler.upscale(x[1:], 1))
    assert told == [(done, 6) for done in range(1, 7)]


def test_the_colour_fix_brings_the_colours_back(upscaler):
    x = picture(16, 16)
    plain, fixed = (upscaler.upscale(x, 2, colour=how) for how in ("none", "adain"))
    far = abs(plain.mean((-2, -1)) - x.mean((-2, -1))).max()
    assert abs(fixed.mean((-2, -1)) - x.mean((-2, -1))).max() < far / 3


def test_a_file_with_the_embedding_stands_in_for_the_text_encoder(folder, tmp_path):
    write_embeddings(tmp_path / "told.safetensors", text())
    upscaler = DiffusionUpscaler.load(folder, embeddings=tmp_path / "told.safetensors", device="cpu", cache="/nowhere")
    assert torch.equal(upscaler.prompt, text())
    write_embeddings(tmp_path / "wide.safetensors", torch.zeros(1, 16, 48))
    with pytest.raises(ModelError, match=r"takes \(1, tokens, 32\)"):
        DiffusionUpscaler.load(folder, embeddings=tmp_path / "wide.safetensors", device="cpu")


def test_half_precision_is_near(folder, upscaler, tmp_path):
    half = DiffusionUpscaler.load(folder, precision="bfloat16", device="cpu", cache=tmp_path)
    assert half.unet.dtype == half.vae.dtype == torch.bfloat16
    x = picture(12, 12)
    assert abs(half.upscale(x, 2) - upscaler.upscale(x, 2)).max() < 0.1


def test_what_is_no_number_is_told(folder, tmp_path):
    broken = DiffusionUpscaler.load(folder, device="cpu", cache=tmp_path)
    with torch.no_grad():
        broken.unet.conv_out.bias.fill_(float("inf"))
    with pytest.raises(ModelError, match="precision='bfloat16'"):
        broken.upscale(picture(8, 8), 1)


def scores(*values: float) -> Scores:
    told = torch.tensor(values)
    return Scores(names=("noise",), values=told[:, None], severity=told)


class Mix:
    """Ranks that change one bias by the score."""

    scores = 1

    def __init__(self, bias: torch.Tensor) -> None:
        self.bias, self.seen = bias, []

    @contextmanager
    def merged(self, values):
        assert values.shape == (1, 1)
        self.seen.append(float(values))
        before = self.bias.clone()
        self.bias += values[0]
        try:
            yield
        finally:
            self.bias.copy_(before)


def test_ranks_are_merged_once_for_each_picture(upscaler):
    network = unet()
    mix = Mix(network.conv_out.bias)
    one = DiffusionUpscaler(network, vae(), one_step(), upscaler.prompt, mix=mix)
    x = torch.cat([picture(8, 8), picture(8, 8)])
    made = one.upscale(x, 1, scores=scores(0.0, 0.5), colour="none")
    assert mix.seen == [0.0, 0.5]
    assert not torch.allclose(made[0], made[1])
    torch.testing.assert_close(made[:1], upscaler.upscale(x[:1], 1, colour="none"))
    again = one.upscale(x, 1, estimator=lambda pictures: scores(0.0, 0.5), colour="none")
    assert torch.equal(made, again)
    with pytest.raises(ArgumentError, match="scores or estimator"):
        one.upscale(x, 1)
    with pytest.raises(ArgumentError, match="scores of 1"):
        one.upscale(x, 1, scores=scores(0.5))


def test_a_real_mixture_of_ranks(upscaler):
    """Merged for tiles it is what it is when the ranks are added on the way."""
    student = DiffusionUpscaler(unet(), vae(), one_step(), upscaler.prompt)
    torch.manual_seed(0)
    mix = student.mix = mix_of_ranks(student, TARGETS, ranks=5, scores=1)
    assert {"unet.conv_in", "vae.quant_conv", "vae.encoder.mid_block.attentions.0.to_q"} <= mix.layers.keys()
    assert not any("decoder" in name for name in mix.layers)
    x = picture(16, 24)
    torch.testing.assert_close(student.upscale(x, 1, scores=scores(0.5)), upscaler.upscale(x, 1))
    with torch.no_grad():
        for layer in mix.layers.values():
            layer.up.normal_(std=0.05)
    low, high = (student.upscale(x, 1, scores=scores(told), colour="none") for told in (0.1, 0.9))
    assert abs(low - high).max() > 1e-3
    with torch.no_grad(), mix.given(torch.tensor([[0.9]])):
        dynamic = student(x)[0].clamp(0, 1)
    torch.testing.assert_close(high, dynamic, rtol=1e-3, atol=1e-3)
    assert not mix.is_merged


def test_training_passes_carry_gradients_to_what_is_trained(upscaler):
    network = unet()
    student = DiffusionUpscaler(network, vae(), one_step(), text())
    network.conv_in.weight.requires_grad_()
    made, clean = student(picture(8, 8))
    (made.mean() + clean.mean()).backward()
    assert bool((network.conv_in.weight.grad != 0).any())
    assert all(one.grad is None for one in student.vae.parameters())


def test_targets_are_those_of_the_papers():
    """258 layers of the UNet of Stable Diffusion 2.1 and 32 of its encoder, by the real configurations."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(
            cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
        )
        codec = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    assert sum(one.numel() for one in network.parameters()) == 865_910_724
    names = [f"unet.{name}" for name, _ in network.named_modules()] + [
        f"vae.{name}" for name, _ in codec.named_modules()
    ]
    found = [name for name in names if re.search(TARGETS, name)]
    assert sum(name.startswith("unet.") for name in found) == 258
    assert sum(name.startswith("vae.") for name in found) == 32
    assert not any("decoder" in name or "norm" in name or "time_emb" in name for name in found)


def test_what_means_nothing_is_refused(upscaler, folder):
    x = picture(8, 8)
    for options in ({"scale": 0}, {"scale": 5}, {"scale": 1.5}, {"colour": "lab"}, {"tile": 4}, {"tile": 7.5}):
        with pytest.raises(ArgumentError):
            upscaler.upscale(x, **options)
    for seed in ("x", 1.0, True, -1, 2**64):
        with pytest.raises(ArgumentError, match="seed is None or a whole number"):
            upscaler.upscale(x, 1, seed=seed)
    with pytest.raises(ArgumentError, match=r"make_estimator makes, not str"):
        upscaler.upscale(x, 1, estimator="analytic")
    for bad in (x[0], x.int(), x[:, :2], x[..., :0], x / 0, x.numpy()):
        with pytest.raises(ShapeError):
            upscaler.upscale(bad)
    with pytest.raises(ArgumentError, match="precision"):
        DiffusionUpscaler.load(folder, precision="int8", device="cpu")
    with pytest.raises(ArgumentError, match="mode"):
        DiffusionUpscaler.load(folder, mode="ddim", device="cpu")
    with pytest.raises(ModelError, match="sd2-community"):
        DiffusionUpscaler.load("nowhere", device="cpu")
    other = vae()
    other.register_to_config(latent_channels=16)
    with pytest.raises(ModelError, match="use one folder"):
        DiffusionUpscaler(unet(), other, one_step(), text())
