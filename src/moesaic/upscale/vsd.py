"""Variational score distillation: what comes out is drawn to where a diffusion model finds pictures likely.

Wang et al., 2023 (ProlificDreamer), in the normalised form of Yin et al., 2024 (DMD) that one-step upscalers use. Two
networks look at the same noisy latent: a frozen one that knows pictures, and one that is fitted all along to what the
student makes. Where they disagree, the student moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.nn import functional as F

from moesaic.errors import ArgumentError
from moesaic.values import is_number

if TYPE_CHECKING:
    from torch import Tensor

    from moesaic.upscale.one_step import Schedule

Denoiser: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"
"""Noisy latents (B, c, h, w), times (B,), text (B, N, D) to what a diffusion network predicts, (B, c, h, w)."""


def denoiser(
    unet: Any,
) -> Denoiser:
    """A `UNet2DConditionModel` as a function."""

    def predict(latents: Tensor, times: Tensor, text: Tensor) -> Tensor:
        made: Tensor = unet(latents.to(unet.dtype), times, encoder_hidden_states=text.to(unet.dtype)).sample
        return made

    return predict


def vsd_loss(
    clean: Tensor,  # (B, c, h, w), the student's latents
    frozen: Denoiser,
    fitted: Denoiser,
    schedule: Schedule,
    *,
    text: Tensor,  # (1 or B, N, D)
    no_text: Tensor,  # (1 or B, N, D), or a text of what is not wanted
    guidance: float = 7.5,
    span: tuple[float, float] = (0.02, 0.98),
    generator: torch.Generator | None = None,
) -> Tensor:  # scalar
    """What draws a student's latents to likely pictures: MSE(z, stop(z - grad)).

    With grad = (x0_fitted(z_t) - x0_frozen(z_t)) / mean |z - x0_frozen(z_t)| for each latent. The value says little;
    the gradient on z is 2 grad / (number of elements). Neither of the two networks gets one.

    Args:
        clean: what the student makes.
        frozen: the network that knows pictures; told both texts, for guidance (Ho and Salimans, 2021).
        fitted: the network that `fitting_loss` fits to the student.
        schedule: of both networks.
        text: what the pictures show.
        no_text: what guidance leads away from.
        guidance: how far: 1 is none.
        span: share of the schedule from which times are drawn.
        generator: of times and noise; lives on the CPU.

    Raises:
        ArgumentError: the span is no part of [0, 1].
    """
    times, noise = _drawn(clean, schedule, span, generator)
    with torch.no_grad():
        z = clean.detach().float()
        noisy = schedule.noised(z, noise, times)
        text, no_text = _for_each(text, clean), _for_each(no_text, clean)
        seen = schedule.clean_in(noisy, fitted(noisy, times, text), times)
        with_text = frozen(noisy, times, text)
        if guidance != 1:
            without = frozen(noisy, times, no_text)
            with_text = without + guidance * (with_text - without)
        likely = schedule.clean_in(noisy, with_text, times)
        size = (z - likely).abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)
        goal = z - torch.nan_to_num((seen - likely) / size)
    return F.mse_loss(clean.float(), goal)


def fitting_loss(
    clean: Tensor,  # (B, c, h, w), the student's latents
    fitted: Denoiser,
    schedule: Schedule,
    *,
    text: Tensor,  # (1 or B, N, D)
    span: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:  # scalar
    """The ordinary diffusion loss on what the student makes: the mean squared error of the prediction.

    Its gradient reaches the fitted network and never the student. Arguments as in `vsd_loss`.

    Raises:
        ArgumentError: the span is no part of [0, 1].
    """
    z = clean.detach().float()
    times, noise = _drawn(z, schedule, span, generator)
    noisy = schedule.noised(z, noise, times)
    goal = schedule.goal(z, noise, times)
    return F.mse_loss(fitted(noisy, times, _for_each(text, z)).float(), goal)


def _drawn(
    z: Tensor, schedule: Schedule, span: tuple[float, float], generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:  # (B,), (B, c, h, w)
    """Times and noise, drawn on the CPU, so that the same seed gives the same on every device.

    Raises:
        ArgumentError: the span is no part of [0, 1].
    """
    low, high = span
    if not (is_number(low) and is_number(high) and 0 <= low < high <= 1):
        raise ArgumentError(f"span is two shares of the schedule, such as (0.02, 0.98), not {span!r}")
    first = min(int(low * schedule.steps), schedule.steps - 1)
    last = max(int(high * schedule.steps), first + 1)
    times = torch.randint(first, last, (len(z),), generator=generator)
    noise = torch.randn(z.shape, generator=generator)
    return times.to(z.device), noise.to(z.device)


def _for_each(text: Tensor, z: Tensor) -> Tensor:
    return text.expand(len(z), -1, -1)
