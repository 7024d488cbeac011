"""Classic remedies that restoration is held against, each a few lines of NumPy, SciPy and scikit-image.

None has learned anything. Strengths were tuned on a few training pictures, or are the published ones: each docstring
says which.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.denoise import non_local_means
from moesaic.mixture.noise import estimate_noise

Pixels = NDArray[np.float32]  # (H, W, 3) in [0, 1]
Plane = NDArray[np.float64]  # (H, W)

_LUMA = (0.299, 0.587, 0.114)


def dark_channel(
    pixels: NDArray[np.floating],  # (H, W, 3)
    radius: int = 7,  # px
) -> Plane:  # (H, W)
    """The least value of any channel within a square of 2 * radius + 1 px."""
    from scipy.ndimage import minimum_filter

    return np.asarray(minimum_filter(pixels.min(axis=2).astype(np.float64), 2 * radius + 1, mode="nearest"))


def guided(
    guide: Plane,
    values: Plane,
    radius: int = 40,  # px
    softness: float = 1e-3,
) -> Plane:
    """Values smoothed so that they have edges only where the guide has them.

    Source: He, Sun and Tang, "Guided image filtering", ECCV 2010.
    """
    from scipy.ndimage import uniform_filter

    def mean(plane: Plane) -> Plane:
        return np.asarray(uniform_filter(plane, 2 * radius + 1, mode="nearest"))

    centre, level = mean(guide), mean(values)
    slope = (mean(guide * values) - centre * level) / (mean(guide * guide) - centre * centre + softness)
    return mean(slope) * guide + mean(level - slope * centre)


def dehaze(pixels: Pixels, *, kept: float = 0.95, least: float = 0.1) -> Plane:  # (H, W, 3)
    """The haze taken away that the dark channel shows; the strength is the published one.

    Source: He, Sun and Tang, "Single image haze removal using dark channel prior", CVPR 2009.

    Args:
        pixels: the hazy picture.
        kept: share of the haze that is taken away.
        least: transmission below which nothing is amplified further.
    """
    x = pixels.astype(np.float64)
    dark = dark_channel(x)
    haziest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    air = np.maximum(x.reshape(-1, 3)[haziest].mean(axis=0), 1e-3)
    through = guided(x @ np.array(_LUMA), 1.0 - kept * dark_channel(x / air))
    return (x - air) / np.maximum(through, least)[..., None] + air


def nlm(pixels: Pixels, sigma: float | None) -> Pixels:
    """Non-local means at a strength tuned on training pictures, told sigma, or else moesaic's own estimate of it."""
    level = estimate_noise(np.ascontiguousarray(pixels.transpose(2, 0, 1))) if sigma is None else sigma
    return non_local_means(pixels, level)["NLM"] if level > 0.5 else pixels


def gaussian(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """A blur of 0.8 px, tuned on training pictures with noise of sigma 25."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(pixels, (0.8, 0.8, 0), mode="nearest"))


def weak_variation(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """Total variation, tuned on training pictures as JPEG of quality 10."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(pixels, weight=0.02, channel_axis=2))


def strong_variation(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """Total variation, tuned on training pictures with blur, noise and JPEG."""
    from skimage.restoration import denoise_tv_chambolle

    return np.asarray(denoise_tv_chambolle(pixels, weight=0.08, channel_axis=2))


def median(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """The median of 5 x 5 px, of each channel."""
    from scipy.ndimage import median_filter

    eight = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    return (median_filter(eight, (5, 5, 1), mode="nearest") / 255.0).astype(np.float32)


def opening(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """The least, then the greatest value of 3 x 3 px, of each channel: bright streaks up to 2 px wide go."""
    from scipy.ndimage import grey_opening

    return np.asarray(grey_opening(pixels, (3, 3, 1), mode="nearest"))


def dark_channel_prior(pixels: Pixels, sigma: float | None) -> Plane:  # noqa: ARG001
    """`dehaze` at its published strength."""
    return dehaze(pixels)


def gamma(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """Values to the power of 1 / 2.5, the best of a few on real pairs."""
    return np.clip(pixels, 0, 1) ** np.float32(1 / 2.5)


def clahe(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """Local histogram equalisation of the lightness (CIELAB), scikit-image's defaults."""
    from skimage import color, exposure

    lab = color.rgb2lab(np.clip(pixels, 0, 1))
    lab[..., 0] = 100 * exposure.equalize_adapthist(np.clip(lab[..., 0] / 100, 0, 1))
    return np.asarray(color.lab2rgb(lab))


def unsharp(pixels: Pixels, sigma: float | None) -> Pixels:  # noqa: ARG001
    """The unsharp mask, 2 px, tuned on training pictures out of focus."""
    from skimage.filters import unsharp_mask

    return np.asarray(unsharp_mask(pixels, radius=2.0, amount=0.6, channel_axis=2, preserve_range=True))


def gamma_nlm(pixels: Pixels, sigma: float | None) -> Pixels:
    """`gamma`, then `nlm` told nothing."""
    return nlm(gamma(pixels, sigma).astype(np.float32), None)


def opening_dehaze(pixels: Pixels, sigma: float | None) -> Plane:
    """`opening`, then `dehaze`."""
    return dehaze(opening(pixels, sigma))


REMEDIES: dict[str, Callable[[Pixels, float | None], NDArray[np.floating]]] = {
    "NLM": nlm,
    "blur": gaussian,
    "TV": weak_variation,
    "strong TV": strong_variation,
    "median": median,
    "opening": opening,
    "dark channel": dark_channel_prior,
    "gamma": gamma,
    "CLAHE": clahe,
    "unsharp": unsharp,
    "gamma, NLM": gamma_nlm,
    "opening, dark channel": opening_dehaze,
}
"""By name; each is told the sigma of the noise where somebody knows it."""


def gain_fitted(
    pixels: NDArray[np.floating],  # (H, W, C)
    clean: NDArray[np.floating],  # (H, W, C)
) -> NDArray[np.float64]:
    """The pixels times the one number that brings them nearest to the clean ones: exposure is ambiguous."""
    x, y = pixels.astype(np.float64), clean.astype(np.float64)
    power = float((x * x).sum())
    return x * (float((x * y).sum()) / power if power > 0 else 1.0)


def best_shift(
    pixels: NDArray[np.floating],  # (H, W, C)
    clean: NDArray[np.floating],  # (H, W, C)
    reach: int,  # px
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Both without `reach` px at each side, the first moved by the whole pixels that bring it nearest to the second."""
    height, width = clean.shape[:2]
    inner = clean[reach : height - reach, reach : width - reach]
    moved = [
        pixels[y : y + inner.shape[0], x : x + inner.shape[1]]
        for y in range(2 * reach + 1)
        for x in range(2 * reach + 1)
    ]
    return min(moved, key=lambda one: float(np.square(one - inner).mean())), inner
