"""The second-order chain: steps in their ranges, kernels that keep the light, sizes that come out right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moesaic.degrade import wild
from moesaic.degrade.told import Told
from moesaic.errors import ArgumentError, LimitError


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_the_chain_ends_at_its_size_on_whole_levels(picture, shrink):
    for seed in range(3):
        steps = wild.draw_steps(np.random.default_rng(seed), 48, 64, 1.0, shrink)
        out = wild.apply_steps(picture() / 255.0, [Told("wild", step) for step in steps])
        assert out.shape == (48 // shrink, 64 // shrink, 3)
        np.testing.assert_allclose(out * 255, np.round(out * 255), atol=1e-9)
        assert np.ptp(out) > 0.1


def test_every_step_is_drawn_within_the_published_ranges():
    chains = [wild.draw_steps(np.random.default_rng(seed), 400, 400, 1.0, 4) for seed in range(200)]
    first = [chain[1] for chain in chains]
    assert all(0.15 * 400 - 1 <= step["height"] <= 600 for step in first)
    assert min(step["height"] for step in first) < 100
    assert max(step["height"] for step in first) > 500
    every = [step for chain in chains for step in chain]
    qualities = [step["quality"] for step in every if step["step"] == "jpeg"]
    assert (min(qualities), max(qualities)) == (30, 95)
    assert {step["step"] for step in every} == {"blur", "sinc", "resize", "noise", "poisson", "jpeg"}
    assert {step["shape"] for step in every if step["step"] == "blur"} == set(wild.SHAPES)
    assert {step["method"] for step in every if step["step"] == "resize"} == set(wild.METHODS)
    ends = {chain[-1]["step"] for chain in chains}
    assert {"jpeg", "sinc"} <= ends <= {"jpeg", "sinc", "resize"}


def test_mild_chains_are_milder(picture):
    light = picture() / 255.0

    def error(severity):
        outs = []
        for seed in range(6):
            steps = wild.draw_steps(np.random.default_rng(seed), 48, 64, severity, 1)
            outs.append(wild.apply_steps(light, [Told("wild", step) for step in steps]) - light)
        return np.mean(np.square(outs))

    assert error(0) < 0.5 * error(1)


def test_a_low_pass_filter_passes_low_waves_and_stops_high_ones():
    kernel = wild.step_kernel("sinc", Told("wild", {"size": 41, "cutoff": math.pi / 2}))
    assert kernel.sum() == pytest.approx(1)
    response = np.abs(np.fft.fft2(kernel, s=(128, 128)))
    assert response[0, 8] == pytest.approx(1, abs=0.1)  # pi / 8
    assert response[0, 56] < 0.1  # 7 pi / 8


def test_a_bell_has_its_widths_along_its_axes():
    told = {"size": 41, "shape": "bell", "power": 1, "turn": 0.0, "sigmas": [4, 1.5]}
    kernel = wild.step_kernel("blur", Told("wild", told))
    places = np.arange(41) - 20
    assert math.sqrt((kernel.sum(0) * places**2).sum()) == pytest.approx(4, rel=0.01)
    assert math.sqrt((kernel.sum(1) * places**2).sum()) == pytest.approx(1.5, rel=0.01)


def test_a_step_with_too_much_is_refused():
    with pytest.raises(ArgumentError, match="no parameter 'colour'"):
        wild.apply_steps(np.zeros((4, 4, 3)), [Told("wild", {"step": "jpeg", "quality": 50, "colour": 1})])


@pytest.mark.parametrize("step", [{"step": "sinc", "size": 8, "cutoff": 1.0}, {"step": "blur", "size": 2}])
def test_even_kernels_are_refused(step):
    with pytest.raises(ArgumentError, match="'size' is an odd number of px, not"):
        wild.apply_steps(np.zeros((4, 4, 3)), [Told("wild", step)])


def test_a_kernel_without_a_sum_is_refused():
    with pytest.raises(ArgumentError, match="the sum of the kernel is 0"):
        wild._of_sum_1(np.zeros((3, 3)))
    assert wild.step_kernel("sinc", Told("wild", {"size": 1, "cutoff": 0.01})).tolist() == [[1.0]]


def test_a_picture_on_its_way_has_a_limit():
    step = {"step": "resize", "height": 2**16, "width": 2**13, "method": "area"}
    with pytest.raises(LimitError, match="resizes to 8192x65536 px, above the limit of 268435456 px"):
        wild.apply_steps(np.zeros((4, 4, 3)), [Told("wild", step)])
