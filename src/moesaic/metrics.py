"""How close one picture is to another: PSNR, SSIM, MS-SSIM, and what it costs: bits per pixel.

All take NumPy arrays of shape (H, W) or (H, W, C) or torch tensors of shape (H, W) or (C, H, W), compute in float64,
and count every channel alike. Values are floats in [0, 1] unless `peak` says otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from moesaic.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

_SIGMA = 1.5  # px
_RADIUS = 5  # px: 3.5 sigma, rounded
_WINDOW = 2 * _RADIUS + 1
_K1, _K2 = 0.01, 0.03
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2, finest scale first
_BAND = 128  # rows at a time: the eleven intermediate maps of a band stay in cache


def psnr(a: NDArray[Any] | Tensor, b: NDArray[Any] | Tensor, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels together; infinite for equal pictures.

    Args:
        a: one picture.
        b: the other.
        peak: largest possible value: 1 for floats in [0, 1], 255 for uint8.

    Raises:
        ShapeError: the shapes differ, or are not those of a picture.
        ArgumentError: a value is not finite, `peak` is not above 0, or the values are integers and `peak` is 1.
    """
    if not peak > 0:
        raise ArgumentError(f"peak must be above 0, not {peak}")
    first, second = _pair(a, b, integers=peak != 1)
    error = float(np.mean(np.square(first - second)))
    return 10 * math.log10(peak * peak / error) if error > 0 else math.inf


def ssim(a: NDArray[Any] | Tensor, b: NDArray[Any] | Tensor) -> float:
    """Structural similarity, 1 for equal pictures: the mean over pixels and channels, Gaussian window of sigma 1.5.

    Equal to scikit-image's `structural_similarity` with `gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1`.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE Transactions
    on Image Processing 13(4), 2004.

    Raises:
        ShapeError: the shapes differ, are not those of a picture, or a side is shorter than 11 px.
        ArgumentError: the values are integers, or one is not finite.
    """
    return float(np.mean([_similarity(x, y)[0] for x, y in _channels(a, b, shortest=_WINDOW)]))


def ms_ssim(a: NDArray[Any] | Tensor, b: NDArray[Any] | Tensor) -> float:
    """Multi-scale structural similarity over five scales, 1 for equal pictures: the mean over channels.

    Between scales, pictures are halved by the mean of 2x2 pixels, a last odd row or column repeated. Contrast terms
    below 0 count as 0.

    Source: Wang et al., "Multiscale structural similarity for image quality assessment", Asilomar 2003.

    Raises:
        ShapeError: the shapes differ, are not those of a picture, or a side is shorter than 161 px.
        ArgumentError: the values are integers, or one is not finite.
    """
    shortest = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
    results = []
    for x, y in _channels(a, b, shortest=shortest):
        product = 1.0
        for scale, weight in enumerate(_SCALE_WEIGHTS):
            if scale:
                x, y = _halved(x), _halved(y)
            whole, contrast = _similarity(x, y)
            product *= max(0.0, whole if scale == len(_SCALE_WEIGHTS) - 1 else contrast) ** weight
        results.append(product)
    return float(np.mean(results))


def bits_per_pixel(n_bytes: int, width: int, height: int) -> float:
    """Bits that a file spends on each pixel; `n_bytes` is the length of the whole file, header included.

    Raises:
        ArgumentError: a side is below 1, or the length below 0.
    """
    if width < 1 or height < 1 or n_bytes < 0:
        raise ArgumentError(f"no bits per pixel for {n_bytes} bytes on {width}x{height} pixels")
    return 8 * n_bytes / (width * height)


def _pair(a: Any, b: Any, *, integers: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both pictures as float64 of shape (H, W, C)."""
    first, second = _as_array(a, integers), _as_array(b, integers)
    if first.shape != second.shape:
        raise ShapeError(f"cannot compare pictures of shapes {first.shape} and {second.shape}, as (H, W, C)")
    return first, second


def _as_array(picture: Any, integers: bool) -> NDArray[np.float64]:
    if hasattr(picture, "detach"):  # a tensor; torch itself is not needed to say so
        tensor = picture.detach().cpu()
        array = np.asarray(tensor.double() if tensor.is_floating_point() else tensor)
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    else:
        array = np.asarray(picture)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.size == 0:
        raise ShapeError(f"a picture is (H, W) or (H, W, C), as a tensor (C, H, W); not {np.shape(picture)}")
    if array.dtype.kind not in ("fiu" if integers else "f"):
        raise ArgumentError(
            f"values must be floats in [0, 1], not {array.dtype}; divide them, or for PSNR state the peak"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ArgumentError("a picture to compare holds values that are not finite")
    return array


def _channels(a: Any, b: Any, *, shortest: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    first, second = _pair(a, b)
    height, width, channels = first.shape
    if min(height, width) < shortest:
        raise ShapeError(
            f"both sides must be at least {shortest} px for this measure; the pictures are {width}x{height}"
        )
    for channel in range(channels):
        yield np.ascontiguousarray(first[..., channel]), np.ascontiguousarray(second[..., channel])


def _similarity(
    x: NDArray[np.float64],  # (H, W)
    y: NDArray[np.float64],  # (H, W)
) -> tuple[float, float]:
    """Means of SSIM and of its contrast-structure part over the pixels whose whole window lies in the picture."""
    c1, c2 = _K1**2, _K2**2
    whole = contrast = 0.0
    rows, columns = x.shape[0] - _WINDOW + 1, x.shape[1] - _WINDOW + 1
    for top in range(0, rows, _BAND):
        p, q = (plane[top : min(top + _BAND, rows) + _WINDOW - 1] for plane in (x, y))
        mean_p, mean_q = _blurred(p), _blurred(q)
        spread = _blurred(p * p) + _blurred(q * q) - mean_p**2 - mean_q**2  # the two variances
        shared = _blurred(p * q) - mean_p * mean_q  # the covariance
        structure = (2 * shared + c2) / (spread + c2)
        luminance = (2 * mean_p * mean_q + c1) / (mean_p**2 + mean_q**2 + c1)
        whole += float((luminance * structure).sum())
        contrast += float(structure.sum())
    return whole / (rows * columns), contrast / (rows * columns)


def _blurred(
    plane: NDArray[np.float64],  # (H, W)
) -> NDArray[np.float64]:  # (H - 10, W - 10), where the window fits
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    height, width = plane.shape[0] - _WINDOW + 1, plane.shape[1] - _WINDOW + 1
    columns = np.zeros((height, plane.shape[1]))
    for k, weight in enumerate(weights):
        columns += weight * plane[k : k + height]
    result = np.zeros((height, width))
    for k, weight in enumerate(weights):
        result += weight * columns[:, k : k + width]
    return result


def _halved(
    plane: NDArray[np.float64],  # (H, W)
) -> NDArray[np.float64]:  # (ceil(H / 2), ceil(W / 2))
    even = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
    height, width = even.shape
    halved: NDArray[np.float64] = even.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return halved
