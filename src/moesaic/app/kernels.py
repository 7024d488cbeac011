"""A mixture as the bytes that the page's zoom reads: what `static/zoom_kernels.js` takes apart again.

Everything is little-endian. A header of eight words of 32 bits, then the arrays one after another, nothing between:

    magic "MOEK", version, kernels N, channels C, order, width, height, 0
    centres      float64 (N, 2)     px of the canvas
    factors      float32 (N, 3)     l_xx, l_yx, l_yy, 1/px
    log_priors   float32 (N,)
    colours      float32 (N, C)     premultiplied where there is alpha
    slopes       float32 (N, C, 2)  for order 1 only

Centres come first and in float64, so that they lie at a multiple of eight bytes and hold whatever a mixture holds.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from moesaic.mixture.render import check

if TYPE_CHECKING:
    from numpy.typing import DTypeLike
    from torch import Tensor

    from moesaic.mixture.model import Mixture

MAGIC = b"MOEK"
VERSION = 1
HEADER = struct.Struct("<4s7I")


def kernel_bytes(mixture: Mixture) -> bytes:
    """The mixture as the page reads it.

    Raises:
        ShapeError: it has no kernels.
        ArgumentError: a parameter is not finite, or not a Cholesky factor.
    """
    check(mixture)
    header = HEADER.pack(
        MAGIC, VERSION, len(mixture), mixture.channels, mixture.order, mixture.width, mixture.height, 0
    )
    parts = [_bytes(mixture.centres, "<f8")]
    parts += [_bytes(tensor, "<f4") for tensor in (mixture.factors, mixture.log_priors, mixture.colours)]
    if mixture.slopes is not None:
        parts.append(_bytes(mixture.slopes, "<f4"))
    return b"".join([header, *parts])


def size_of(kernels: int, channels: int, order: int) -> int:
    """How many bytes such a mixture takes: for limits, before anything is made."""
    return HEADER.size + kernels * (16 + 12 + 4 + 4 * channels * (3 if order else 1))


def _bytes(tensor: Tensor, kind: DTypeLike) -> bytes:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=kind).tobytes()
