"""What restoration is trained on: values by hand, and scales that do not move with the crop."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from moesaic.restore.loss import FLOOR, fourier_loss, label_loss, pixel_loss


def _pair(side=16, std=0.1, seed=0):
    clean = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return clean + std * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed + 1)), clean


def test_pixel_losses():
    restored, clean = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.2)
    assert pixel_loss(restored, clean, "l1").item() == pytest.approx(0.3)
    assert pixel_loss(restored, clean, "charbonnier").item() == pytest.approx((0.3**2 + 1e-6) ** 0.5)
    clean.requires_grad_()
    pixel_loss(clean, clean.detach(), "charbonnier").backward()  # the root has a gradient at 0
    assert torch.equal(clean.grad, torch.zeros_like(clean))


def test_decibels_count_alike_at_every_level():
    clean = torch.full((1, 3, 8, 8), 0.5)
    losses = [pixel_loss(clean + error, clean, "decibel").item() for error in (0.4, 0.2, 0.1)]
    assert losses[0] - losses[1] == pytest.approx(losses[1] - losses[2], abs=1e-3)
    assert losses[0] - losses[1] == pytest.approx(0.0602, abs=1e-3)  # 6.02 dB over a hundred
    assert pixel_loss(clean, clean, "decibel").isfinite()


def test_below_the_floor_decibels_see_no_gain():
    clean = torch.full((2, 3, 8, 8), 0.5)
    restored = clean + torch.tensor([0.1, 0.01])[:, None, None, None]  # squared 1e-2 and 1e-4
    wanted = 0.1 * (math.log10(1e-2 + 1e-3) + math.log10(1e-4 + 1e-3)) / 2
    assert pixel_loss(restored, clean, "decibel", 1e-3).item() == pytest.approx(wanted)
    assert pixel_loss(restored, clean, "decibel") == pixel_loss(restored, clean, "decibel", FLOOR)

    def gained(floor: float) -> float:  # by halving the error of the better picture
        better = clean[1:] + torch.tensor(0.005)
        return (
            pixel_loss(restored[1:], clean[1:], "decibel", floor) - pixel_loss(better, clean[1:], "decibel", floor)
        ).item()

    assert gained(1e-2) < 0.1 * gained(FLOOR)
    assert pixel_loss(restored, clean, "l1", 1e-2) == pixel_loss(restored, clean, "l1")


@pytest.mark.parametrize("side", [16, 64, 128])
def test_the_loss_on_frequencies_has_one_scale_for_all_crops(side):
    restored, clean = _pair(side)
    share = fourier_loss(restored, clean) / pixel_loss(restored, clean, "l1")
    assert share.item() == pytest.approx(2**-0.5, rel=0.05)


def test_frequencies_are_taken_in_float32():
    restored, clean = _pair()
    wanted = fourier_loss(restored.bfloat16().float(), clean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fourier_loss(restored.bfloat16(), clean)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted)


def _said(present=None, severity=None):
    return SimpleNamespace(restored=torch.zeros(2, 3, 4, 4), present=present, severity=severity)


def test_severity_counts_only_where_something_is():
    present = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    severity = torch.tensor([[0.8, 0.0], [0.0, 0.0]])
    said = torch.tensor([[0.5, 0.9], [0.7, 0.3]])
    assert label_loss(_said(severity=said), present, severity).item() == pytest.approx(0.3)
    nothing = torch.zeros(2, 2)
    assert label_loss(_said(severity=said), nothing, nothing).item() == 0
    assert label_loss(_said(present=nothing), present, severity).item() == pytest.approx(0.6931, abs=1e-4)
    assert label_loss(_said(), present, severity).item() == 0  # a network that says nothing
