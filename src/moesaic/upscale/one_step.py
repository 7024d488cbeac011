"""One step of a diffusion model: from a noisy latent, and what the network makes of it, to the clean one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from moesaic.errors import ArgumentError, ModelError
from moesaic.values import is_a, is_whole

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("residual", "eps_t")

PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """How much of a clean latent is left at each time, and what the network predicts there.

    Notation of Ho et al., 2020: z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps; and of Salimans and Ho, 2022:
    v = sqrt(abar_t) eps - sqrt(1 - abar_t) z_0.

    Raises:
        ModelError: the numbers are no schedule, or the prediction is unknown.
    """

    alphas_cumprod: Tensor  # (T,), abar, falling from about 1 to about 0
    prediction: str = "epsilon"  # or "v_prediction", as Stable Diffusion 2.1 at 768 px

    def __post_init__(self) -> None:
        abar = self.alphas_cumprod
        if (
            not is_a(abar, torch.Tensor)
            or abar.ndim != 1
            or not abar.numel()
            or not bool(((abar >= 0) & (abar <= 1)).all())
        ):
            raise ModelError(
                "the scheduler's alphas_cumprod are no row of numbers in [0, 1]; see scheduler_config.json"
            )
        if self.prediction not in PREDICTIONS:
            raise ModelError(
                f"a network that predicts {self.prediction!r} cannot be used; prediction_type in scheduler_config.json"
                f" must be one of {', '.join(PREDICTIONS)}"
            )

    @property
    def steps(self) -> int:
        """How many times there are."""
        return len(self.alphas_cumprod)

    def noised(
        self,
        clean: Tensor,  # (B, C, h, w)
        noise: Tensor,  # (B, C, h, w)
        times: Tensor,  # (B,), int64
    ) -> Tensor:  # (B, C, h, w), at least float32
        """Clean latents with noise, as much as there is at each time."""
        signal, spread = self._at(clean, times)
        return signal * clean + spread * noise

    def goal(
        self,
        clean: Tensor,  # (B, C, h, w)
        noise: Tensor,  # (B, C, h, w)
        times: Tensor,  # (B,), int64
    ) -> Tensor:  # (B, C, h, w), at least float32
        """What a perfect network predicts for clean latents with that noise."""
        if self.prediction == "epsilon":
            return _precise(noise)
        signal, spread = self._at(clean, times)
        return signal * noise - spread * clean

    def noise_in(
        self,
        z: Tensor,  # (B, C, h, w)
        made: Tensor,  # (B, C, h, w), what the network makes of z
        times: Tensor,  # (B,), int64
    ) -> Tensor:  # (B, C, h, w), at least float32
        """The noise that the network sees in z."""
        if self.prediction == "epsilon":
            return _precise(made)
        signal, spread = self._at(z, times)
        return signal * made + spread * z

    def clean_in(
        self,
        z: Tensor,  # (B, C, h, w)
        made: Tensor,  # (B, C, h, w), what the network makes of z
        times: Tensor,  # (B,), int64
    ) -> Tensor:  # (B, C, h, w), at least float32
        """The clean latent that the network sees in z.

        At late times a network that predicts noise has its errors multiplied, by 14.6 at the last one of Stable
        Diffusion; so this is computed in float32 whatever precision the network has.
        """
        signal, spread = self._at(z, times)
        if self.prediction == "epsilon":
            return (_precise(z) - spread * made) / signal
        return signal * z - spread * made

    def _at(self, z: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:  # (B, 1, 1, 1) each
        """The weights of signal and noise, at least float32."""
        kind = _precise(z).dtype
        abar = self.alphas_cumprod.to(device=z.device, dtype=kind)[times.to(z.device)].view(-1, 1, 1, 1)
        return abar.sqrt(), (1 - abar).sqrt()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneStep:
    """How one pass of a network cleans the latent of an enlarged picture.

    Two ways are in use. "residual" (PiSA-SR at t = 1, TSD-SR): the noise that the network sees is the damage,
    z0 = z - eps(z, t). "eps_t" (OSEDiff at t = 999): z is taken for a latent of that time,
    z0 = (z - sqrt(1 - abar_t) eps(z, t)) / sqrt(abar_t). Use the one that the weights were trained with.

    Raises:
        ArgumentError: the mode is unknown, or there is no such time.
        ModelError: in mode eps_t nothing of the signal is left at that time, and the network predicts noise.
    """

    schedule: Schedule
    mode: str = "residual"
    time: int | None = None  # 1 for residual and the last one for eps_t unless given

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ArgumentError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}")
        if self.time is not None and not is_whole(self.time, 0, self.schedule.steps - 1):
            raise ArgumentError(f"time is a whole number from 0 to {self.schedule.steps - 1}, not {self.time!r}")
        left = float(self.schedule.alphas_cumprod[self.at])
        if self.mode == "eps_t" and self.schedule.prediction == "epsilon" and left == 0:
            raise ModelError(
                f"no signal is left at time {self.at} of this scheduler (rescale_betas_zero_snr), so noise cannot be"
                " taken off; use mode='residual' or an earlier time"
            )

    @property
    def at(self) -> int:
        """The time that the network is told."""
        if self.time is not None:
            return self.time
        return self.schedule.steps - 1 if self.mode == "eps_t" else min(1, self.schedule.steps - 1)

    def clean(
        self,
        z: Tensor,  # (B, C, h, w)
        made: Tensor,  # (B, C, h, w), what the network makes of z at that time
    ) -> Tensor:  # (B, C, h, w), at least float32
        """The clean latent. A network that predicts v has its prediction turned into noise first."""
        times = torch.full((len(z),), self.at, device=z.device)
        if self.mode == "eps_t":
            return self.schedule.clean_in(z, made, times)
        return z - self.schedule.noise_in(z, made, times)


def _precise(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
