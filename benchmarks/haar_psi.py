"""HaarPSI, a similarity of two pictures that agrees better with people than PSNR does, by formula and without weights.

Source: Reisenhofer, Bosse, Kutyniok and Wiegand 2018, "A Haar wavelet-based perceptual similarity index for image
quality assessment" (arXiv 1607.06140), for grey pictures; C = 30, alpha = 4.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import convolve2d

C, ALPHA = 30.0, 4.2
SCALES = 3

Grey = NDArray[np.float64]  # (H, W), 0 to 255


def haar_psi(a: Grey, b: Grey) -> float:
    """From 0 to 1, which is for equal pictures.

    Args:
        a: luma, 0 to 255; at least 16 px to each side.
        b: another of the same size.
    """
    first, second = _responses(_halved(a)), _responses(_halved(b))
    similar = []
    for one, two in zip(first, second, strict=True):  # horizontal, vertical
        each = [(2 * x * y + C) / (x**2 + y**2 + C) for x, y in zip(one[: SCALES - 1], two[: SCALES - 1], strict=True)]
        similar.append(_logistic(sum(each) / (SCALES - 1)))
    weights = [np.maximum(one[-1], two[-1]) for one, two in zip(first, second, strict=True)]
    total = sum(float(weight.sum()) for weight in weights)
    if total == 0:
        return 1.0  # two plain pictures: nothing to be seen in either
    mean = sum(float((s * w).sum()) for s, w in zip(similar, weights, strict=True)) / total
    return float(np.log(mean / (1 - mean)) / ALPHA) ** 2


def _logistic(x: Grey) -> Grey:
    return np.asarray(1 / (1 + np.exp(-ALPHA * x)))


def _halved(picture: Grey) -> Grey:
    return np.asarray(convolve2d(picture, np.full((2, 2), 0.25), mode="same")[::2, ::2])


def _responses(picture: Grey) -> tuple[list[Grey], list[Grey]]:
    """Absolute responses of the Haar filters of each scale: to horizontal edges, and to vertical ones."""
    across, along = [], []
    for scale in range(1, SCALES + 1):
        side = 2**scale
        kernel = np.full((side, side), 2.0**-scale)
        kernel[: side // 2] *= -1
        across.append(np.abs(convolve2d(picture, kernel, mode="same")))
        along.append(np.abs(convolve2d(picture, kernel.T, mode="same")))
    return across, along
