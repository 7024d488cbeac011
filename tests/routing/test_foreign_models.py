"""sparsify on networks that moesaic did not write: from transformers and diffusers, tiny, with random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moesaic.routing import (
    RoutedConv2d,
    RoutedLinear,
    balance_loss,
    collect,
    recording,
    routed_layers,
    sparsify,
)


def resnet() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config)


def convnext() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ConvNextConfig(
        num_stages=2,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        patch_size=2,
        layer_scale_init_value=1.0,  # at the usual 1e-6 nothing that a block does would show
        num_labels=3,
    )
    return transformers.ConvNextForImageClassification(config)


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[2, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        num_labels=3,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def mobilenet(tf_padding: bool = True) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(
        depth_multiplier=0.25, depth_divisible_by=4, min_depth=4, num_labels=3, output_stride=8, tf_padding=tf_padding
    )
    return transformers.MobileNetV2ForSemanticSegmentation(config)


def mobilenet_padding_by_itself() -> nn.Module:
    return mobilenet(tf_padding=False)


def unet() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return diffusers.UNet2DModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )


def autoencoder() -> nn.Module:
    diffusers = pytest.importorskip("diffusers")
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
    )


def run(model: nn.Module, x: Tensor) -> Tensor:
    """The output of any of them."""
    kind = type(model).__name__
    if kind == "UNet2DModel":
        return model(x, torch.tensor([3, 5])).sample
    return model(x).sample if kind == "AutoencoderKL" else model(pixel_values=x).logits


def linear_in_the_decoder(name: str, layer: nn.Module) -> bool:
    return name.startswith("decode_head") and isinstance(layer, nn.Linear)  # its names changed between versions


CASES = {
    "convolution with a stride": (resnet, "*stages.1.layers.0.layer.0.convolution", 2, RoutedConv2d),
    "linear over whole pictures": (resnet, "classifier.1", 1, RoutedLinear),
    "7x7, a kernel for each channel": (convnext, "*dwconv", 3, RoutedConv2d),
    "linear over maps": (convnext, "*pwconv1", (2, 3), RoutedLinear),
    "1x1 in a decoder": (segformer, "decode_head.linear_fuse", 3, RoutedConv2d),
    "linear over tokens": (segformer, linear_in_the_decoder, 3, RoutedLinear),
    "padded outside": (mobilenet, "*layer.3.conv_3x3.convolution", 2, RoutedConv2d),
    "padded inside": (mobilenet_padding_by_itself, "*layer.3.conv_3x3.convolution", 2, RoutedConv2d),
    "diffusion, decoder": (unet, "up_blocks.1.resnets.1.conv2", 3, RoutedConv2d),
    "diffusion, enlarging": (unet, "*upsamplers.0.conv", 3, RoutedConv2d),
    "diffusion, attention": (unet, "mid_block.attentions.0.to_q", 2, RoutedLinear),
    "autoencoder, decoder": (autoencoder, "decoder.up_blocks.1.resnets.1.conv2", 3, RoutedConv2d),
    "autoencoder, padded on one side": (autoencoder, "*downsamplers.0.conv", 3, RoutedConv2d),
}


@pytest.fixture(params=CASES)
def case(request):
    """The model, a function that routes one like it, and the kind of layer that comes out."""
    make, where, grid, kind = CASES[request.param]

    def routed(model, seed=0):
        return sparsify(model, where, 4, 2, grid, seed=seed)

    torch.manual_seed(0)
    return make, routed, kind


@pytest.fixture
def x():
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1))


def test_the_output_is_unchanged_and_decisions_are_read(case, x):
    make, routed, kind = case
    model = make().eval()
    converted = routed(model)
    with torch.no_grad(), recording(converted):
        want, got = run(model, x), run(converted, x)
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    decisions = collect(converted)
    assert decisions.keys() == routed_layers(converted).keys()
    for name, routing in decisions.items():
        assert isinstance(converted.get_submodule(name), kind)
        torch.testing.assert_close(routing.weights.sum(-1), torch.ones(2, routing.places))
    assert balance_loss(converted).isfinite()


def test_a_step_trains_gate_and_experts_and_a_state_is_loaded(case, x):
    make, routed, _ = case
    model, twin = routed(make()).train(), routed(make(), seed=9)
    layers = routed_layers(model)
    before = {name: [p.detach().clone() for p in layer.gate.parameters()] for name, layer in layers.items()}
    loss = run(model, x).square().mean() + balance_loss(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    loss.backward()
    optimiser.step()
    for name, layer in layers.items():
        assert all(not torch.equal(old, new) for old, new in zip(before[name], layer.gate.parameters(), strict=True))
        kernels = layer.experts.kernels
        assert any(not torch.equal(kernels[0], other) for other in kernels[1:])
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(run(twin.eval(), x), run(model.eval(), x))
