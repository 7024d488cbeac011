"""What is done to a finished picture: JPEG, and a smaller size and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moesaic.degrade.bases import dct_basis, jpeg_tables, smaller, to_rgb, to_ycc
from moesaic.degrade.filters import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_TIE = 2.0**20  # values closer than its inverse are one: what lies on a half must round the same way everywhere


def jpeg(x: Array, quality: int, *, halved: bool = True) -> Array:
    """What is left of a picture (H, W, 3) after JPEG of a quality of 1 to 100, on the 256 levels of 8 bits.

    Args:
        x: in [0, 1]; rounded to 8 bits first.
        quality: on the scale of libjpeg.
        halved: chroma at half the size (4:2:0), averaged, and enlarged by a triangle filter as libjpeg does.

    Source:
        ITU-T T.81; constants and tables as in libjpeg.
    """
    height, width = x.shape[:2]
    block = 16 if halved else 8
    levels = np.floor(np.clip(x, 0, 1) * 255 + 0.5)
    levels = np.pad(levels, ((0, -height % block), (0, -width % block), (0, 0)), mode="edge")
    planes = levels @ to_ycc().T + np.array([0, 128, 128])
    tables = jpeg_tables(quality)
    back = np.empty_like(planes)
    back[..., 0] = _through(_round(planes[..., 0]), tables[0])
    for channel in (1, 2):
        chroma = _round(planes[..., channel])
        if halved:
            chroma = (chroma[::2, ::2] + chroma[::2, 1::2] + chroma[1::2, ::2] + chroma[1::2, 1::2]) / 4
        chroma = _through(_round(chroma), tables[1])
        if halved:
            chroma = _doubled(_doubled(chroma).T).T
        back[..., channel] = chroma - 128
    return np.clip(_round((back @ to_rgb().T)[:height, :width]), 0, 255) / 255


def shrink_and_enlarge(x: Array, scale: float) -> Array:
    """A picture (H, W, 3) made smaller by `scale` and as large as before again, by bicubic filters."""
    height, width = x.shape[:2]
    small = resize(x, smaller(height, scale), smaller(width, scale))
    return np.clip(resize(small, height, width), 0, 1)


def _through(plane: Array, table: Array) -> Array:
    """A plane (H, W) on whole levels, transformed, quantised by a table (64,), and back on whole levels."""
    height, width = plane.shape
    blocks = (plane - 128).reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
    whole = _round(blocks @ dct_basis().T / table) * table
    back = (whole @ dct_basis()).reshape(height // 8, width // 8, 8, 8).transpose(0, 2, 1, 3)
    return np.clip(_round(back.reshape(height, width) + 128), 0, 255)


def _doubled(plane: Array) -> Array:
    """Twice as many rows: each between two of before, three quarters from the nearer."""
    above = np.concatenate([plane[:1], plane[:-1]])
    below = np.concatenate([plane[1:], plane[-1:]])
    return np.stack([0.75 * plane + 0.25 * above, 0.75 * plane + 0.25 * below], 1).reshape(-1, plane.shape[1])


def _round(x: Array) -> Array:
    """To whole numbers, halves up; what a sum in another order has moved off a half is put back on it first."""
    return np.floor(np.round(x * _TIE) / _TIE + 0.5)
