"""How close one picture is to another, and one label map to another.

Pictures: PSNR, SSIM, MS-SSIM, and what they cost, bits per pixel. All take NumPy arrays of shape (H, W) or (H, W, C) or
torch tensors of shape (H, W) or (C, H, W), compute in float64, and count every channel alike. Values are floats in
[0, 1] unless `peak` says otherwise.

Label maps: the confusion matrix with intersection over union, which is computed from the matrix of a whole data set and
never averaged over batches, and the F1 score of boundaries. Both take integers, as tensors or arrays of any like shape.
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


def confusion_matrix(
    prediction: Tensor | NDArray[Any],  # (...), class ids
    labels: Tensor | NDArray[Any],  # (...), the true class ids
    classes: int,
    ignore: int | None = 255,
) -> Tensor:  # (classes, classes), int64
    """How many pixels of each true class (row) were given each class (column); sum it over the pictures of a set.

    Args:
        prediction: class ids from 0 to `classes` - 1, on any device.
        labels: the truth, of the same shape; what `ignore` names is left out, whatever was predicted there.
        classes: how many there are.
        ignore: the label that means "not known"; None where every pixel counts.

    Returns:
        The matrix, on the device of `prediction`.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: there is no class, the values are no integers, or one is no class.
    """
    import torch

    predicted, truth = _label_maps(prediction, labels, classes)
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    _check_classes(predicted, counted, classes, "prediction")
    _check_classes(truth, counted, classes, "labels")
    cells = torch.where(counted, truth * classes + predicted, classes * classes)  # what is left out, in a last cell
    counts = torch.bincount(cells.flatten(), minlength=classes * classes + 1)
    return counts[:-1].reshape(classes, classes)


def intersection_over_union(
    matrix: Tensor | NDArray[Any],  # (classes, classes), rows are the truth
) -> Tensor:  # (classes,), float64
    """Intersection over union of each class, in [0, 1]; NaN for a class that is absent in truth and prediction alike.

    Raises:
        ShapeError: the matrix is not square.
    """
    import torch

    counts = torch.as_tensor(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"a confusion matrix is (classes, classes), not {tuple(counts.shape)}")
    counts = counts.cpu().double()
    hits = counts.diagonal()
    return hits / (counts.sum(0) + counts.sum(1) - hits)  # 0 / 0 is the NaN


def mean_iou(matrix: Tensor | NDArray[Any]) -> float:
    """The mean intersection over union of the classes that are present in the truth, in [0, 1]; NaN if none is.

    A class without a true pixel has no say, also where it was predicted: those pixels already count against the classes
    that they were taken from. (Others count such a class as 0, or as 1; on a whole test set it seldom arises.)

    Raises:
        ShapeError: the matrix is not square.
    """
    import torch

    each = intersection_over_union(matrix)
    present = torch.as_tensor(matrix).cpu().sum(1) > 0
    return float(each[present].mean()) if present.any() else math.nan


def boundary_f1(
    prediction: Tensor | NDArray[Any],  # (H, W) or (B, H, W), class ids
    labels: Tensor | NDArray[Any],  # the same shape
    classes: int,
    *,
    tolerance: float | None = None,
    ignore: int | None = 255,
) -> float:
    """The F1 score of boundaries, in [0, 1]: for each picture the mean over the classes in its truth, then their mean.

    A pixel is on the boundary of its class when one of its four neighbours has another class. Precision is the share of
    predicted boundary pixels with a true one of the same class within `tolerance`, recall the reverse. The picture's
    edge is no boundary, nor is a border to what `ignore` names; ignored pixels are left out of both maps. A class that
    fills its picture in both has no boundary to score and is left out; NaN if nothing is left at all.

    Source: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    Args:
        prediction: class ids from 0 to `classes` - 1.
        labels: the truth.
        classes: how many there are.
        tolerance: Euclidean distance that still counts as met, px; unless given 0.75 % of the diagonal, as there.
        ignore: the label that means "not known"; None where every pixel counts.

    Raises:
        ShapeError: the shapes differ, or are not those of label maps.
        ArgumentError: there is no class, a value is no class, or the tolerance is below 0.
    """
    import torch

    predicted, truth = _label_maps(prediction, labels, classes)
    if truth.ndim not in (2, 3):
        raise ShapeError(f"label maps are (H, W) or (B, H, W), not {tuple(truth.shape)}")
    height, width = truth.shape[-2:]
    if tolerance is None:
        tolerance = 0.0075 * math.hypot(height, width)
    if not 0 <= tolerance < math.inf:
        raise ArgumentError(f"tolerance must be a distance in px, at least 0, not {tolerance}")
    counted = torch.ones_like(truth, dtype=torch.bool) if ignore is None else truth != ignore
    _check_classes(predicted, counted, classes, "prediction")
    _check_classes(truth, counted, classes, "labels")
    scores = []
    stacks = (maps.reshape(-1, height, width) for maps in (predicted, truth, counted))
    for guess, true, known in zip(*stacks, strict=True):
        present = [c for c in range(classes) if bool(((true == c) & known).any())]
        each = [_edge_f1(_edges(guess, known, c), _edges(true, known, c), tolerance) for c in present]
        if each := [score for score in each if not math.isnan(score)]:
            scores.append(sum(each) / len(each))
    return sum(scores) / len(scores) if scores else math.nan


def _label_maps(prediction: Any, labels: Any, classes: int) -> tuple[Tensor, Tensor]:
    """Both maps as int64 tensors on the device of the first."""
    import torch

    if classes < 1:
        raise ArgumentError(f"classes must be at least 1, not {classes}")
    maps = []
    for name, values in (("prediction", prediction), ("labels", labels)):
        array = values if isinstance(values, torch.Tensor) else np.asarray(values)
        if array.dtype in (torch.bool, np.bool_) or not (
            np.issubdtype(array.dtype, np.integer) if isinstance(array, np.ndarray) else not array.is_floating_point()
        ):
            raise ArgumentError(f"{name} must hold class ids as integers, not {array.dtype}")
        tensor = torch.from_numpy(array.astype(np.int64)) if isinstance(array, np.ndarray) else array.detach().long()
        maps.append(tensor)
    predicted, truth = maps
    if predicted.shape != truth.shape:
        raise ShapeError(f"prediction is {tuple(predicted.shape)} and labels are {tuple(truth.shape)}; they must agree")
    return predicted, truth.to(predicted.device)


def _check_classes(ids: Tensor, counted: Tensor, classes: int, name: str) -> None:
    wrong = counted & ((ids < 0) | (ids >= classes))
    if bool(wrong.any()):
        raise ArgumentError(
            f"{name}: {int(ids[wrong][0])} is no class; allowed are 0 to {classes - 1}, and what `ignore` is"
        )


def _edges(ids: Tensor, known: Tensor, which: int) -> Tensor:  # (H, W), bool
    """Pixels of a class beside a known pixel of another class."""
    import torch

    inside, other = (ids == which) & known, (ids != which) & known
    beside = torch.zeros_like(inside)
    beside[1:] |= other[:-1]
    beside[:-1] |= other[1:]
    beside[:, 1:] |= other[:, :-1]
    beside[:, :-1] |= other[:, 1:]
    return inside & beside


def _edge_f1(guess: Tensor, true: Tensor, tolerance: float) -> float:
    """F1 of two sets of pixels, each (H, W); NaN where both are empty."""
    guesses, trues = int(guess.sum()), int(true.sum())
    if guesses + trues == 0:
        return math.nan
    met = int((guess & _widened(true, tolerance)).sum()) / max(guesses, 1)
    found = int((true & _widened(guess, tolerance)).sum()) / max(trues, 1)
    return 2 * met * found / (met + found) if met + found else 0.0


def _widened(mask: Tensor, radius: float) -> Tensor:  # (H, W), bool
    """Every pixel within a distance of the mask: a row of the disc at a time, as shifts of a running maximum."""
    import torch
    from torch.nn.functional import max_pool2d

    height = mask.shape[0]
    wide = torch.zeros_like(mask)
    source = mask[None, None].float()
    for step in range(min(int(radius), height - 1) + 1):
        reach = min(int(math.sqrt(radius * radius - step * step)), mask.shape[1])
        row = max_pool2d(source, (1, 2 * reach + 1), stride=1, padding=(0, reach))[0, 0] > 0
        wide[step:] |= row[: height - step]
        wide[: height - step] |= row[step:]
    return wide


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
