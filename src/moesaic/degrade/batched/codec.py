"""What is done to a finished picture: JPEG, and a smaller size and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from moesaic.degrade.bases import dct_basis, down_and_up, jpeg_tables, to_rgb, to_ycc
from moesaic.degrade.batched.filters import constant

if TYPE_CHECKING:
    from torch import Tensor

_TIE = 2.0**20  # values closer than its inverse are one: what lies on a half must round the same way everywhere


def jpeg(x: Tensor, quality: Sequence[int], *, halved: bool = True) -> Tensor:
    """What is left of pictures (B, 3, H, W) after JPEG of quality 1 to 100 each, on the 256 levels of 8 bits.

    Args:
        x: in [0, 1]; rounded to 8 bits first.
        quality: one for each picture.
        halved: chroma at half the size (4:2:0), averaged, and enlarged by a triangle filter as libjpeg does.

    Source:
        ITU-T T.81; constants and tables as in libjpeg.
    """
    height, width = x.shape[-2:]
    block = 16 if halved else 8
    # float64 throughout: a coefficient near a half must not depend on the device
    levels = (x.double().clamp(0, 1) * 255 + 0.5).floor()
    levels = F.pad(levels, (0, -width % block, 0, -height % block), mode="replicate")
    planes = torch.einsum("ij,bjhw->bihw", constant(to_ycc, x.device, torch.float64), levels)
    planes[:, 1:] += 128
    tables = torch.stack([constant(jpeg_tables, x.device, torch.float64, q) for q in quality])  # (B, 2, 64)
    luma = _through(_round(planes[:, :1]), tables[:, :1])
    chroma = planes[:, 1:]
    if halved:
        chroma = F.avg_pool2d(_round(chroma), 2)
    chroma = _through(_round(chroma), tables[:, 1:].expand(-1, 2, -1))
    if halved:
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    back = torch.einsum("ij,bjhw->bihw", constant(to_rgb, x.device, torch.float64), torch.cat([luma, chroma - 128], 1))
    return (_round(back[..., :height, :width]).clamp(0, 255) / 255).to(x.dtype)


def shrink_and_enlarge(x: Tensor, scale: Sequence[float]) -> Tensor:
    """Pictures (B, 3, H, W), each made smaller by its scale and as large as before again, by bicubic filters."""
    height, width = x.shape[-2:]
    rows = torch.stack([constant(down_and_up, x.device, x.dtype, height, s) for s in scale])
    columns = torch.stack([constant(down_and_up, x.device, x.dtype, width, s) for s in scale])
    return (rows[:, None] @ x @ columns[:, None].mT).clamp(0, 1)


def _through(planes: Tensor, tables: Tensor) -> Tensor:
    """Planes (B, C, H, W) on whole levels, transformed, quantised by tables (B, C, 64), and back on whole levels."""
    batch, channels, height, width = planes.shape
    basis = constant(dct_basis, planes.device, torch.float64)
    blocks = (planes - 128).reshape(batch, channels, height // 8, 8, width // 8, 8)
    blocks = blocks.transpose(3, 4).reshape(batch, channels, -1, 64)
    steps = tables[:, :, None]
    whole = _round(blocks @ basis.mT / steps) * steps
    back = (whole @ basis).reshape(batch, channels, height // 8, width // 8, 8, 8).transpose(3, 4)
    return _round(back.reshape(planes.shape) + 128).clamp(0, 255)


def _round(x: Tensor) -> Tensor:
    """To whole numbers, halves up; what a sum in another order has moved off a half is put back on it first."""
    return ((x * _TIE).round() / _TIE + 0.5).floor()
