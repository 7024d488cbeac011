"""How far a picture is from its source, in the conventions of all tables.

RGB PSNR over all pixels and channels, one mean square error a picture, on arrays clipped and rounded to 8 bits; a set's
value is the mean of its pictures' dB. SSIM is that of `moesaic.metrics.ssim`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesaic import metrics


def rounded(pixels: NDArray[np.floating]) -> NDArray[np.float32]:  # (H, W, C) in [0, 1]
    """Clipped to [0, 1] and rounded to the 256 values of 8 bits."""
    levels: NDArray[np.floating] = np.round(np.clip(pixels, 0.0, 1.0) * 255.0)
    return (levels / 255.0).astype(np.float32)


def score(pixels: NDArray[np.floating], source: NDArray[np.floating]) -> dict[str, float]:  # (H, W, C) both
    """PSNR with and without rounding, and SSIM, of a rendered picture."""
    eight = rounded(pixels)
    return {
        "psnr": round(metrics.psnr(eight, source), 4),
        "psnr_unrounded": round(metrics.psnr(np.clip(pixels, 0.0, 1.0), source), 4),
        "ssim": round(metrics.ssim(eight, source), 5),
    }
