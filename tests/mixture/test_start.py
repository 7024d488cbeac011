from __future__ import annotations

import numpy as np
import pytest

from moesaic.mixture import start
from moesaic.mixture.backends import placing

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (16, 16), (20, 31), (3, 700), (64, 63)]  # height and width, px


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def dice():
    return np.random.default_rng(0)


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


def square_gradient(picture):
    """By NumPy's own differences, in float64."""
    found = np.zeros(picture.shape[1:])
    for plane in picture.astype(np.float64):
        for axis in (0, 1):
            if plane.shape[axis] > 1:
                found += np.gradient(plane, axis=axis) ** 2
    return found


def smoothed(values):
    """A Gaussian blur, one pixel after another from a picture that is mirrored at its borders."""
    radius = int(4 * start.SMOOTH)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / start.SMOOTH) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        wide = np.pad(values, [(radius, radius) if n == axis else (0, 0) for n in (0, 1)], mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(wide, len(taps), axis=axis)
        values = windows @ taps
    return values


def hilbert_index(x, y, bits):
    """The place of cells along the curve, for whole arrays at once."""
    index, side = np.zeros_like(x), 1 << (bits - 1)
    while side:
        right, below = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right) ^ below)
        x, y = x & (side - 1), y & (side - 1)
        flip = right & ~below
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(below, x, y), np.where(below, y, x)
        side >>= 1
    return index


def hilbert_path(width, height):
    rows, columns = np.divmod(np.arange(height * width), width)
    bits = max(int(max(height, width) - 1).bit_length(), 1)
    return np.argsort(hilbert_index(columns, rows, bits), kind="stable")


class TestLoops:
    """The compiled loops give what plain NumPy gives."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_gradient(self, shape, channels):
        picture = noise(channels, *shape)
        assert np.array_equal(placing.square_gradient(picture), square_gradient(picture))

    def test_gradient_of_huge_values(self):
        picture = noise(3, 9, 12) * np.float32(1e30)
        np.testing.assert_allclose(placing.square_gradient(picture), square_gradient(picture), rtol=1e-12)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_blur(self, shape):
        values = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(start.smoothed(values), smoothed(values), rtol=1e-12, atol=1e-13)

    def test_blur_keeps_a_constant_and_the_sum(self):
        assert start.smoothed(np.full((4, 30), 0.3)) == pytest.approx(0.3, rel=1e-12)
        values = np.zeros((40, 50))
        values[20, 7] = 2.0
        assert start.smoothed(values).sum() == pytest.approx(2.0)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_density(self, shape):
        picture = noise(3, *shape)
        detail = np.maximum(smoothed(np.sqrt(square_gradient(picture))), 0.0) ** start.POWER
        expected = np.ones(shape)
        if detail.mean() > 1e-12:
            expected = (1 - start.UNIFORM) * detail / detail.mean() + start.UNIFORM
        np.testing.assert_allclose(start.density(picture), expected, rtol=1e-10)

    @pytest.mark.parametrize("shape", [*SHAPES, (1, 4000), (300, 2), (5, 65), (128, 128), (1, 2)])
    def test_path(self, shape):
        """Both by sorting, where a picture fills little of its square, and by a table."""
        height, width = shape
        path = placing.hilbert_path(width, height)
        assert path.dtype == np.int64
        assert np.array_equal(path, hilbert_path(width, height))

    def test_places_and_scatter(self):
        """A whole start, from the same draws."""
        picture, random = noise(3, 20, 31), np.random.default_rng(4)
        found = start.begin(picture, 50, 0, np.random.default_rng(4))
        wanted = start.density(picture).ravel()
        path = hilbert_path(31, 20)
        reached = np.cumsum(wanted[path])
        draws = (np.arange(50) + random.uniform(size=50)) / 50 * reached[-1]
        chosen = path[np.searchsorted(reached, draws)]
        rows, columns = np.divmod(chosen, 31)
        centres = np.stack([columns, rows], axis=1) + random.uniform(size=(50, 2))
        assert np.array_equal(found.centres, centres)
        spacing = np.sqrt(reached[-1] / (50 * wanted[chosen]))
        np.testing.assert_allclose(found.geometry[:, 0], 1 / np.clip(start.WIDTH * spacing, 0.3, 31), rtol=1e-6)


class TestPaths:
    def test_that_are_kept_cannot_be_changed(self):
        start.begin(noise(3, 20, 31), 5, 0, np.random.default_rng(0))
        kept = start._kept_path(31, 20)
        assert kept is start._kept_path(31, 20)
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 1

    def test_of_large_pictures_are_not_kept_and_are_the_same(self, monkeypatch):
        picture = noise(3, 20, 31)
        kept = start.begin(picture, 40, 0, np.random.default_rng(0))
        monkeypatch.setattr(start, "_KEPT", 0)
        monkeypatch.setattr(start, "_kept_path", None)
        again = start.begin(picture, 40, 0, np.random.default_rng(0))
        assert np.array_equal(kept.centres, again.centres)
        assert np.array_equal(kept.geometry, again.geometry)

    def test_of_turned_pictures_are_not_confused(self):
        wide, tall = (start.begin(noise(1, *shape), 9, 0, np.random.default_rng(0)) for shape in ((8, 40), (40, 8)))
        assert np.all(wide.centres <= [40, 8])
        assert np.all(tall.centres <= [8, 40])


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_hilbert_curve_visits_each_cell_once_by_single_steps(bits):
    side = 1 << bits
    y, x = (axis.ravel() for axis in np.mgrid[:side, :side])
    index = np.array([placing.hilbert_index(*cell, bits) for cell in zip(x.tolist(), y.tolist(), strict=True)])
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


class TestBeginBy:
    def test_only_ratios_of_a_density_matter(self):
        picture, wanted = noise(3, 20, 31), noise(20, 31, seed=1).astype(np.float64) + 0.1
        one, other = (
            start.begin_by(picture, scale * wanted, 30, 0, np.random.default_rng(0)) for scale in (1.0, 2.0**40)
        )
        assert np.array_equal(one.centres, other.centres)
        assert np.array_equal(one.geometry, other.geometry)

    def test_is_what_begin_and_begin_even_are_made_of(self):
        picture = noise(3, 20, 31)
        for begin, wanted in ((start.begin, start.density(picture)), (start.begin_even, np.ones((20, 31)))):
            one, other = begin(picture, 30, 1, dice()), start.begin_by(picture, wanted, 30, 1, dice())
            assert np.array_equal(one.centres, other.centres)
            assert np.array_equal(one.experts, other.experts)

    def test_nothing_comes_where_nothing_is_wanted(self):
        wanted = np.zeros((20, 31))
        wanted[5:9, 10:20] = 1.0
        packed = start.begin_by(noise(3, 20, 31), wanted, 60, 0, dice())
        assert np.all((packed.centres >= [10, 5]) & (packed.centres <= [20, 9]))

    def test_counts_follow_the_density(self):
        wanted = np.ones((32, 32))
        wanted[:, 16:] = 3.0
        packed = start.begin_by(noise(3, 32, 32), wanted, 400, 0, dice())
        assert np.mean(packed.centres[:, 0] >= 16) == pytest.approx(0.75, abs=0.01)
