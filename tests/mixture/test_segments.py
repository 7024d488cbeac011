from __future__ import annotations

import numpy as np
import pytest

from moesaic.errors import ArgumentError
from moesaic.mixture import segments, start
from moesaic.mixture.backends import cpu
from moesaic.mixture.backends.cover import cover, exact_margin
from moesaic.mixture.fit import fit_pixels
from moesaic.mixture.fitting import STARTS, FitConfig


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def by_one(picture, columns, rows, spacing=8.0):
    columns, rows = np.array(columns), np.array(rows)
    return segments.superpixels(picture, columns, rows, np.full(len(columns), spacing))


def drawn(packed, picture):
    height, width = picture.shape[1:]
    listed = cover(packed.centres, packed.geometry, width, height, exact_margin(len(packed.centres)), 1)
    return cpu.forward(packed, listed, 1)[0]


def connected(mask):
    """Whether all pixels of a mask can be reached from one of them by steps to the four sides."""
    reached = np.zeros_like(mask)
    reached[tuple(np.argwhere(mask)[0])] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= mask
        if np.array_equal(grown, reached):
            return bool(np.array_equal(reached, mask))
        reached = grown


class TestSuperpixels:
    def test_by_hand(self):
        picture = np.zeros((1, 3, 6), np.float32)
        picture[:, :, 2:] = 1.0  # the edge lies nearer to the first seed than to the second
        assert by_one(picture, [0, 5], [1, 1]).tolist() == [[0, 0, 1, 1, 1, 1]] * 3

    def test_a_flat_picture_is_shared_by_distance(self):
        assert by_one(np.zeros((3, 1, 8), np.float32), [1, 6], [0, 0]).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]

    @pytest.mark.parametrize("shape", [(1, 20, 31), (3, 24, 16), (4, 9, 40)])
    def test_every_pixel_belongs_to_one_connected_segment(self, shape):
        random = np.random.default_rng(0)
        picture = noise(*shape)
        places = start.scatter(np.ones(shape[1:]), 12, random)
        labels = segments.superpixels(picture, places.columns, places.rows, places.spacing)
        assert np.array_equal(labels[places.rows, places.columns], np.arange(12))
        assert np.array_equal(np.unique(labels), np.arange(12))
        assert all(connected(labels == k) for k in range(12))

    def test_of_seeds_on_one_pixel_the_first_grows(self):
        labels = by_one(noise(3, 8, 8), [5, 2, 5, 2, 7], [5, 2, 5, 2, 0])
        assert sorted(np.unique(labels)) == [0, 1, 4]
        assert labels[5, 5] == 0
        assert labels[2, 2] == 1

    def test_one_seed_takes_all(self):
        assert np.all(by_one(noise(3, 7, 5), [2], [3]) == 0)


class TestShapes:
    def test_covariance_of_a_kernel_is_that_of_its_segment(self):
        spread = np.array([[9.0, 2.0, 4.0], [30.0, -10.0, 5.0]])
        factors = segments.shapes(spread).astype(np.float64)
        for (xx, xy, yy), (across, along, down, prior) in zip(spread, factors, strict=True):
            lower = np.array([[across, 0.0], [along, down]])
            wanted = segments.WIDTH**2 * (np.array([[xx, xy], [xy, yy]]) + np.eye(2) / 12)
            found = np.linalg.inv(lower @ lower.T)
            np.testing.assert_allclose(found, wanted + segments.THINNEST**2 * np.eye(2), rtol=1e-5)
            assert prior == 0

    def test_a_line_of_pixels_stays_drawable(self):
        factors = segments.shapes(np.array([[0.0, 0.0, 0.0], [400.0, 400.0, 400.0]]))
        assert np.isfinite(factors).all()
        assert np.all(factors[:, [0, 2]] > 0)


class TestBegin:
    @pytest.mark.parametrize("shape", [(3, 20, 31), (1, 1, 1), (2, 1, 9), (4, 9, 1)])
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("experts", [1, 7, 40])
    @pytest.mark.parametrize("how", ["segments", "even"])
    def test_gives_what_was_asked_for_within_the_canvas(self, shape, order, experts, how):
        packed = STARTS[how](noise(*shape), experts, order, np.random.default_rng(0))
        assert packed.centres.shape == (experts, 2)
        assert packed.geometry.shape == (experts, 4)
        assert packed.experts.shape == (experts, shape[0] * (3 if order else 1))
        assert packed.centres.dtype == np.float64
        assert packed.geometry.dtype == packed.experts.dtype == np.float32
        assert np.all((packed.centres >= 0) & (packed.centres <= [shape[2], shape[1]]))
        assert np.isfinite(packed.geometry).all()
        assert np.all(packed.geometry[:, [0, 2]] > 0)
        assert np.all((packed.experts >= 0) & (packed.experts <= 1))

    def test_kernels_stand_at_the_middle_of_their_segments_in_their_mean_colour(self):
        picture = noise(3, 20, 31)
        places = start.scatter(start.density(picture), 12, np.random.default_rng(3))
        calm = np.stack([start.smoothed(channel.astype(np.float64)) for channel in picture]).astype(np.float32)
        labels = segments.superpixels(calm, places.columns, places.rows, places.spacing)
        packed = segments.begin(picture, 12, 0, np.random.default_rng(3))
        for k in np.unique(labels):
            rows, columns = np.nonzero(labels == k)
            np.testing.assert_allclose(packed.centres[k], [columns.mean() + 0.5, rows.mean() + 0.5])
            np.testing.assert_allclose(packed.experts[k], picture[:, rows, columns].mean(axis=1), rtol=1e-5)

    def test_is_nearer_to_the_picture_than_round_kernels(self, photo):
        picture = np.ascontiguousarray(photo.transpose(2, 0, 1))
        errors = {
            how: np.mean((drawn(begin(picture, 300, 0, np.random.default_rng(0)), picture) - picture) ** 2)
            for how, begin in STARTS.items()
        }
        assert errors["segments"] < 0.8 * errors["gradient"] < errors["even"]

    @pytest.mark.parametrize("how", STARTS)
    def test_the_seed_decides(self, how):
        picture = noise(3, 20, 31)
        one, same, other = (STARTS[how](picture, 25, 0, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one.geometry, same.geometry)
        assert np.array_equal(one.centres, same.centres)
        assert not np.array_equal(one.centres, other.centres)


class TestInAFit:
    def test_each_start_is_fitted(self, photo):
        picture = np.ascontiguousarray(photo[:48, :64].transpose(2, 0, 1))
        found = {
            how: fit_pixels(picture, experts=60, steps=12, threads=1, config=FitConfig(start=how)).centres.numpy()
            for how in STARTS
        }
        assert np.array_equal(found["gradient"], fit_pixels(picture, experts=60, steps=12, threads=1).centres.numpy())
        assert not np.array_equal(found["gradient"], found["segments"])
        assert not np.array_equal(found["gradient"], found["even"])

    def test_an_unknown_start_is_refused(self):
        with pytest.raises(ArgumentError, match="gradient, segments, even"):
            fit_pixels(noise(3, 8, 8), experts=4, steps=1, config=FitConfig(start="nowhere"))
