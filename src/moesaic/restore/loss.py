"""What a restoration network is trained on: pixels, frequencies, labels, and the cost of the chosen experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from moesaic.restore.decision import Pass

FLOOR = 3e-5
"""Of a mean squared error, 45 dB: a picture that is as good is finished, and clean ones must not rule."""

_EPSILON = 1e-3  # of Charbonnier's loss, a quarter of a grey level of 255


def pixel_loss(
    restored: Tensor,  # (B, 3, H, W)
    clean: Tensor,  # (B, 3, H, W)
    kind: str,
    floor: float = FLOOR,
) -> Tensor:  # ()
    """The mean over all pixels and channels of |d| ("l1") or sqrt(d^2 + 0.001^2) ("charbonnier"); or "decibel".

    "decibel" is 0.1 log10(mean d^2 + floor) of each picture, averaged over the pictures: a hundredth of its PSNR,
    turned around. So a tenth of the error counts the same in all of them; by the other two, haze and low light, whose
    errors are large, would rule over fine noise and clean pictures. It also makes a network timid: what is wrong to do
    to one clean picture outweighs what is right for many hazy ones, and without a higher floor to begin with it never
    tries.

    Source: Charbonnier et al. 1994; with this constant as in Zamir et al. 2021 (MPRNet); "decibel" as in Chen et al.
    2021 (HINet) and 2022 (NAFNet), but for its scale and its floor.
    """
    difference = restored.float() - clean.float()
    if kind == "decibel":
        return 0.1 * (difference.square().mean((1, 2, 3)) + floor).log10().mean()
    if kind == "l1":
        return difference.abs().mean()
    return torch.sqrt(difference.square() + _EPSILON**2).mean()


def fourier_loss(
    restored: Tensor,  # (B, 3, H, W)
    clean: Tensor,  # (B, 3, H, W)
) -> Tensor:  # ()
    """The mean absolute real and imaginary part of the difference's spectrum, in float32.

    The transform is orthonormal, and this sets the scale of its weight. For a white difference the loss is about 0.7
    of its L1, whatever the size of the crop. An unnormalised transform, as in the code of MoCE-IR, makes it larger by
    the root of the number of pixels: about 90 times L1 for crops of 128x128, so that its weight of 0.1 lets frequencies
    outweigh pixels by 9 to 1, and another crop is another loss.

    Source: Cho et al. 2021 (MIMO-UNet), section 3.4; Zamfir et al. 2025 (MoCE-IR).
    """
    difference = restored.float() - clean.float()
    with torch.autocast(difference.device.type, enabled=False):
        spectrum = torch.view_as_real(torch.fft.rfft2(difference, norm="ortho"))
    return spectrum.abs().mean()


def label_loss(
    outcome: Pass,
    present: Tensor,  # (B, L), 1 where a kind of degradation is there
    severity: Tensor,  # (B, L), in [0, 1]
) -> Tensor:  # ()
    """Cross-entropy of what is said to be there, and the mean error of how strong it is where it is.

    A network that says neither has 0.
    """
    there = present.float()
    total = outcome.restored.new_zeros((), dtype=torch.float32)
    if outcome.present is not None:
        total = total + F.binary_cross_entropy_with_logits(outcome.present.float(), there)
    if outcome.severity is not None:
        errors = (outcome.severity.float() - severity.float()).abs() * there
        total = total + errors.sum() / there.sum().clamp_min(1)
    return total
