from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, LimitError, PictureError
from moesaic.metrics import psnr
from moesaic.mixture.fit import fit
from moesaic.mixture.fitting import FitConfig, Progress
from moesaic.mixture.render import render


@pytest.fixture(scope="module")
def small(photo):
    """A part of the photograph with a face's edge in it, 40x32."""
    return np.ascontiguousarray(photo[:32, 40:80])


def quality(mixture, picture):
    drawn = render(mixture).permute(1, 2, 0).clamp(0, 1).numpy()
    return psnr(drawn, picture.reshape(drawn.shape))


def same(a, b):
    return all(torch.equal(t, getattr(b, name)) for name, t in a._tensors().items())


class TestQuality:
    def test_gives_the_number_asked_for_on_the_canvas(self, small):
        mixture = fit(small, experts=30, steps=120)
        assert (len(mixture), mixture.width, mixture.height) == (30, 40, 32)
        assert (mixture.channels, mixture.order, mixture.dtype) == (3, 0, torch.float32)

    @pytest.mark.parametrize("order", [0, 1])
    def test_improves_with_steps(self, small, order):
        reached = [quality(fit(small, experts=40, steps=steps, order=order), small) for steps in (1, 20, 200)]
        assert reached[1] > reached[0] + 0.5
        assert reached[2] > reached[1] + 0.5

    def test_improves_with_experts(self, small):
        few, many = (quality(fit(small, experts=n, steps=100), small) for n in (20, 120))
        assert many > few + 2.0

    def test_linear_experts_do_better_than_constant_ones(self, small):
        constant, linear = (quality(fit(small, experts=30, steps=150, order=order), small) for order in (0, 1))
        assert linear > constant

    def test_finds_a_picture_that_a_mixture_drew(self, scatter):
        target = render(scatter(4, 32, 24, sigmas=(4.0, 8.0), prior=0.3)).permute(1, 2, 0).float().numpy()
        assert quality(fit(target, experts=24, steps=300), target) > 40.0

    def test_one_expert_for_every_forty_pixels_when_nothing_is_asked(self, small):
        assert len(fit(small, steps=2)) == 32


class TestDeterminism:
    def test_same_seed_same_bytes(self, small):
        one, two = (fit(small, experts=40, steps=60, seed=3) for _ in range(2))
        assert same(one, two)

    @pytest.mark.parametrize("order", [0, 1])
    def test_threads_do_not_change_a_byte(self, small, order):
        one, two, five = (fit(small, experts=40, steps=60, threads=n, order=order) for n in (1, 2, 5))
        assert same(one, two)
        assert same(one, five)

    def test_other_seeds_differ(self, small):
        assert not same(fit(small, experts=40, steps=5, seed=1), fit(small, experts=40, steps=5, seed=2))

    def test_a_callback_does_not_change_the_result(self, small):
        assert same(fit(small, experts=40, steps=60), fit(small, experts=40, steps=60, progress=lambda _: None))

    def test_a_search_is_deterministic_too(self, small):
        one, two = (fit(small, psnr=26.0, steps=40, threads=n) for n in (1, 3))
        assert same(one, two)


class TestTarget:
    @pytest.mark.parametrize("wanted", [25.0, 28.0, 30.0])
    def test_is_reached_and_hardly_passed(self, photo, wanted):
        picture = np.ascontiguousarray(photo[20:68, 30:94])  # large enough for one expert to weigh little
        mixture = fit(picture, psnr=wanted, steps=120)
        assert wanted - 0.001 <= quality(mixture, picture) <= wanted + 0.3

    def test_a_lower_target_takes_fewer_experts(self, small):
        low, high = (len(fit(small, psnr=wanted, steps=60)) for wanted in (24.0, 30.0))
        assert low < high

    def test_what_cannot_be_reached_is_refused(self):
        noise = np.random.default_rng(0).uniform(size=(16, 16, 3)).astype(np.float32)
        with pytest.raises(LimitError, match="60 dB are not reached"):
            fit(noise, psnr=60.0, steps=30)

    def test_what_one_expert_reaches_takes_one(self):
        assert len(fit(np.full((16, 16, 3), 0.4, np.float32), psnr=40.0, steps=20)) == 1

    def test_stopping_a_search_keeps_what_there_is(self, small):
        mixture = fit(small, psnr=60.0, steps=200, progress=lambda told: told.step >= 3)
        assert len(mixture) >= 1
        assert bool(render(mixture).isfinite().all())


class TestTime:
    def test_is_roughly_kept(self, small):
        fit(small, experts=30, steps=60)  # compiles
        began = time.perf_counter()
        told = []
        fit(small, experts=30, seconds=0.5, progress=told.append)
        assert 0.5 <= time.perf_counter() - began < 15.0  # a shared machine may stall
        assert told[-1].steps is None
        assert told[-1].seconds >= 0.5
        assert told[0].seconds_left <= 0.5
        assert told[-1].seconds_left == 0.0

    def test_goes_with_a_target(self, small):
        began = time.perf_counter()
        mixture = fit(small, psnr=22.0, seconds=0.6)
        assert time.perf_counter() - began < 15.0
        assert quality(mixture, small) >= 22.0


class TestProgress:
    def test_is_told_after_each_step(self, small):
        told = []
        fit(small, experts=40, steps=80, progress=told.append)
        assert [p.step for p in told] == list(range(1, 81))
        assert {p.steps for p in told} == {80}
        assert {p.phase for p in told} == {"fit"}
        assert all(isinstance(p, Progress) for p in told)
        assert all(a.seconds <= b.seconds for a, b in pairwise(told))
        assert told[-1].seconds_left == pytest.approx(0.0)
        assert told[-1].psnr > told[0].psnr
        assert told[-1].experts == 40

    def test_a_search_tells_its_phases(self, small):
        told = []
        fit(small, psnr=27.0, steps=40, progress=told.append)
        assert {p.phase for p in told} == {"fit", "search"}

    def test_can_stop(self, small):
        told = []
        mixture = fit(small, experts=40, progress=lambda p: told.append(p) or p.step == 7)
        assert len(told) == 7
        assert len(mixture) == 40

    @pytest.mark.parametrize("answer", [None, False])
    def test_goes_on_otherwise(self, small, answer):
        told = []

        def progress(p):
            told.append(p)
            return answer

        fit(small, experts=10, steps=4, progress=progress)
        assert len(told) == 4

    @pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
    def test_exceptions_pass_through(self, small, error):
        def progress(_):
            raise error

        with pytest.raises(error):
            fit(small, experts=10, steps=4, progress=progress)


class TestPictures:
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 3), (1, 40, 3), (40, 1, 3), (17, 15, 3)])
    def test_small_ones(self, shape, order):
        picture = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
        mixture = fit(picture, experts=2 * shape[0] * shape[1], steps=100, order=order)
        assert (mixture.height, mixture.width, mixture.channels) == shape
        assert quality(mixture, picture) > 20.0  # the mean alone has about 11

    @pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
    def test_small_ones_with_nothing_or_a_target_asked_for(self, shape):
        picture = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
        assert len(fit(picture, steps=20)) == 1
        assert quality(fit(np.full(shape, 0.3, np.float32), psnr=50.0, steps=20), np.full(shape, 0.3)) >= 50.0

    @pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
    @pytest.mark.parametrize("experts", [1, 50])
    def test_flat(self, value, experts):
        picture = np.full((20, 30, 3), value, np.float32)
        mixture = fit(picture, experts=experts, steps=60)
        assert len(mixture) == experts
        assert quality(mixture, picture) > 60.0

    def test_one_expert_takes_the_mean(self, small):
        mixture = fit(small, experts=1, steps=80)
        assert mixture.colours[0].tolist() == pytest.approx(small.mean((0, 1)).tolist(), abs=1e-3)

    def test_one_linear_expert_takes_the_plane(self):
        rows, columns = np.mgrid[:20, :30] + 0.5
        picture = np.repeat((0.2 + 0.01 * columns + 0.02 * rows).astype(np.float32)[..., None], 3, axis=2)
        mixture = fit(picture, experts=1, order=1, steps=200)
        assert mixture.slopes.flatten().tolist() == pytest.approx([0.01, 0.02] * 3, abs=1e-3)
        assert quality(mixture, picture) > 40.0

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_channels(self, channels):
        ramp = np.linspace(0.1, 0.9, 24 * 20, dtype=np.float32).reshape(20, 24)
        picture = np.stack([np.roll(ramp, 5 * k, axis=1) for k in range(channels)], axis=-1)
        mixture = fit(picture, experts=60, steps=100)
        assert mixture.channels == channels
        alpha = picture[..., -1:] if channels in (2, 4) else np.ones_like(picture[..., -1:])
        target = picture.copy()
        if channels in (2, 4):
            target[..., :-1] *= alpha
        assert quality(mixture, target) > 27.0

    def test_tensors_give_the_same_as_arrays(self, small):
        tensor = torch.from_numpy(small).permute(2, 0, 1)
        assert same(fit(tensor, experts=20, steps=10), fit(small, experts=20, steps=10))

    def test_more_experts_than_pixels(self):
        picture = np.random.default_rng(0).uniform(size=(6, 6, 3)).astype(np.float32)
        assert quality(fit(picture, experts=144, steps=100), picture) > 40.0


@pytest.fixture(scope="module")
def begun(small):
    return fit(small, experts=40, steps=30)


class TestBegin:
    """A fit that goes on from a mixture."""

    @pytest.mark.parametrize("steps", [1, 30, 150])
    def test_goes_on_and_leaves_the_mixture_alone(self, small, begun, steps):
        before = begun.detach()
        after = fit(small, begin=begun, steps=steps)
        assert len(after) == 40
        assert quality(after, small) > quality(begun, small)
        assert same(begun, before)

    def test_a_short_fit_keeps_every_kernel_where_it_is_useful(self, small, begun):
        after = fit(small, begin=begun, steps=5)
        assert float((after.centres - begun.centres).abs().max()) < 8.0

    @pytest.mark.parametrize("steps", [5, 150])
    def test_the_least_useful_go(self, small, begun, steps):
        assert len(fit(small, begin=begun, experts=25, steps=steps)) == 25

    def test_is_better_than_as_many_steps_of_a_fresh_fit(self, small, begun):
        assert quality(fit(small, begin=begun, steps=20), small) > quality(fit(small, experts=40, steps=20), small)

    def test_a_short_one_is_ahead_of_a_fresh_one_with_as_many_more(self, small, begun):
        assert quality(fit(small, begin=begun, steps=20), small) > quality(fit(small, experts=40, steps=30 + 40), small)

    @pytest.mark.parametrize("steps", [1, 40, 120, 200])
    def test_is_told_after_each_step(self, small, begun, steps):
        told = []
        fit(small, begin=begun, steps=steps, progress=told.append)
        assert [p.step for p in told] == list(range(1, steps + 1))
        assert {p.steps for p in told} == {steps}
        assert told[-1].seconds_left == pytest.approx(0.0)

    @pytest.mark.parametrize("at", [1, 30, 130])
    def test_can_stop(self, small, begun, at):
        told = []
        mixture = fit(small, begin=begun, experts=35, steps=140, progress=lambda p: told.append(p) or p.step == at)
        assert len(told) == at
        assert len(mixture) == 35

    @pytest.mark.parametrize("steps", [12, 120])
    def test_same_bytes_for_any_threads(self, small, begun, steps):
        assert same(fit(small, begin=begun, steps=steps, threads=1), fit(small, begin=begun, steps=steps, threads=3))

    @pytest.mark.parametrize("steps", [24, 60, 150])
    def test_what_is_nearly_right_keeps_the_best_of_its_steps(self, steps):
        y, x = np.mgrid[:48, :48]
        disc = np.repeat(((x - 20) ** 2 + (y - 26) ** 2 < 200)[..., None], 3, axis=2).astype(np.float32)
        begun, told = fit(disc, experts=30, steps=40), []
        after = fit(disc, begin=begun, steps=steps, progress=told.append)
        assert quality(after, disc) > max(p.psnr for p in told[::8]) - 0.01  # as it was with each listing

    @pytest.mark.parametrize("order", [0, 1])
    def test_order(self, small, order):
        begun = fit(small, experts=30, steps=10, order=order)
        after = fit(small, begin=begun, steps=40, order=order)
        assert after.order == order
        assert quality(after, small) > quality(begun, small)

    def test_more_time_than_a_brief_fit_takes(self, small, begun):
        told = []
        after = fit(small, begin=begun, seconds=1.5, progress=told.append)
        assert quality(after, small) > quality(begun, small)
        assert {p.steps for p in told} == {None}

    def test_time_can_be_spent(self, small, begun):
        assert len(fit(small, begin=begun, seconds=0.05)) == 40

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_any_channels(self, channels):
        picture = np.random.default_rng(0).random((12, 16, channels), dtype=np.float32)
        begun = fit(picture, experts=12, steps=3)
        assert fit(picture, begin=begun, steps=3).channels == channels

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"psnr": 30.0}, "begin or psnr, not both"),
            ({"experts": 41}, "not be more than the 40 of begin"),
            ({"order": 1}, "they must agree"),
            ({"device": "cuda"}, "use device='cpu'"),
            ({"begin": "photo.moe"}, "begin is a Mixture, not str"),
        ],
    )
    def test_what_does_not_go_together(self, small, begun, asked, words):
        with pytest.raises(ArgumentError, match=words):
            fit(small, **{"begin": begun, "steps": 2} | asked)

    def test_another_canvas(self, small, begun):
        with pytest.raises(ArgumentError, match="height and width"):
            fit(small[:20], begin=begun, steps=2)


class TestErrors:
    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"experts": 10, "psnr": 30.0}, "experts or psnr, not both"),
            ({"experts": 0}, "experts"),
            ({"experts": -4}, "experts"),
            ({"experts": 4 * 1280 + 1}, "experts"),
            ({"psnr": 0.0}, "psnr"),
            ({"psnr": -10.0}, "psnr"),
            ({"psnr": 101.0}, "psnr"),
            ({"psnr": math.nan}, "psnr"),
            ({"psnr": math.inf}, "psnr"),
            ({"seconds": 0.0}, "seconds"),
            ({"seconds": -1.0}, "seconds"),
            ({"seconds": math.nan}, "seconds"),
            ({"seconds": math.inf}, "seconds"),
            ({"seconds": 10**400}, "seconds"),
            ({"progress": 5}, "progress is a function, not int"),
            ({"steps": 0}, "steps"),
            ({"steps": -1}, "steps"),
            ({"steps": 10, "seconds": 1.0}, "steps"),
            ({"order": 2}, "order"),
            ({"order": -1}, "order"),
            ({"seed": -1}, "seed"),
            ({"threads": 0}, "threads"),
            ({"threads": -1}, "threads"),
        ],
    )
    def test_numbers_out_of_range(self, small, asked, words):
        with pytest.raises(ArgumentError, match=words):
            fit(small, **asked)

    def test_what_is_no_picture(self, tmp_path):
        path = tmp_path / "note.png"
        path.write_text("not a picture")
        with pytest.raises(PictureError):
            fit(path, experts=10)


def test_rates_come_from_the_configuration(small):
    still = FitConfig(rate_centre=0, rate_shape=0, rate_prior=0, rate_colour=0, moved=0, surplus=1.0, solve=0)
    one, many = (fit(small, experts=20, steps=steps, config=still) for steps in (1, 30))
    assert torch.equal(one.colours, many.colours)
    torch.testing.assert_close(one.centres, many.centres)
