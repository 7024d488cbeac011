"""Upscaling with Stable Diffusion weights that the user brings: one step between an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from moesaic.errors import ArgumentError, ModelError, ShapeError
from moesaic.memory import within_memory
from moesaic.training.device import pick_device
from moesaic.upscale.colour import COLOUR_FIXES, fix_colour
from moesaic.upscale.latent import LatentCodec, filled
from moesaic.upscale.network import enlarged
from moesaic.upscale.one_step import OneStep
from moesaic.upscale.prompt import prompt_embeddings, read_embeddings
from moesaic.upscale.shared_norm import run_shared
from moesaic.upscale.weights_folder import find_folder, load_schedule, load_unet, load_vae
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    import os

    from torch import Tensor

    from moesaic.upscale.adapters import MixOfRanks
    from moesaic.upscale.scores import Estimator, Scores

_LAYERS = (
    r"to_q|to_k|to_v|to_out\.0|conv|conv1|conv2|conv_in|conv_out|conv_shortcut|proj_in|proj_out"
    r"|ff\.net\.0\.proj|ff\.net\.2"
)

TARGETS = rf"^(?:unet\.(?:.+\.)?(?:{_LAYERS})|vae\.encoder\.(?:.+\.)?(?:{_LAYERS})|vae\.quant_conv)$"
"""The layers of a `DiffusionUpscaler` that ranks are added to, by name: all convolutions and projections of the UNet
and of the encoder; not the decoder, time embeddings, or norms. In Stable Diffusion 2.1 they are 258 and 32."""

WHOLE = 128 * 128
"""Latents of the largest picture that is done in one piece, 1024 x 1024 px with Stable Diffusion. Where memory does not
allow that, attention still sees the whole."""

TILE, OVERLAP = 96, 32
"""Latents, of the tiles of larger pictures, in which the UNet's attention sees no farther than its tile: these models
were trained on 64 to 96 latents a side."""

_LAST_SEED = 2**62  # torch's generators end at 64 bits, and each picture adds one

PRECISIONS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


class DiffusionUpscaler(nn.Module):
    """A network of Stable Diffusion's kind that enlarges a picture in one step.

    The picture is enlarged by bicubic interpolation and encoded, the UNet says once what is wrong with the latent, and
    what is left is decoded (OSEDiff, arXiv 2406.08177; PiSA-SR, arXiv 2412.03017). Untuned weights of Stable Diffusion
    are no upscaler: ranks or weights that were trained for it are.

    Args:
        unet: a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        one_step: how the clean latent follows from what the UNet makes.
        prompt: (1, N, D), the embedding of the text that the UNet is always told.
        mix: ranks inside the UNet or the encoder, as `mix_of_ranks(upscaler, TARGETS)` hands them back.

    Raises:
        ModelError: the parts do not fit together.
    """

    prompt: Tensor
    unet: Any
    vae: Any
    scales = (1, 2, 3, 4)

    def __init__(
        self, unet: Any, vae: Any, one_step: OneStep, prompt: Tensor, *, mix: MixOfRanks | None = None
    ) -> None:
        super().__init__()
        self.unet = unet
        self.vae = vae
        self.one_step = one_step
        self.mix = mix
        self.register_buffer("prompt", prompt, persistent=False)
        channels, features = self.unet.config.in_channels, self.unet.config.cross_attention_dim
        if self.codec.channels != channels:
            raise ModelError(
                f"the vae makes {self.codec.channels} channels and the unet takes {channels}; use one folder"
            )
        if prompt.ndim != 3 or len(prompt) != 1 or prompt.shape[2] != features:
            raise ModelError(
                f"the prompt's embedding is {tuple(prompt.shape)}, and the unet takes (1, tokens, {features}); use one"
                " that the text encoder of the same folder made"
            )

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str],
        *,
        mode: str = "residual",
        time: int | None = None,
        prompt: str = "",
        embeddings: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        download: bool = False,
        variant: str | None = None,
        revision: str | None = None,
    ) -> DiffusionUpscaler:
        """An upscaler from weights in the layout of diffusers: unet, vae, scheduler, tokenizer and text_encoder.

        Args:
            source: a folder, or a name "owner/model" on huggingface.co.
            mode: "residual" or "eps_t", see `OneStep`; as the weights were trained.
            time: what the UNet is told; see `OneStep`.
            prompt: the text that it is told.
            embeddings: a file with the text's embedding; then neither tokenizer nor text encoder is needed.
            cache: folder for embeddings; see `prompt_embeddings`.
            device: "auto" (CUDA where it works), "cpu", "cuda", ...
            precision: "float16", "bfloat16" or "float32"; "auto" is float16 on CUDA and float32 elsewhere.
            download: fetch from the hub what is not here; nothing goes over the network unless asked for.
            variant: of the weights files, such as "fp16".
            revision: branch, tag or commit on the hub.

        Raises:
            ModelError: parts are missing, damaged or of another kind; the text says what to fetch and where.
            ArgumentError: an option is unknown.
            BackendError: the device cannot be used here.
            LimitError: there is not enough memory for the weights.
            MissingExtraError: the extra `diffusion` is not installed.
        """
        place = pick_device(device)
        if precision != "auto" and precision not in PRECISIONS:
            raise ArgumentError(f"precision is auto or one of {', '.join(PRECISIONS)}, not {precision!r}")
        kind = PRECISIONS["float16" if place.type == "cuda" else "float32"]
        kind = kind if precision == "auto" else PRECISIONS[precision]
        folder = find_folder(source, download=download, variant=variant, revision=revision)
        one_step = OneStep(schedule=load_schedule(folder), mode=mode, time=time)
        unet = load_unet(folder, dtype=kind, variant=variant)
        vae = load_vae(folder, dtype=kind, variant=variant)
        if embeddings is not None:
            told = read_embeddings(embeddings)
        else:
            told = prompt_embeddings(folder, prompt, cache=cache, variant=variant)
        made = cls(unet, vae, one_step, told.to(kind)).eval()
        with within_memory(f"the weights on {place}; pass device='cpu', or precision='float16' or 'bfloat16'"):
            return made.to(place)

    @property
    def codec(self) -> LatentCodec:
        """Pictures to latents and back."""
        return LatentCodec(self.vae)

    @property
    def multiple_of(self) -> int:
        """Sides of what goes in are multiples of this, px."""
        return self.codec.factor * self._coarsest()

    def made_of(
        self,
        latents: Tensor,  # (B, c, h, w)
    ) -> Tensor:  # (B, c, h, w)
        """What the UNet predicts for latents, told its time and text."""
        made: Tensor = self.unet(
            latents.to(self.unet.dtype),
            torch.tensor(self.one_step.at, device=latents.device),
            encoder_hidden_states=self.prompt.to(latents.device).expand(len(latents), -1, -1),
        ).sample
        return made

    def forward(
        self,
        large: Tensor,  # (B, 3, H, W) in [0, 1], enlarged already; sides multiples of `multiple_of`
    ) -> tuple[Tensor, Tensor]:  # (B, 3, H, W), about [0, 1]; (B, c, h, w)
        """Pictures and clean latents, with gradients and in one piece: the pass that training takes.

        Raises:
            ShapeError: a side is no such multiple.
        """
        z = self.codec.encode(large)
        clean = self.one_step.clean(z, self.made_of(z))
        return self.codec.decode(clean), clean

    def upscale(
        self,
        pictures: Tensor,  # (B, 1 or 3, H, W) in [0, 1], on any device
        scale: int = 4,
        *,
        scores: Scores | None = None,
        estimator: Estimator | None = None,
        colour: str = "wavelet",
        tile: int | None = None,
        seed: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:  # (B, 1 or 3, H * scale, W * scale) in [0, 1], float32, on the same device
        """Pictures at more pixels, without gradients.

        Up to 1024 x 1024 px of output are done in one piece as far as memory allows; beyond, tiles share the statistics
        of their norms, see `run_shared`. How degraded a picture is, is decided once for the whole of it. Grey pictures
        are shown as three equal channels, and the mean of what comes back is grey again.

        Args:
            pictures: each is done alone.
            scale: 1 (restore only) to 4.
            scores: how degraded they are; where there are ranks, these or an estimator are needed.
            estimator: what scores them unless scores are given.
            colour: "wavelet", "adain" or "none"; see `fix_colour`.
            tile: side of the tiles, px of the output; see above.
            seed: draw the latents from the encoder's distribution with it; their mean unless given.
            progress: told the number of stages done and of all, three for each picture.

        Raises:
            ArgumentError: an option is out of range.
            ShapeError: the pictures are none.
            ModelError: what comes out are no finite numbers.
            LimitError: memory ran out.
        """
        self._check(pictures, scale, colour, tile)
        if seed is not None and not is_whole(seed, 0, _LAST_SEED):
            raise ArgumentError(f"seed is None or a whole number from 0 to 2**62, not {seed!r}")
        if estimator is not None and not callable(estimator):
            raise ArgumentError(
                f"estimator is what moesaic.upscale.estimators.make_estimator makes, not {type(estimator).__name__}"
            )
        choosing = self.mix is not None and self.mix.scores is not None
        if choosing and scores is None:
            if estimator is None:
                raise ArgumentError(
                    "this model's ranks are chosen by how degraded a picture is; pass scores or estimator"
                )
            with torch.no_grad():
                scores = estimator(pictures.expand(-1, 3, -1, -1))
        if choosing and scores is not None and len(scores.values) != len(pictures):
            raise ArgumentError(f"scores of {len(scores.values)} pictures are no scores of {len(pictures)}")
        finished, training = [], self.training
        self.eval()
        try:
            for b in range(len(pictures)):
                generator = None if seed is None else torch.Generator().manual_seed(seed + b)
                told = None if progress is None else _later(progress, 3 * b, 3 * len(pictures))
                mine = None if scores is None else scores.values[b : b + 1].to(self.prompt.device)
                merged = nullcontext() if self.mix is None else self.mix.merged(mine)
                with torch.no_grad(), merged:
                    finished.append(self._one(pictures[b : b + 1].float(), scale, colour, tile, generator, told))
        finally:
            self.train(training)
        return torch.cat(finished)

    def _one(
        self,
        picture: Tensor,  # (1, C, H, W)
        scale: int,
        colour: str,
        tile: int | None,
        generator: torch.Generator | None,
        told: Callable[[int], None] | None,
    ) -> Tensor:  # (1, C, H * scale, W * scale)
        codec = self.codec
        large = (enlarged(picture, scale) if scale > 1 else picture).clamp(0, 1)
        x = filled(large.expand(-1, 3, -1, -1), self.multiple_of)
        cells = x.shape[-2] * x.shape[-1] // codec.factor**2
        side = -(-tile // codec.factor) if tile is not None else TILE if cells > WHOLE else None
        z = codec.encode_tiled(x, tile=side, overlap=OVERLAP, generator=generator)
        if told is not None:
            told(1)
        made = run_shared(
            self.made_of,
            self.unet,
            z,
            tile=side,
            overlap=OVERLAP,
            multiple_of=self._coarsest(),
            joined=cells <= WHOLE,
        )
        clean = self.one_step.clean(z, made)
        if told is not None:
            told(2)
        result = codec.decode_tiled(clean, tile=side, overlap=OVERLAP)[
            ..., : large.shape[-2], : large.shape[-1]
        ].float()
        if not bool(result.isfinite().all()):
            raise ModelError(
                f"what comes out are no finite numbers in {str(self.unet.dtype).removeprefix('torch.')}; try"
                " precision='bfloat16' or 'float32'"
            )
        if picture.shape[1] == 1:
            result = result.mean(1, keepdim=True)
        result = fix_colour(result.clamp(0, 1), large, colour).clamp(0, 1)
        if told is not None:
            told(3)
        return result

    def _check(self, pictures: Tensor, scale: int, colour: str, tile: int | None) -> None:
        if (
            not is_a(pictures, torch.Tensor)
            or pictures.ndim != 4
            or pictures.shape[1] not in (1, 3)
            or not pictures.numel()
        ):
            raise ShapeError("pictures are (B, 1 or 3, H, W) and not empty")
        if not pictures.is_floating_point() or not bool(pictures.isfinite().all()):
            raise ShapeError("pictures hold finite floats in [0, 1]")
        if not is_whole(scale, self.scales[0], self.scales[-1]):
            raise ArgumentError(f"scale is a whole number from 1 to 4, not {scale!r}")
        if colour not in COLOUR_FIXES:
            raise ArgumentError(f"colour is one of {', '.join(COLOUR_FIXES)}, not {colour!r}")
        least = 2 * self.multiple_of
        if tile is not None and not is_whole(tile, least):
            raise ArgumentError(f"tile is a whole number of px of the output, at least {least}, not {tile!r}")

    def _coarsest(self) -> int:
        """How many latents along a side the UNet's coarsest map joins into one."""
        blocks: int = len(self.unet.config.block_out_channels)
        return 1 << (blocks - 1)


def _later(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total)
