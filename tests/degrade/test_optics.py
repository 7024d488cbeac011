"""Kernels keep the light, and blur is of light, not of values."""

from __future__ import annotations

import numpy as np
import pytest

from moesaic.degrade import optics
from moesaic.degrade.ranges import PATH_POINTS

PUSHES = np.random.default_rng(0).standard_normal((PATH_POINTS, 2))
KERNELS = {
    "line": optics.path_kernel(optics.line_path(25, 0.7)),
    "walk": optics.path_kernel(optics.walk_path(25, PUSHES)),
    "arc": optics.path_kernel(optics.arc_path(25, 0.7, 4)),
    "disc": optics.disc_kernel(5),
    "bell": optics.bell_kernel(2.5),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels_sum_to_one_without_negative_parts_and_end_within_their_frame(kernel):
    assert kernel.sum() == pytest.approx(1)
    assert kernel.min() >= 0
    border = kernel.copy()
    border[1:-1, 1:-1] = 0
    assert border.max() < 1e-5


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_constant_stays_what_it_is(kernel):
    np.testing.assert_allclose(optics.blur(np.full((20, 31, 3), 0.3), kernel), 0.3, atol=1e-9)


def test_paths_are_of_the_length_asked_for():
    for path in (optics.walk_path(17, PUSHES), optics.arc_path(17, 0.2, 3)):
        assert np.ptp(path, axis=0).max() == pytest.approx(17)
    assert np.hypot(*(optics.line_path(17, 0.2)[-1] - optics.line_path(17, 0.2)[0])) == pytest.approx(17)


def test_a_line_blurs_along_its_direction_only():
    edge = np.zeros((40, 40, 3))
    edge[:, 20:] = 1
    across, along = (optics.blur(edge, optics.path_kernel(optics.line_path(15, a))) for a in (0, np.pi / 2))
    assert ((across > 0.01) & (across < 0.99)).sum() > 10 * 40 * 3
    np.testing.assert_allclose(along, edge, atol=1e-3)


def test_the_mean_that_is_kept_is_that_of_the_light():
    light = np.random.default_rng(1).random((64, 64, 3))
    light[:16] = light[-16:] = light[:, :16] = light[:, -16:] = 0.5  # nothing is lost over the border
    blurred = optics.blur(light, KERNELS["line"])
    assert (blurred**2.2).mean() == pytest.approx((light**2.2).mean(), rel=1e-3)
    assert blurred.mean() > light.mean() + 0.005


def test_no_motion_is_no_blur():
    light = np.random.default_rng(1).random((20, 20, 3))
    np.testing.assert_allclose(optics.blur(light, optics.path_kernel(optics.line_path(0, 0))), light, atol=1e-7)


def test_a_kernel_is_not_mirrored():
    point = np.zeros((31, 31, 3))
    point[15, 15] = 1
    spread = optics.blur(point, KERNELS["arc"])[..., 0] ** 2.2
    np.testing.assert_allclose(spread[1:30, 1:30], KERNELS["arc"], atol=1e-9)
