from __future__ import annotations

import numpy as np
import pytest

from moesaic.mixture import start


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


class TestDensity:
    @pytest.mark.parametrize("shape", [(3, 20, 31), (1, 1, 9), (4, 9, 1), (2, 2, 2)])
    def test_has_a_mean_of_one(self, shape):
        density = start.density(noise(*shape))
        assert density.shape == shape[1:]
        assert density.mean() == pytest.approx(1.0)
        assert density.min() >= start.UNIFORM - 1e-12

    def test_is_even_on_a_flat_picture(self):
        assert np.array_equal(start.density(np.full((3, 5, 7), 0.3, np.float32)), np.ones((5, 7)))

    def test_is_highest_at_an_edge(self):
        picture = np.zeros((1, 32, 48), np.float32)
        picture[:, :, 24:] = 1.0
        density = start.density(picture)
        assert np.allclose(density, density[0])
        assert set(np.argsort(density[0])[-2:]) == {23, 24}
        assert density[:, :10] == pytest.approx(start.UNIFORM)

    def test_does_not_depend_on_contrast(self):
        picture = noise(3, 20, 31)
        np.testing.assert_allclose(start.density(picture * np.float32(0.25)), start.density(picture), rtol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_hilbert_curve_visits_each_cell_once_by_single_steps(bits):
    side = 1 << bits
    y, x = (axis.ravel() for axis in np.mgrid[:side, :side])
    index = start.hilbert_index(x, y, bits)
    assert np.array_equal(np.sort(index), np.arange(side * side))
    path = np.argsort(index)
    steps = np.abs(np.diff(x[path])) + np.abs(np.diff(y[path]))
    assert np.all(steps == 1)


class TestBegin:
    @pytest.mark.parametrize("shape", [(3, 20, 31), (1, 1, 1), (2, 1, 9), (4, 9, 1)])
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("experts", [1, 7, 40])
    def test_gives_what_was_asked_for_within_the_canvas(self, shape, order, experts):
        picture = noise(*shape)
        packed = start.begin(picture, experts, order, np.random.default_rng(0))
        assert packed.centres.shape == (experts, 2)
        assert packed.geometry.shape == (experts, 4)
        assert packed.experts.shape == (experts, shape[0] * (3 if order else 1))
        assert (packed.channels, packed.order) == (shape[0], order)
        assert packed.centres.dtype == np.float64
        assert packed.geometry.dtype == packed.experts.dtype == np.float32
        assert np.all((packed.centres >= 0) & (packed.centres <= [shape[2], shape[1]]))
        assert np.all(packed.geometry[:, [0, 2]] > 0)
        assert np.all(packed.geometry[:, [1, 3]] == 0)

    def test_takes_colours_from_the_pixels_below(self):
        picture = noise(3, 20, 31)
        packed = start.begin(picture, 25, 1, np.random.default_rng(0))
        columns, rows = packed.centres.astype(int).T
        assert np.array_equal(packed.experts[:, :3], picture[:, rows, columns].T)
        assert np.all(packed.experts[:, 3:] == 0)

    def test_the_seed_decides(self):
        picture = noise(3, 20, 31)
        one, same, other = (start.begin(picture, 25, 0, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert np.array_equal(one.centres, same.centres)
        assert not np.array_equal(one.centres, other.centres)

    def test_a_flat_picture_is_covered_evenly(self):
        packed = start.begin(np.full((1, 32, 32), 0.5, np.float32), 64, 0, np.random.default_rng(0))
        counts, *_ = np.histogram2d(*packed.centres.T, bins=4, range=[[0, 32], [0, 32]])
        assert counts.min() >= 3
        assert counts.max() <= 5
        assert np.all(packed.geometry[:, 0] == packed.geometry[0, 0])

    def test_more_and_smaller_kernels_stand_at_detail(self):
        picture = np.full((1, 32, 64), 0.5, np.float32)
        picture[:, :, 32:] = noise(1, 32, 32)
        packed = start.begin(picture, 200, 0, np.random.default_rng(0))
        left, right = packed.centres[:, 0] < 24, packed.centres[:, 0] > 36
        assert left.sum() < 20
        assert right.sum() > 150
        assert packed.geometry[right, 0].mean() > 2 * packed.geometry[left, 0].mean()
