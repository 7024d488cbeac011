"""HaarPSI: 1 for equal pictures, less for worse ones, and the formula written out pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.haar_psi import haar_psi


def picture(seed: int = 0, side: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    return 120 + 60 * np.sin(rows / 3) * np.cos(columns / 4) + rng.normal(0, 8, (side, side))


def test_equal_pictures():
    assert haar_psi(picture(), picture()) == pytest.approx(1, abs=1e-9)
    assert haar_psi(np.full((16, 16), 7.0), np.full((16, 16), 7.0)) == pytest.approx(1)


def test_worse_pictures_score_less():
    clean, rng = picture(side=48), np.random.default_rng(1)
    noise = rng.normal(0, 1, clean.shape)
    scores = [haar_psi(clean, clean + sigma * noise) for sigma in (0, 4, 16, 64)]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < 0.6 < scores[1] < 1


def test_is_symmetric():
    assert haar_psi(picture(0), picture(1)) == pytest.approx(haar_psi(picture(1), picture(0)))


def test_the_formula_by_hand():
    a, b = picture(0, 16), picture(3, 16)

    def at(image, kernel, row, column):  # a convolution that keeps the size, zero beyond the edges
        rows, columns = kernel.shape
        total = 0.0
        for i in range(rows):
            for j in range(columns):
                r, c = row - i + (rows - 1) // 2, column - j + (columns - 1) // 2
                if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                    total += kernel[i, j] * image[r, c]
        return total

    def small(image):
        return np.array([[at(image, np.full((2, 2), 0.25), r, c) for c in range(0, 16, 2)] for r in range(0, 16, 2)])

    def haar(scale, turned):
        kernel = np.full((2**scale, 2**scale), 2.0**-scale)
        kernel[: 2 ** (scale - 1)] *= -1
        return kernel.T if turned else kernel

    x, y, top, below = small(a), small(b), 0.0, 0.0
    for turned in (False, True):
        for row in range(8):
            for column in range(8):
                p = [abs(at(x, haar(scale, turned), row, column)) for scale in (1, 2, 3)]
                q = [abs(at(y, haar(scale, turned), row, column)) for scale in (1, 2, 3)]
                mean = sum((2 * p[k] * q[k] + 30) / (p[k] ** 2 + q[k] ** 2 + 30) for k in (0, 1)) / 2
                top += max(p[2], q[2]) / (1 + math.exp(-4.2 * mean))
                below += max(p[2], q[2])
    share = top / below
    assert haar_psi(a, b) == pytest.approx((math.log(share / (1 - share)) / 4.2) ** 2, abs=1e-9)
