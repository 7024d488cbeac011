"""Pictures to latents and back: an autoencoder of diffusers, whole or in tiles that share their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from moesaic.errors import ModelError, ShapeError
from moesaic.memory import machine_bytes
from moesaic.upscale.shared_norm import TOGETHER, run_shared
from moesaic.values import is_number

if TYPE_CHECKING:
    from torch import Tensor


class LatentCodec:
    """What an `AutoencoderKL` makes of pictures in [0, 1], in the scale that its diffusion model was trained with.

    `encode` and `decode` take a batch whole and carry gradients; `encode_tiled` and `decode_tiled` take one picture of
    any size and carry none. The latents of all four are the same, up to rounding and what tiles cannot see.

    Args:
        vae: the autoencoder. It is called by its parts, so layers may be replaced at any time.

    Raises:
        ModelError: its configuration lacks something.
    """

    def __init__(self, vae: Any) -> None:
        config = vae.config
        self.vae = vae
        self.factor: int = 1 << (len(config.block_out_channels) - 1)  # pixels per latent, along a side
        self.channels = int(config.latent_channels)
        if not config.scaling_factor:
            raise ModelError("vae/config.json states no scaling_factor; that of Stable Diffusion is 0.18215")
        told = {"scaling_factor": config.scaling_factor, "shift_factor": getattr(config, "shift_factor", None) or 0.0}
        for name, value in told.items():
            if not is_number(value):
                raise ModelError(f"vae/config.json states a {name} of {value!r}, which is no number")
        self._scale, self._shift = float(told["scaling_factor"]), float(told["shift_factor"])

    def encode(
        self,
        pictures: Tensor,  # (B, 3, H, W) in [0, 1], sides multiples of the factor
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # (B, c, H / factor, W / factor)
        """The mean of the latents' distribution; a draw from it where a generator is given.

        Raises:
            ShapeError: a side is no multiple of the factor.
        """
        self._check(pictures)
        return self._latent(self._moments(pictures), generator)

    def decode(
        self,
        latents: Tensor,  # (B, c, h, w)
    ) -> Tensor:  # (B, 3, h * factor, w * factor), about [0, 1]
        """The pictures of latents; values may leave [0, 1]."""
        return self._picture(latents)

    def encode_tiled(
        self,
        picture: Tensor,  # (1, 3, H, W) in [0, 1], sides multiples of the factor
        *,
        tile: int | None = None,
        overlap: int = 32,
        generator: torch.Generator | None = None,
    ) -> Tensor:  # (1, c, H / factor, W / factor), on the device of the picture
        """As `encode`, in tiles of so many latents where the picture is larger; see `run_shared`.

        Raises:
            ShapeError: a side is no multiple of the factor.
            LimitError: memory ran out.
        """
        self._check(picture)
        parts = nn.ModuleList(part for part in (self.vae.encoder, self.vae.quant_conv) if part is not None)
        moments = run_shared(
            self._moments,
            parts,
            picture,
            tile=tile,
            overlap=overlap,
            inward=self.factor,
            together=self._together(),
        )
        return self._latent(moments, generator)

    def decode_tiled(
        self,
        latent: Tensor,  # (1, c, h, w)
        *,
        tile: int | None = None,
        overlap: int = 32,
    ) -> Tensor:  # (1, 3, h * factor, w * factor), on the device of the latent
        """As `decode`, in tiles of so many latents where there are more; see `run_shared`.

        Raises:
            LimitError: memory ran out.
        """
        parts = nn.ModuleList(part for part in (self.vae.post_quant_conv, self.vae.decoder) if part is not None)
        return run_shared(
            self._picture,
            parts,
            latent,
            tile=tile,
            overlap=overlap,
            outward=self.factor,
            together=self._together(),
        )

    def _moments(self, pictures: Tensor) -> Tensor:  # (B, 2 * c, h, w)
        moments: Tensor = self.vae.encoder((2 * pictures - 1).to(self._dtype()))
        return moments if self.vae.quant_conv is None else self.vae.quant_conv(moments)

    def _latent(self, moments: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, log_variance = moments.chunk(2, dim=1)
        if generator is not None:
            # Drawn where the generator lives, so that the same seed gives the same latents on every device.
            noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
            mean = mean + noise * (log_variance.clamp(-30, 20) / 2).exp()
        return (mean - self._shift) * self._scale

    def _picture(self, latents: Tensor) -> Tensor:
        latents = (latents / self._scale + self._shift).to(self._dtype())
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        pictures: Tensor = self.vae.decoder(latents)
        return pictures / 2 + 0.5

    def _together(self) -> int:
        """Latents of the tiles that go together: as many as half of the machine's memory holds maps of.

        Its system may end a program that takes too much before any error tells of it.
        """
        widest = max(self.vae.config.block_out_channels[:2])  # of the maps at full size, at the decoder's end
        three_maps = 3 * widest * self.factor**2 * self._dtype().itemsize
        return int(max(1, min(TOGETHER, machine_bytes() / 2 / three_maps)))

    def _check(self, pictures: Tensor) -> None:
        if pictures.ndim != 4 or pictures.shape[1] != 3 or any(side % self.factor for side in pictures.shape[-2:]):
            raise ShapeError(
                f"pictures are (B, 3, H, W) with sides that are multiples of {self.factor}, not"
                f" {tuple(pictures.shape)}; moesaic.upscale.latent.filled makes them so"
            )

    def _dtype(self) -> torch.dtype:
        kind: torch.dtype = next(self.vae.parameters()).dtype
        return kind


def filled(
    x: Tensor,  # (B, C, H, W)
    multiple_of: int,
) -> Tensor:  # (B, C, H', W')
    """The picture, filled up to multiples below and to the right by mirroring, or by its rim where it is too narrow."""
    below, right = -x.shape[-2] % multiple_of, -x.shape[-1] % multiple_of
    for sides, room, length in (((0, 0, 0, below), below, x.shape[-2]), ((0, right, 0, 0), right, x.shape[-1])):
        if room:
            x = F.pad(x, sides, mode="reflect" if room < length else "replicate")
    return x
