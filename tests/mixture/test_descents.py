"""Two ways downhill, each through looks, steps and moves; and which gets further in a few steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moesaic.mixture.backends import descent
from moesaic.mixture.backends.cover import cover
from moesaic.mixture.colours import pack
from moesaic.mixture.descents import Adam, Bounds, Gait, GaussNewton
from moesaic.mixture.observed import Pixels

BOUNDS = Bounds(sharpest=5.0, widest=0.01, right=42.0, bottom=34.0, left=-2.0, top=-2.0)
RATES = np.array([0.5] * 2 + [0.16] * 3 + [0.1] + [0.02] * 3)


@pytest.fixture
def target(photo):
    return np.ascontiguousarray(photo[:32, 40:80].transpose(2, 0, 1), dtype=np.float32)


@pytest.fixture
def packed(scatter):
    return pack(scatter(30, 40, 32).to(dtype=torch.float32)).copy()


def listed(packed):
    return cover(packed.centres, packed.geometry, 40, 32, 8.0, 1)


def adam(packed, target, threads=1):
    return Adam(Pixels(target), packed, rates=RATES, decays=(0.9, 0.9), bounds=BOUNDS, threads=threads)


def newton(packed, target, threads=1):
    return GaussNewton(Pixels(target), packed, gait=Gait(), bounds=BOUNDS, threads=threads)


WAYS = pytest.mark.parametrize("make", [adam, newton])


def walk(make, packed, target, steps, threads=1):
    way, errors, lists = make(packed, target, threads), [], None
    for step in range(steps):
        fresh = step % 8 == 0
        lists = listed(packed) if fresh else lists
        errors.append(way.look(packed, lists, fresh=fresh))
        way.go(packed, 1.0)
    return way, errors


@WAYS
def test_goes_downhill(make, packed, target):
    _, errors = walk(make, packed, target, 40)
    assert errors[-1] < 0.4 * errors[0]


def test_curvature_gets_further_in_a_few_steps(packed, target):
    begun = packed.copy()
    _, slow = walk(adam, packed, target, 30)
    _, fast = walk(newton, begun, target, 30)
    assert slow[0] == pytest.approx(fast[0], rel=1e-5)
    assert fast[-1] < slow[-1]


@WAYS
def test_looks_tell_the_error_whether_fresh_or_not(make, packed, target):
    way = make(packed, target)
    fresh = way.look(packed, listed(packed), fresh=True)
    assert way.look(packed, listed(packed), fresh=False) == pytest.approx(fresh, rel=1e-5)
    assert Pixels(target).error(packed, listed(packed), 1)[0] == pytest.approx(fresh, rel=1e-5)


@WAYS
def test_looks_move_nothing(make, packed, target):
    before = packed.copy()
    make(packed, target).look(packed, listed(packed), fresh=True)
    for name in ("centres", "geometry", "experts"):
        assert np.array_equal(getattr(packed, name), getattr(before, name))


@WAYS
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_byte(make, packed, target, threads):
    other = packed.copy()
    walk(make, packed, target, 12)
    walk(make, other, target, 12, threads)
    for name in ("centres", "geometry", "experts"):
        assert np.array_equal(getattr(packed, name), getattr(other, name))


def test_adam_takes_the_steps_of_its_loop(packed, target):
    way, plain = adam(packed, target), packed.copy()
    first, second = np.zeros((30, 9), np.float32), np.zeros((30, 9), np.float32)
    for count in (1, 2, 3):
        lists = listed(packed)
        way.look(packed, lists, fresh=True)
        way.go(packed, 0.5)
        slope = Pixels(target).error(plain, lists, 1)[1]
        arrays = (plain.centres, plain.geometry, plain.experts, slope, first, second, (RATES * 0.5).astype(np.float32))
        descent.step(0, 30, *arrays, 0.9, 0.9, count, 5.0, 0.01, 42.0, 34.0, -2.0, -2.0, 3)
    for name in ("centres", "geometry", "experts"):
        assert np.array_equal(getattr(packed, name), getattr(plain, name))


class TestMoves:
    """Means, momentum and pace after kernels have been split and taken away."""

    KEPT = np.array([True] * 28 + [False] * 2)
    PARENTS, PLACES = np.array([3, 5]), np.array([10, 29])

    def test_adam(self, packed, target):
        way, _ = walk(adam, packed, target, 3)
        first, second = way.first.copy(), way.second.copy()
        way.follow(self.PARENTS, self.PLACES, self.KEPT)
        assert len(way.first) == len(way.second) == 28
        assert not way.first[10].any()
        assert np.array_equal(way.second[10], second[3])
        assert np.array_equal(way.first[[3, 5]], first[[3, 5]] * np.float32(0.5))
        assert np.array_equal(way.first[[0, 27]], first[[0, 27]])

    def test_newton(self, packed, target):
        way, _ = walk(newton, packed, target, 8)
        velocity, pace = way.velocity.copy(), way.pace.copy()
        way.follow(self.PARENTS, self.PLACES, self.KEPT)
        assert len(way.velocity) == len(way.pace) == 28
        assert not way.velocity[[3, 5, 10]].any()
        assert np.allclose(way.pace[[3, 5, 10]], Gait().first)
        assert np.array_equal(way.velocity[[0, 27]], velocity[[0, 27]])
        assert np.array_equal(way.pace[[0, 27]], pace[[0, 27]])

    @WAYS
    def test_what_is_left_goes_on(self, make, packed, target):
        way, errors = walk(make, packed, target, 8)
        way.follow(np.empty(0, int), np.empty(0, int), self.KEPT)
        fewer = packed.chosen(self.KEPT)
        before = way.look(fewer, listed(fewer), fresh=True)
        for _ in range(6):
            way.go(fewer, 1.0)
            after = way.look(fewer, listed(fewer), fresh=True)
        assert after < before
        assert len(errors) == 8


@pytest.mark.parametrize("kind", ["noise", "flat", "checks", "black"])
def test_nasty_pictures_end_no_worse(packed, kind):
    y, x = np.mgrid[:32, :40]
    picture = {
        "noise": np.random.default_rng(0).random((3, 32, 40)),
        "flat": np.full((3, 32, 40), 0.4),
        "checks": np.repeat(((x // 4 + y // 4) % 2)[None], 3, axis=0),
        "black": np.zeros((3, 32, 40)),
    }[kind]
    _, errors = walk(newton, packed, picture.astype(np.float32), 100)
    assert np.isfinite(errors).all()
    assert errors[-1] < errors[0]
    assert np.isfinite(packed.geometry).all()
