from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from moesaic import metrics
from moesaic.errors import ArgumentError, ShapeError
from moesaic.metrics import (
    bits_per_pixel,
    boundary_f1,
    confusion_matrix,
    intersection_over_union,
    mean_iou,
    ms_ssim,
    psnr,
    ssim,
)

JUDGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def noisy(picture, seed=0, strength=0.1):
    noise = np.random.default_rng(seed).normal(0, strength, picture.shape)
    return np.clip(picture + noise, 0, 1)


class TestPsnr:
    def test_by_hand(self):
        assert psnr(np.zeros((2, 2)), np.full((2, 2), 0.1)) == pytest.approx(20.0)
        assert psnr(np.zeros((2, 2, 3)), np.full((2, 2, 3), 25.5), peak=255) == pytest.approx(20.0)

    def test_equals_scikit_image(self, photo):
        other = noisy(photo)
        assert psnr(photo, other) == pytest.approx(peak_signal_noise_ratio(photo.astype(float), other, data_range=1))

    def test_equal_pictures_are_infinitely_close(self, photo):
        assert psnr(photo, photo) == math.inf

    def test_integers_need_their_peak(self):
        a, b = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
        assert psnr(a, b, peak=255) == pytest.approx(0.0)  # and no wrap-around
        with pytest.raises(ArgumentError, match="peak"):
            psnr(a, b)

    @pytest.mark.parametrize("peak", [0, -1, math.nan])
    def test_refuses_a_senseless_peak(self, photo, peak):
        with pytest.raises(ArgumentError, match="peak"):
            psnr(photo, photo, peak=peak)

    def test_computes_in_float64(self):
        a = np.full((64, 64), 0.5, np.float32)
        b = a.copy()
        b[0, 0] += 2**-20
        assert psnr(a, b) == pytest.approx(-10 * math.log10(2**-40 / 4096))


class TestSsim:
    @pytest.mark.parametrize("crop", [(96, 128), (11, 11), (11, 40), (57, 12)])
    def test_equals_scikit_image(self, photo, crop):
        a = photo[: crop[0], : crop[1]].astype(float)
        b = noisy(a)
        assert ssim(a, b) == pytest.approx(structural_similarity(a, b, channel_axis=2, **JUDGE), abs=1e-6)

    def test_equals_scikit_image_over_several_bands(self):
        a = data.camera()[:300, :70] / 255
        b = noisy(a)
        assert ssim(a, b) == pytest.approx(structural_similarity(a, b, **JUDGE), abs=1e-6)

    def test_flat_pictures_by_hand(self):  # nothing but the luminance term is left: (2ab + C1) / (a² + b² + C1)
        value = ssim(np.full((20, 20), 0.2), np.full((20, 20), 0.6))
        assert value == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))

    def test_needs_11_pixels(self):
        with pytest.raises(ShapeError, match="11"):
            ssim(np.zeros((10, 40)), np.zeros((10, 40)))


class TestMsSsim:
    def test_each_scale_equals_its_judges(self):
        a = data.astronaut()[:300, :277, 1] / 255
        b = noisy(a)
        for _ in metrics._SCALE_WEIGHTS:
            whole, contrast = metrics._similarity(a, b)
            assert whole == pytest.approx(structural_similarity(a, b, **JUDGE), abs=1e-6)
            assert contrast == pytest.approx(contrast_by_scipy(a, b), abs=1e-6)
            a, b = metrics._halved(a), metrics._halved(b)
        assert a.shape == (10, 9)  # odd sides round up

    def test_is_the_weighted_product_of_its_scales(self):
        a = data.astronaut()[:208, :240, :2] / 255  # sides that halve four times
        b = noisy(a)
        means = []
        for x, y in zip(np.moveaxis(a, 2, 0), np.moveaxis(b, 2, 0), strict=True):
            product = 1.0
            for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
                product *= (structural_similarity(x, y, **JUDGE) if scale == 4 else contrast_by_scipy(x, y)) ** weight
                if scale < 4:
                    x, y = (p.reshape(len(p) // 2, 2, -1, 2).mean(axis=(1, 3)) for p in (x, y))
            means.append(product)
        assert ms_ssim(a, b) == pytest.approx(np.mean(means), abs=1e-6)

    def test_halving_by_hand(self):
        halved = metrics._halved(np.array([[0.0, 1, 2], [4, 5, 6], [8, 8, 8]]))
        assert halved.tolist() == [[2.5, 4.0], [8.0, 8.0]]

    def test_opposite_structure_counts_as_nothing(self):
        a = np.random.default_rng(0).random((161, 161))
        assert ms_ssim(a, 1 - a) == 0.0

    def test_needs_161_pixels(self):
        assert ms_ssim(np.zeros((161, 161)), np.zeros((161, 161))) == 1.0
        with pytest.raises(ShapeError, match="161"):
            ms_ssim(np.zeros((160, 400)), np.zeros((160, 400)))


def contrast_by_scipy(a, b):
    def blur(picture):
        return gaussian_filter(picture, 1.5, truncate=3.5)

    c2 = 0.03**2
    variances = blur(a * a) - blur(a) ** 2 + blur(b * b) - blur(b) ** 2
    covariance = blur(a * b) - blur(a) * blur(b)
    return float(((2 * covariance + c2) / (variances + c2))[5:-5, 5:-5].mean())


@pytest.mark.parametrize("measure", [psnr, ssim])
class TestAll:
    def test_tensors_are_channels_first(self, photo, measure):
        other = noisy(photo).astype(np.float32)
        expected = measure(photo, other)
        tensors = [torch.from_numpy(np.moveaxis(p, -1, 0).copy()) for p in (photo, other)]
        assert measure(*tensors) == pytest.approx(expected, rel=1e-12)
        assert measure(tensors[0].requires_grad_(), other) == pytest.approx(expected, rel=1e-12)
        assert measure(photo[..., 0], tensors[1][0]) == measure(photo[..., :1], other[..., :1])

    def test_half_precision_tensors_are_taken(self, photo, measure):
        tensor = torch.from_numpy(np.moveaxis(photo, -1, 0).copy()).bfloat16()
        assert measure(tensor, photo) > 0.9

    def test_is_symmetric(self, photo, measure):
        assert measure(photo, noisy(photo)) == pytest.approx(measure(noisy(photo), photo), rel=1e-12)

    def test_more_noise_is_worse(self, photo, measure):
        values = [measure(photo, noisy(photo, strength=s)) for s in (0.01, 0.05, 0.2)]
        assert values == sorted(values, reverse=True)

    def test_shapes_must_agree(self, photo, measure):
        with pytest.raises(ShapeError, match="shapes"):
            measure(photo, photo[:-1])
        with pytest.raises(ShapeError, match="shapes"):
            measure(photo, photo[..., :1])
        with pytest.raises(ShapeError):
            measure(np.zeros(5), np.zeros(5))
        with pytest.raises(ShapeError):
            measure(np.zeros((0, 5)), np.zeros((0, 5)))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_refuses_what_is_no_number(self, photo, measure, value):
        broken = photo.copy()
        broken[3, 4, 1] = value
        with pytest.raises(ArgumentError, match="finite"):
            measure(photo, broken)

    def test_refuses_integers_taken_for_fractions(self, measure):
        with pytest.raises(ArgumentError, match="uint8"):
            measure(np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8))


@given(st.integers(0, 10**9), st.integers(1, 10**5), st.integers(1, 10**5))
def test_bits_per_pixel(n_bytes, width, height):
    assert bits_per_pixel(n_bytes, width, height) * width * height == pytest.approx(8 * n_bytes)


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, 0, 1), (1, 1, -2)])
def test_bits_per_pixel_refuses_nonsense(arguments):
    with pytest.raises(ArgumentError):
        bits_per_pixel(*arguments)


def label_maps(seed, shape=(2, 24, 31), classes=4, ignored=0.1):
    """Blobs of classes as prediction and truth, with some pixels not known."""
    generator = np.random.default_rng(seed)

    def blobs(strength):
        noise = generator.normal(0, strength, (classes, *shape))
        return gaussian_filter(noise, (0, 0, 2, 2))

    base = blobs(1.0)
    truth, prediction = base.argmax(0), (base + blobs(0.4)).argmax(0)
    truth[generator.random(shape) < ignored] = 255
    return prediction, truth


class TestConfusionMatrix:
    def test_by_hand(self):
        prediction = torch.tensor([[0, 1, 1], [2, 2, 0]])
        labels = torch.tensor([[0, 1, 0], [2, 1, 255]])
        matrix = confusion_matrix(prediction, labels, 3)
        assert matrix.dtype == torch.int64
        assert matrix.tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]  # rows are the truth

    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_equals_a_double_loop(self, dtype):
        prediction, truth = label_maps(0)
        expected = np.zeros((4, 4), int)
        for guess, true in zip(prediction.flat, truth.flat, strict=True):
            if true != 255:
                expected[true, guess] += 1
        assert confusion_matrix(prediction.astype(dtype), truth.astype(dtype), 4).tolist() == expected.tolist()
        tensors = [torch.from_numpy(a.astype(dtype)) for a in (prediction, truth)]
        assert confusion_matrix(*tensors, 4).tolist() == expected.tolist()

    def test_what_was_predicted_where_nothing_is_known_does_not_matter(self):
        prediction, truth = label_maps(1)
        wild = np.where(truth == 255, 255, prediction)
        assert torch.equal(confusion_matrix(wild, truth, 4), confusion_matrix(prediction, truth, 4))

    def test_a_class_can_be_ignored_and_nothing_can(self):
        prediction, labels = torch.tensor([0, 1]), torch.tensor([0, 1])
        assert confusion_matrix(prediction, labels, 2, ignore=0).tolist() == [[0, 0], [0, 1]]
        with pytest.raises(ArgumentError, match=r"labels: 255 .* 0 to 1"):
            confusion_matrix(prediction, torch.tensor([0, 255]), 2, ignore=None)

    def test_sums_over_pictures(self):
        prediction, truth = label_maps(2)
        parts = sum(confusion_matrix(p, t, 4) for p, t in zip(prediction, truth, strict=True))
        assert torch.equal(parts, confusion_matrix(prediction, truth, 4))

    def test_refuses_what_makes_no_sense(self):
        two, three = torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.long)
        with pytest.raises(ShapeError, match="agree"):
            confusion_matrix(two, three, 2)
        with pytest.raises(ArgumentError, match="prediction: 7"):
            confusion_matrix(two + 7, two, 2)
        with pytest.raises(ArgumentError, match="labels: -1"):
            confusion_matrix(two, two - 1, 2)
        with pytest.raises(ArgumentError, match="integers"):
            confusion_matrix(two.float(), two, 2)
        with pytest.raises(ArgumentError, match="integers"):
            confusion_matrix(np.zeros(2, bool), two, 2)
        with pytest.raises(ArgumentError, match="classes"):
            confusion_matrix(two, two, 0)


class TestMeanIou:
    def test_by_hand(self):
        matrix = torch.tensor([[3, 1, 0, 0], [0, 4, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
        each = intersection_over_union(matrix)
        assert each[:3].tolist() == [3 / 4, 4 / 7, 0.0]
        assert math.isnan(each[3])  # absent from both
        assert mean_iou(matrix) == pytest.approx((3 / 4 + 4 / 7) / 2)  # class 2 has no true pixel and no say

    def test_extremes(self):
        assert mean_iou(torch.eye(3, dtype=torch.int64) * 5) == 1.0
        assert mean_iou(np.array([[0, 5], [5, 0]])) == 0.0
        assert math.isnan(mean_iou(torch.zeros(3, 3)))

    def test_takes_only_squares(self):
        with pytest.raises(ShapeError, match="classes, classes"):
            mean_iou(torch.zeros(3, 4))


def boundary_f1_by_brute_force(prediction, truth, classes, tolerance):
    """One picture; every pair of boundary pixels."""

    def edges(ids, which):
        found = []
        for y, x in np.argwhere((ids == which) & (truth != 255)):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < ids.shape[0] and 0 <= u < ids.shape[1]
                if inside and truth[v, u] != 255 and ids[v, u] != which:
                    found.append((y, x))
                    break
        return np.array(found).reshape(-1, 2)

    scores = []
    for which in range(classes):
        guess, true = edges(prediction, which), edges(truth, which)
        if not (truth == which).any() or len(guess) + len(true) == 0:
            continue
        if len(guess) == 0 or len(true) == 0:
            scores.append(0.0)
            continue
        near = np.square(guess[:, None] - true[None]).sum(2) <= tolerance**2
        precision, recall = near.any(1).mean(), near.any(0).mean()
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return np.mean(scores)


class TestBoundaryF1:
    @pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3.2, 100])
    @pytest.mark.parametrize("ignored", [0.0, 0.1])
    def test_equals_brute_force(self, tolerance, ignored):
        prediction, truth = label_maps(3, shape=(1, 18, 27), ignored=ignored)
        expected = boundary_f1_by_brute_force(prediction[0], truth[0], 4, tolerance)
        assert boundary_f1(prediction[0], truth[0], 4, tolerance=tolerance) == pytest.approx(expected)

    def test_is_the_mean_over_pictures(self):
        prediction, truth = label_maps(4)
        each = [boundary_f1(p, t, 4) for p, t in zip(prediction, truth, strict=True)]
        assert boundary_f1(prediction, truth, 4) == pytest.approx(np.mean(each))

    def test_default_tolerance_is_a_share_of_the_diagonal(self):
        truth = np.zeros((300, 400), int)  # diagonal 500 px, tolerance 3.75 px
        truth[:, 200:] = 1
        for shift, expected in ((3, 1.0), (6, 0.0)):
            assert (
                boundary_f1(np.roll(truth, shift, axis=1)[:, 150:250], truth[:, 150:250], 2, tolerance=3.75) == expected
            )
            moved = np.zeros_like(truth)
            moved[:, 200 + shift :] = 1
            assert boundary_f1(moved, truth, 2) == expected

    def test_without_a_boundary_there_is_nothing_to_score(self):
        flat = torch.zeros(6, 6, dtype=torch.long)
        assert math.isnan(boundary_f1(flat, flat, 2))
        half = flat.clone()
        half[:3] = 1
        assert boundary_f1(half, flat, 2) == 0.0
        assert boundary_f1(half, half, 2) == 1.0

    def test_refuses_what_makes_no_sense(self):
        flat = torch.zeros(6, 6, dtype=torch.long)
        with pytest.raises(ArgumentError, match="tolerance"):
            boundary_f1(flat, flat, 2, tolerance=-1)
        with pytest.raises(ShapeError, match="H, W"):
            boundary_f1(flat[0], flat[0], 2)
        with pytest.raises(ArgumentError, match="labels: 9"):
            boundary_f1(flat, flat + 9, 2)
