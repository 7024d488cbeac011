"""Stable Diffusion in small: random weights, saved in the layout in which the real ones come."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from moesaic.upscale.one_step import OneStep, Schedule

TOKENS = 16


def unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    network = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    return network.eval().requires_grad_(False)


def vae(seed: int = 0) -> AutoencoderKL:
    torch.manual_seed(seed)
    network = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        scaling_factor=0.18215,
    )
    return network.eval().requires_grad_(False)


def schedule(prediction: str = "epsilon") -> Schedule:
    """That of Stable Diffusion."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return Schedule(alphas_cumprod=(1 - betas).cumprod(0).float(), prediction=prediction)


def one_step(mode: str = "residual") -> OneStep:
    return OneStep(schedule=schedule(), mode=mode)


def text(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, TOKENS, 32, generator=torch.Generator().manual_seed(seed))


def save_text_parts(folder: Path, seed: int = 0) -> None:
    """A tokenizer of letters alone, and a text encoder of one layer."""
    letters = [*string.ascii_lowercase, *(letter + "</w>" for letter in string.ascii_lowercase)]
    words = [*letters, "<|startoftext|>", "<|endoftext|>"]
    place = folder / "tokenizer"
    place.mkdir(parents=True)
    (place / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "pad_token": "<|endoftext|>"})
    )
    (place / "special_tokens_map.json").write_text(
        json.dumps(
            {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
            | {"pad_token": "<|endoftext|>"}
        )
    )
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=len(words) - 1,
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def save_folder(folder: Path, seed: int = 0) -> Path:
    """All parts, as `StableDiffusionPipeline.save_pretrained` lays them out."""
    unet(seed).save_pretrained(folder / "unet")
    vae(seed).save_pretrained(folder / "vae")
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )
    scheduler.save_pretrained(folder / "scheduler")
    save_text_parts(folder, seed)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def picture(height: int, width: int, *, seed: int = 0, channels: int = 3) -> torch.Tensor:  # (1, C, H, W)
    """Waves and grain with another brightness on either side, so that no tile has the statistics of the whole."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([torch.sin(rows * a + columns * b) for a, b in ((0.1, 0.3), (0.4, 0.05), (0.2, -0.2))])
    grain = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    x = 0.2 + 0.5 * columns / max(width - 1, 1) + 0.15 * waves + 0.03 * grain
    return x.clamp(0, 1)[None, :channels]


class Convolutional(nn.Module):
    """Norms and convolutions that see 4 px far, and a map at half the size."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.one = nn.GroupNorm(4, 16)
        self.down = nn.Conv2d(16, 16, 2, stride=2)
        self.two = nn.GroupNorm(2, 16)
        self.between = nn.ModuleList([nn.Conv2d(16, 16, 1), nn.SiLU()])
        self.three = nn.GroupNorm(16, 16)
        self.last = nn.Conv2d(16, 3, 3, padding=1)
        for norm in (self.one, self.two, self.three):
            nn.init.normal_(norm.weight, 1, 0.2)
            nn.init.normal_(norm.bias, 0, 0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.one(self.first(x)))
        y = self.two(self.down(x))
        for layer in self.between:
            y = layer(y)
        return self.last(self.three(x + nn.functional.interpolate(y, scale_factor=2.0)))
