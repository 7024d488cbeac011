from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moesaic.codec.container import Cursor
from moesaic.codec.plan import plan
from moesaic.codec.positions import UNIT_BITS
from moesaic.codec.quantise import (
    COLOUR_BITS,
    FINE,
    Steps,
    axis_levels,
    check_ranges,
    colour_steps,
    from_luma_chroma,
    power,
    slope_steps,
    to_luma_chroma,
)
from moesaic.errors import ArgumentError, FormatError


class TestSteps:
    def test_round_trip(self):
        steps = Steps(size=1, aspect=77, position=-9000, colour=-40000, tilt=-3, slope=5)
        assert Steps.unpack(Cursor(steps.pack(), "it")) == steps

    def test_scaled(self):
        twice = Steps().scaled(2)
        assert twice.aspect == 2 * Steps().aspect
        assert twice.colour == Steps().colour + FINE
        assert twice.tilt == Steps().tilt

    @pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
    def test_bad_factors(self, factor):
        with pytest.raises(ArgumentError):
            Steps().scaled(factor)

    @pytest.mark.parametrize("change", [{"size": 0}, {"prior": 2**20}, {"position": -(2**30)}, {"tilt": 2000}])
    def test_out_of_range(self, change):
        steps = replace(Steps(), **change)
        with pytest.raises(ArgumentError, match=next(iter(change))):
            steps.check()

    def test_damaged(self):
        with pytest.raises(FormatError):
            Steps.unpack(Cursor(b"\0" * 8, "it"))


class TestIntegerArithmetic:
    @given(st.integers(-(2**17), 2**17), st.integers(0, 24))
    def test_powers_of_two(self, log2, bits):
        found = int(power(np.array([log2]), bits)[0])
        exact = 2.0 ** (log2 / FINE + bits)
        assert abs(found - max(min(exact, 2.0**62), 1)) <= 1.01 + 0.003 * exact

    @given(st.integers(-(2**62), 2**62))
    def test_powers_of_anything_stay_in_range(self, log2):
        assert 1 <= int(power(np.array([log2]), 24)[0]) < 2**62

    def test_powers_are_known_integers(self):
        """A table made otherwise on another machine would fail here."""
        found = power(np.array([0, 16, 2048, 4095, 4096, -2048]), 20)
        assert found.tolist() == [1048576, 1051418, 1482910, 2091481, 2097152, 741455]

    @given(st.integers(-(2**31), 2**31), st.integers(1, 2**18))
    def test_hostile_sizes_give_harmless_steps(self, size, step):
        steps = Steps(size=step, colour=24 * FINE, slope=24 * FINE, tilt=1024)
        for found in (colour_steps(steps, np.array([size]), 3), slope_steps(steps, np.array([size]))):
            assert 1 <= found.min() <= found.max() <= 2**29

    @given(st.integers(-(2**31), 2**31), st.integers(-(2**31), 2**31), st.integers(0, 34), st.booleans())
    def test_hostile_shapes_give_harmless_levels(self, size, aspect, bits, across):
        levels = axis_levels(Steps(), np.array([size]), np.array([aspect]), np.array([bits]), across=across)[0]
        assert 1 <= levels <= min(2**16, 1 << max(bits - 1, 0))

    def test_levels_match_the_kernel(self):
        """A kernel of extent 2 px with a step of 1/4 of it has 16 levels in a part of 8 px; its long axis fewer."""
        steps = Steps(size=FINE, aspect=FINE, position=-2 * FINE)
        one = np.array([-1]), np.array([2]), np.array([UNIT_BITS + 3])
        assert axis_levels(steps, one[0], 0 * one[1], one[2], across=True) == 16
        assert axis_levels(steps, *one, across=True) == 32
        assert axis_levels(steps, *one, across=False) == 8


class TestColours:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_luma_chroma_is_orthonormal(self, channels):
        rng = np.random.default_rng(0)
        colours = rng.random((50, channels))
        turned = to_luma_chroma(colours)
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(colours, axis=1))
        np.testing.assert_allclose(from_luma_chroma(turned), colours, atol=1e-12)

    def test_grey_has_no_chroma_and_alpha_is_apart(self):
        turned = to_luma_chroma(np.array([[0.5, 0.5, 0.5, 0.25]]))
        np.testing.assert_allclose(turned, [[0.5 * 3**0.5, 0, 0, 0.25]], atol=1e-12)


def to_whole(mixture, planned):
    """The mixture in the order of the file, and what the file will hold of it."""
    return mixture[list(planned.order)], planned.mixture()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", [0, 1])
def test_errors_are_at_most_half_a_step(make_mixture, channels, order):
    mixture = make_mixture(300, channels=channels, order=order)
    steps = Steps()
    planned = plan(mixture, steps)
    before, after = to_whole(mixture, planned)
    kernels = planned.kernels
    half = 0.501

    def shape(m):  # the shear for the aspect that the file holds: l_yx / l_xx is what rounding the aspect keeps
        xx, yx, yy = m.factors.double().numpy().T
        ratio = 2.0 ** (kernels.aspect * steps.aspect / FINE)
        return np.log2(xx * yy) / 2 * FINE, np.log2(xx / yy) * FINE, yx / xx * ratio * FINE

    for name, a, b in zip(("size", "aspect", "shear"), shape(before), shape(after), strict=True):
        assert np.abs(a - b).max() <= half * getattr(steps, name)
    priors = (before.log_priors - after.log_priors).double().numpy()
    assert np.ptp(priors) <= 2 * half * steps.prior / FINE  # up to a constant
    colours = to_luma_chroma(before.colours.double().numpy()) - to_luma_chroma(after.colours.double().numpy())
    assert (np.abs(colours) <= half * colour_steps(steps, kernels.size, channels) * 2.0**-COLOUR_BITS + 1e-6).all()
    if order:
        limit = half * slope_steps(steps, kernels.size)[:, None] * 2.0**-COLOUR_BITS + 1e-6
        for axis in (0, 1):
            change = to_luma_chroma((before.slopes - after.slopes)[..., axis].double().numpy())
            assert (np.abs(change) <= limit).all()
    assert after.dtype == torch.float32


def test_centres_are_as_precise_as_their_kernels_ask(make_mixture):
    """In the frame of each kernel, where it is a unit circle, errors fill a square of one step: not more, nor less."""
    mixture = make_mixture(3000, width=400, height=300)
    mixture = replace(mixture, centres=mixture.centres.clamp(0, 300))
    steps = Steps()
    before, after = to_whole(mixture, plan(mixture, steps))
    d = (after.centres - before.centres).double().numpy()
    xx, yx, yy = after.factors.double().numpy().T
    u, v = xx * d[:, 0] + yx * d[:, 1], yy * d[:, 1]
    step = 2 ** (steps.position / FINE)
    assert np.quantile(np.abs(v), 0.99) <= 0.55 * step
    assert np.quantile(np.abs(u), 0.9) <= 0.55 * step  # the rest lies at the edges of parts, where x cannot make up
    assert np.abs(u).mean() > 0.15 * step


def test_any_sign_of_the_factors_means_the_same_kernel(make_mixture):
    mixture = make_mixture(20)
    signs = torch.tensor([[1.0, 1, 1], [-1, -1, 1], [1, 1, -1], [-1, -1, -1]]).repeat(5, 1)
    a, b = plan(mixture, Steps()), plan(replace(mixture, factors=mixture.factors * signs), Steps())
    np.testing.assert_array_equal(a.kernels.size, b.kernels.size)
    flipped = signs[list(b.order)]
    expected = a.kernels.shear * (flipped[:, 0] * flipped[:, 1]).long().numpy()
    np.testing.assert_array_equal(np.abs(a.kernels.shear), np.abs(expected))
    p = a.mixture().factors, b.mixture().factors
    kept = flipped[:, 2] > 0
    torch.testing.assert_close(p[0][kept], p[1][kept])


@pytest.mark.parametrize("field", ["centres", "factors", "log_priors", "colours"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(make_mixture, field, value):
    mixture = make_mixture(5)
    bad = getattr(mixture, field).clone()
    bad.view(-1)[3] = value
    with pytest.raises(ArgumentError, match="not finite"):
        plan(replace(mixture, **{field: bad}), Steps())


def test_singular_factors_are_refused(make_mixture):
    mixture = make_mixture(5)
    factors = mixture.factors.clone()
    factors[2, 2] = 0
    with pytest.raises(ArgumentError, match="singular"):
        plan(replace(mixture, factors=factors), Steps())


def test_extreme_values_are_clipped_to_what_a_file_holds(make_mixture):
    mixture = make_mixture(8)
    factors = torch.tensor([[1e-30, 0.0, 1e-30], [1e30, 0, 1e30], [1e-20, 1e20, 1], [1, -1e30, 1e-9]]).repeat(2, 1)
    wild = replace(
        mixture,
        factors=factors,
        centres=mixture.centres * 1e20,
        log_priors=mixture.log_priors * 1e20,
        colours=mixture.colours * 1e20,
    )
    steps = Steps(size=2**10, prior=2**18, aspect=2**12, shear=2**12, colour=0, tilt=0)
    planned = plan(wild, steps)
    check_ranges(planned.kernels, steps)
    after = planned.mixture()
    assert all(torch.isfinite(t).all() for t in (after.centres, after.factors, after.log_priors, after.colours))
    assert (after.factors[:, [0, 2]] > 0).all()


@pytest.mark.parametrize(
    ("field", "value"), [("size", 2**24), ("aspect", -(2**24)), ("shear", 2**26), ("prior", 2**24), ("colours", 2**40)]
)
def test_degenerate_integers_are_refused(make_mixture, field, value):
    kernels = plan(make_mixture(4), Steps()).kernels
    bad = getattr(kernels, field).copy()
    bad[1] = value
    with pytest.raises(FormatError, match="degenerate"):
        check_ranges(replace(kernels, **{field: bad}), Steps())


@pytest.mark.parametrize("change", [{"colour": -24 * FINE}, {"colour": -18 * FINE}, {"size": 1}])
def test_steps_too_fine_for_the_tables_are_refused(make_mixture, change):
    with pytest.raises(ArgumentError, match="enlarge"):
        plan(make_mixture(50), replace(Steps(), **change))


def test_stray_kernels_are_pulled_in(make_mixture):
    mixture = make_mixture(400)
    colours = mixture.colours.clone()
    colours[7] = torch.tensor([15.0, -15.0, 15.0])
    steps = Steps(colour=-12 * FINE, tilt=0)
    planned = plan(replace(mixture, colours=colours), steps)
    after = planned.mixture().colours[list(planned.order).index(7)]
    assert 1.5 < after[0] < 14
    others = planned.order != 7
    np.testing.assert_allclose(planned.mixture().colours[others], colours[list(planned.order[others])], atol=3e-4)
