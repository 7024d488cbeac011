"""Rain, snow and haze do what their formulas say at the ends of their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.degrade import depth, weather
from moesaic.degrade.ranges import STREAK_REACH
from moesaic.degrade.use import degrade

LIGHT = np.random.default_rng(0).random((30, 40, 3))


def test_haze_without_scattering_is_the_scene_and_without_end_the_airlight():
    far = np.linspace(0.2, 1, 40) * np.ones((30, 1))
    airlight = [0.8, 0.7, 0.9]
    np.testing.assert_array_equal(weather.haze(LIGHT, far, 0, airlight), LIGHT)
    np.testing.assert_allclose(weather.haze(LIGHT, far, 1e3, airlight), np.broadcast_to(airlight, LIGHT.shape))
    half = weather.haze(LIGHT, np.ones((30, 40)), np.log(2), airlight)
    np.testing.assert_allclose(half, (LIGHT + airlight) / 2)


def test_rain_and_snow_that_do_not_fall_change_nothing():
    dry = np.zeros((30, 40))
    np.testing.assert_array_equal(weather.rain(LIGHT, dry, 0.5, 0, 0.8), LIGHT)
    np.testing.assert_array_equal(weather.snow(LIGHT, dry, 0.9), LIGHT)
    np.testing.assert_allclose(weather.snow(LIGHT, np.ones((30, 40)), 0.9), 0.9)
    assert (weather.rain(LIGHT, np.ones((30, 40)), 0.5, 0, 0.8) >= LIGHT).all()


def test_one_drop_lies_where_its_seed_is_and_points_where_it_falls():
    seeds = np.ones((30 + 2 * STREAK_REACH, 40 + 2 * STREAK_REACH))
    seeds[STREAK_REACH + 12, STREAK_REACH + 20] = 0.0
    for angle, expected in ((0.0, (True, False)), (np.pi / 2, (False, True))):
        cover = np.zeros((30, 40))
        weather.add_particles(cover, seeds, 0.5, weather.particle_kernel(14, angle, 0.5, 1))
        rows, columns = np.nonzero(cover > 0.1)
        assert cover[12, 20] == cover.max() == pytest.approx(0.4)
        assert (np.ptp(rows) > 8, np.ptp(columns) > 8) == expected


def test_drops_beyond_the_border_reach_into_the_picture():
    seeds = np.ones((30 + 2 * STREAK_REACH, 40 + 2 * STREAK_REACH))
    seeds[STREAK_REACH - 10, STREAK_REACH + 20] = 0.0
    cover = np.zeros((30, 40))
    weather.add_particles(cover, seeds, 0.5, weather.particle_kernel(30, 0, 0.5, 1))
    assert np.count_nonzero(cover[:4, 20]) == 4
    assert not cover[10:].any()


def test_more_severe_rain_covers_more():
    pixels = np.full((120, 120, 3), 60, np.uint8)
    covered = [np.mean(degrade(pixels, "rain", seed=1, severity=s).levels() > 64) for s in (0, 0.5, 1)]
    assert 0 < covered[0] < covered[1] < covered[2] < 0.3


def test_streaks_of_light_rain_are_longer_than_wide():
    pixels = np.zeros((160, 160, 3), np.uint8)
    levels = degrade(pixels, "rain", seed=1, severity=0.5).levels()[..., 0].astype(float)
    down, across = (np.abs(np.diff(levels, axis=axis)).mean() for axis in (0, 1))
    assert across > 2 * down > 0


def test_depths_lie_between_0_and_1_and_sky_is_far():
    shape, window = (48, 64), [0.0, 0.125, 1.0]
    waves = np.random.default_rng(0).standard_normal((6, 6))
    plane = depth.plane_depth(shape, 0.0, -0.1, 0.2, window)
    maps = {
        "plane": plane,
        "field": depth.field_depth(shape, waves, window),
        "colour": depth.colour_depth(LIGHT),
        "layers": depth.layers_depth(shape, [0.3, 0.5, 0.7], waves[:3, :4], window),
    }
    for far in maps.values():
        assert 0 <= far.min() < far.max() <= 1
    assert plane[0].min() == 1
    assert (np.diff(plane[:, 3]) <= 0).all()
    assert maps["layers"][0].min() == 1
    assert len(np.unique(maps["layers"].round(3))) < 700  # a few depths, and the soft edges between them


def test_a_part_of_a_scene_is_the_scene_cut():
    waves = np.random.default_rng(0).standard_normal((6, 6))
    whole = depth.field_depth((64, 64), waves, [0, 0, 1])
    part = depth.field_depth((32, 32), waves, [0.25, 0.5, 0.5])
    np.testing.assert_allclose(part, whole[32:, 16:48], atol=1e-12)


def test_white_is_taken_for_far_and_colour_for_near():
    halves = np.ones((40, 80, 3))
    halves[:, 40:] = [0.5, 0.1, 0.1]
    far = depth.colour_depth(halves)
    assert far[:, :20].mean() > far[:, 60:].mean() + 0.5
