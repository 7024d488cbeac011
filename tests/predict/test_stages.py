"""Stages and their network: exact numbers of kernels, true gradients, and a fresh network that already improves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError
from moesaic.mixture import reference
from moesaic.mixture.model import Mixture
from moesaic.predict.kernels import CHANGE, CHANNELS, SIX, begun, moved
from moesaic.predict.network import MixturePredictor
from moesaic.predict.stages import MARGIN, SHARES, Stage, advanced, checked_shares, coloured, compared, stages, totals
from moesaic.predict.telling import SEEN
from moesaic.predict.views import View, view

PARTS = ("centres", "factors", "log_priors", "colours")
FARTHEST, NEAR = 0.6, 2.0  # of a geometry's numbers in a stage, and of a step of Newton's method


def made(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MixturePredictor(**({"hidden": 16, "depth": 2, "stages": 4} | options))


def zeroed(network):
    """With nothing to say: what remains are the fixed parts."""
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias.zero_()
    return network


def loud(network, scale=10.0):
    """With much to say, so that nothing hides behind the fixed parts."""
    with torch.no_grad():
        network.last.weight.mul_(scale)
    return network


def told(count=9, seed=0, scale=1.0):
    """A view of kernels at random, and their last change."""
    random = torch.Generator().manual_seed(seed)
    widths = (SEEN, SIX, SIX, CHANNELS, CHANGE)
    seen, bold, shy, colour, before = (scale * torch.randn(count, width, generator=random) for width in widths)
    return View(seen, bold, shy, colour), 0.3 * before


def waves(height=40, width=56):
    """A smooth picture."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([0.5 + 0.4 * np.sin(columns / (4 + c) + rows / (9 - 2 * c)) for c in range(3)]).astype(np.float32)


def dice(seed=0):
    return np.random.default_rng(seed)


def walk(network, picture, experts=60, seed=0, **options):
    return list(stages(network, picture, experts, dice(seed), **options))


def exact_error(kernels, picture, dtype=torch.float64):
    """The squared error by the definition."""
    parts = {name: getattr(kernels, name).to(dtype) for name in PARTS}
    mixture = Mixture(**parts, width=picture.shape[2], height=picture.shape[1])
    return (reference.render(mixture) - torch.from_numpy(picture).to(dtype)).square().sum()


class TestNetwork:
    @pytest.mark.parametrize("stage", [0, 3])
    def test_one_that_says_nothing_goes_fixed_parts(self, stage):
        view, before = told(scale=1.5)
        found = zeroed(made())(view, before, stage)
        six = 0.15 * view.bold.clamp(-NEAR, NEAR) + 0.15 * view.shy.clamp(-NEAR, NEAR) + 0.5 * before[:, :SIX]
        expected = torch.cat([FARTHEST * torch.tanh(six / FARTHEST), 0.4 * view.colour + 0.4 * before[:, SIX:]], dim=1)
        torch.testing.assert_close(found, expected)

    def test_a_fresh_one_goes_nearly_those_parts(self):
        view, before = told()
        with torch.no_grad():
            fresh, fixed = made()(view, before, 0), zeroed(made())(view, before, 0)
        assert 0 < float((fresh - fixed).abs().mean()) < 0.1 * float(fixed.abs().mean())

    def test_what_it_says_is_told_apart(self):
        """Each group of outputs moves its own numbers, along what it belongs to."""
        view, before = told()
        network = zeroed(made())
        base = network(view, before, 0)
        groups = [SIX] * 4 + [CHANNELS] * 3
        for number, (begin, width) in enumerate(zip(itertools.accumulate([0, *groups]), groups, strict=False)):
            with torch.no_grad():
                network.last.bias[begin : begin + width] = 1.0
                moves = (network(view, before, 0) - base).abs() > 1e-6
                network.last.bias.zero_()
            geometry, hue = moves[:, :SIX], moves[:, SIX:]
            assert bool(geometry.all()) == (number < 4)
            assert bool(geometry.any()) == (number < 4)
            assert bool(hue.all()) == (number >= 4)
            assert bool(hue.any()) == (number >= 4)

    def test_kernels_are_told_apart_from_their_order(self):
        view, before = told(20)
        network, order = loud(made()), torch.randperm(20, generator=torch.Generator().manual_seed(1))
        whole = network(view, before, 1)
        turned = View(view.seen[order], view.bold[order], view.shy[order], view.colour[order])
        torch.testing.assert_close(network(turned, before[order], 1), whole[order])
        alone = View(view.seen[:1], view.bold[:1], view.shy[:1], view.colour[:1])
        torch.testing.assert_close(network(alone, before[:1], 1), whole[:1])

    def test_later_stages_are_taken_for_the_last(self):
        view, before = told()
        network = loud(made(stages=3))
        found = [network(view, before, stage) for stage in range(6)]
        assert not torch.equal(found[0], found[1])
        assert not torch.equal(found[1], found[2])
        assert all(torch.equal(found[2], later) for later in found[3:])

    @pytest.mark.parametrize("scale", [1e3, 1e8])
    def test_no_number_goes_farther_than_it_may(self, scale):
        view, before = told(scale=scale)
        with torch.no_grad():
            found = loud(made(), 1e3)(view, before, 0)
        assert bool(found.isfinite().all())
        assert float(found[:, :SIX].abs().max()) == pytest.approx(FARTHEST)

    def test_gradients_reach_everything(self):
        view, before = told()
        before.requires_grad_()
        network = made(depth=3)
        network(view, before, 2).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name
        assert before.grad is not None
        assert float(before.grad.abs().min()) > 0
        used = network.code.weight.grad.abs().amax(1) > 0
        assert used.tolist() == [False, False, True, False]

    @pytest.mark.parametrize("name", ["hidden", "depth", "stages"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, True, "8", None, 10**6, float("nan")])
    def test_refuses_wrong_options(self, name, value):
        with pytest.raises(ArgumentError, match=f"^{name} is a whole number from 1 to"):
            MixturePredictor(**{name: value})

    @pytest.mark.parametrize(
        "options", [{"hidden": 1, "depth": 1, "stages": 1}, {"hidden": 5, "depth": 8, "stages": 64}]
    )
    def test_takes_the_least_and_the_most(self, options):
        view, before = told()
        assert made(**options)(view, before, 63).shape == (9, CHANGE)


class TestShares:
    def test_the_usual_ones(self):
        assert checked_shares(SHARES) == SHARES
        assert checked_shares([0.25, 1]) == (0.25, 1)

    @pytest.mark.parametrize(
        "wrong",
        [
            (), [], None, 5, "1", {1.0}, (0.0, 1.0), (-0.5, 1.0), (1.0, 0.5), (0.6, 0.5, 1.0), (0.5,), (0.5, 1.5),
            (1.0,) * 65, (True,), ("a", 1.0), (None, 1.0), (float("nan"), 1.0), (1.0, float("nan")), ((0.5,), 1.0),
        ],
    )  # fmt: skip
    def test_refused(self, wrong):
        with pytest.raises(ArgumentError, match=r"shares .* must"):
            checked_shares(wrong)

    @pytest.mark.parametrize(
        ("experts", "shares", "expected"),
        [
            (10, (1.0,), [10]),
            (10, (0.25, 0.5, 1.0), [3, 5, 10]),
            (1, (0.1, 0.5, 1.0), [1, 1, 1]),
            (3, (0.01, 0.99, 1.0), [1, 3, 3]),
            (1000, (0.001, 1.0), [1, 1000]),
        ],
    )
    def test_numbers_of_kernels(self, experts, shares, expected):
        assert totals(experts, shares) == expected

    @pytest.mark.parametrize("experts", [1, 2, 37, 200])
    @pytest.mark.parametrize("shares", [(1.0,), (0.6, 1.0, 1.0), (0.1, 0.5, 1.0)])
    def test_stages_have_as_many(self, experts, shares):
        with torch.no_grad():
            sizes = [len(stage.kernels) for stage in walk(made(), waves(), experts, shares=shares)]
        assert sizes == [*totals(experts, shares), experts]

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 7)])
    def test_small_pictures(self, size):
        picture = dice().random((3, *size), dtype=np.float32)
        with torch.no_grad():
            last = walk(loud(made()), picture, 9, shares=(0.5, 1.0))[-1]
        assert len(last.kernels) == 9
        assert all(bool(getattr(last.kernels, name).isfinite().all()) for name in PARTS)
        assert np.isfinite(last.bent.error)

    def test_a_picture_of_one_colour(self):
        with torch.no_grad():
            *_, last = walk(zeroed(made()), np.full((3, 20, 30), 0.25, np.float32), 12, shares=(0.5, 1.0))
        assert last.bent.error < 1e-9
        assert last.psnr == pytest.approx(120.0)


class TestError:
    def stage(self, picture, experts=40):
        """Kernels some way into a prediction, as leaves."""
        with torch.no_grad():
            kernels = walk(loud(made()), picture, experts, shares=(1.0,))[-1].kernels
        kernels = replace(kernels, **{name: getattr(kernels, name).clone().requires_grad_() for name in PARTS})
        return Stage(kernels=kernels, bent=compared(kernels, picture, 1))

    def test_is_the_squared_error(self):
        picture = waves()
        stage = self.stage(picture)
        with torch.no_grad():
            assert float(stage.error) == pytest.approx(float(exact_error(stage.kernels, picture)), rel=2e-3)
        assert stage.psnr == pytest.approx(-10 * np.log10(stage.bent.error / picture.size))

    def test_its_gradient_equals_that_by_the_definition(self):
        picture = waves()
        stage = self.stage(picture)
        stage.error.backward()
        exact = [getattr(stage.kernels, name).detach().double().requires_grad_() for name in PARTS]
        exact_error(replace(stage.kernels, **dict(zip(PARTS, exact, strict=True))), picture).backward()
        for name, leaf in zip(PARTS, exact, strict=True):
            found = getattr(stage.kernels, name).grad.double()
            assert float((found - leaf.grad).norm()) < 2e-2 * float(leaf.grad.norm()), name

    @pytest.mark.parametrize("name", PARTS)
    def test_its_gradient_equals_finite_differences(self, name):
        """Of the exact picture, along a few directions."""
        picture = waves(20, 28)
        stage = self.stage(picture, 12)
        stage.error.backward()
        leaf = getattr(stage.kernels, name)
        for seed in range(3):
            along = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            errors = []
            for step in (1e-6, -1e-6):
                there = replace(stage.kernels, **{name: leaf.detach().double() + step * along})
                errors.append(float(exact_error(there, picture).detach()))
            slope = (errors[0] - errors[1]) / 2e-6
            allowed = 1e-2 * float(leaf.grad.norm() * along.norm())
            assert float((leaf.grad * along).sum()) == pytest.approx(slope, abs=allowed)

    def test_what_is_made_of_it_scales_its_gradient(self):
        picture = waves()
        stage = self.stage(picture)
        torch.log(stage.error / picture.size).backward()
        scale = 1 / stage.bent.error
        slope = torch.from_numpy(stage.bent.slope)
        torch.testing.assert_close(stage.kernels.colours.grad, slope[:, SIX:] * scale)
        torch.testing.assert_close(stage.kernels.log_priors.grad, slope[:, 5] * scale)
        torch.testing.assert_close(stage.kernels.factors.grad, slope[:, 2:5] * scale)
        torch.testing.assert_close(stage.kernels.centres.grad, slope[:, :2] * scale)


class TestStages:
    def test_the_first_is_the_start_of_a_fit(self):
        first, *_ = walk(made(), waves(), shares=(1.0,))
        expected = begun(waves(), 60, dice())
        assert all(torch.equal(getattr(first.kernels, name), getattr(expected, name)) for name in PARTS)
        assert not first.error.requires_grad

    def test_one_that_says_nothing_improves_every_time(self):
        with torch.no_grad():
            dbs = [stage.psnr for stage in walk(zeroed(made()), waves(), shares=(1.0,) * 3)]
        assert all(b > a + 0.3 for a, b in itertools.pairwise(dbs)), dbs

    def test_what_they_draw_is_what_they_hold(self):
        picture = waves()
        with torch.no_grad():
            for stage in walk(made(), picture, shares=(0.5, 1.0)):
                again = compared(stage.kernels, picture, 1)
                assert np.array_equal(again.left, stage.bent.left)
                assert again.error == stage.bent.error
        assert MARGIN == 8.0  # that of a fit

    def test_each_goes_on_from_the_last(self):
        picture, network = waves(), loud(made())
        with torch.no_grad():
            found = walk(network, picture, shares=(1.0,) * 3)
            for number, (before, after) in enumerate(itertools.pairwise(found)):
                kernels = advanced(network, before.kernels, picture, before.bent, number, 1)
                assert all(torch.equal(getattr(kernels, name), getattr(after.kernels, name)) for name in PARTS)
                assert torch.equal(kernels.change, after.kernels.change)

    def test_those_that_came_before_stay_when_more_come(self):
        picture, network = waves(), made()
        with torch.no_grad():
            first, second, _ = walk(network, picture, shares=(0.5, 1.0))
            kept = advanced(network, first.kernels, picture, first.bent, 0, 1)
        assert len(first.kernels) == 30
        assert all(torch.equal(getattr(second.kernels, name)[:30], getattr(kept, name)) for name in PARTS)
        assert torch.equal(second.kernels.change[:30], kept.change)

    def test_the_same_seed_gives_the_same_bytes(self):
        network, picture = made(), waves()
        with torch.no_grad():
            one, again, threads, other = (
                walk(network, picture, seed=seed, threads=threads, shares=(0.5, 1.0))[-1].kernels
                for seed, threads in ((1, 1), (1, 1), (1, 3), (2, 1))
            )
        for name in PARTS:
            assert torch.equal(getattr(one, name), getattr(again, name))
            assert torch.equal(getattr(one, name), getattr(threads, name))
        assert not torch.equal(one.centres, other.centres)


class TestLearning:
    def learn(self, network, stage):
        network.zero_grad()
        stage.error.backward(retain_graph=True)

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("shares", [(1.0,) * 3, (0.4, 0.7, 1.0)])
    def test_every_parameter_gets_a_gradient_from_each_stage(self, together, shares):
        network = made()
        _, *later = walk(network, waves(), shares=shares, together=together)
        for number, stage in enumerate(later):
            self.learn(network, stage)
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None, (name, number)
                assert bool(parameter.grad.isfinite().all()), (name, number)
                assert float(parameter.grad.abs().max()) > 0, (name, number)

    @pytest.mark.parametrize("together", [True, False])
    def test_later_stages_teach_earlier_ones_where_all_learn_together(self, together):
        network = made(stages=3)
        last = walk(network, waves(), shares=(1.0,) * 3, together=together)[-1]
        self.learn(network, last)
        taught = network.code.weight.grad.abs().amax(1) > 0
        assert taught.tolist() == ([True] * 3 if together else [False, False, True])

    def test_learning_apart_changes_nothing_that_is_drawn(self):
        network = made()
        one, other = (walk(network, waves(), shares=(0.5, 1.0), together=value)[-1] for value in (True, False))
        assert np.array_equal(one.bent.left, other.bent.left)

    @pytest.mark.parametrize("name", ["last.bias", "last.weight", "first.weight", "code.weight"])
    def test_one_stage_falls_along_its_gradient(self, name):
        """What kernels are told in the first stage does not depend on the network: the gradient is all there is."""
        picture, network = waves(), loud(made(), 3.0)
        parameter = dict(network.named_parameters())[name]
        self.learn(network, walk(network, picture, shares=(1.0,))[-1])
        along = parameter.grad / parameter.grad.norm()
        at, step, errors = parameter.detach().clone(), 2e-3, []
        with torch.no_grad():
            for way in (1, -1):
                parameter.copy_(at + way * step * along)
                errors.append(float(exact_error(walk(network, picture, shares=(1.0,))[-1].kernels, picture)))
        slope = (errors[0] - errors[1]) / (2 * step)
        assert float(parameter.grad.norm()) == pytest.approx(slope, rel=2e-2)

    def test_what_later_stages_draw_falls_along_the_gradient_of_all(self):
        """Beside what is told anew in each stage, which no gradient runs through, and is held fixed here."""
        picture, network = waves(), loud(made(), 3.0)
        views, stage = self.carried(network, picture)
        self.learn(network, stage)
        parameter = network.last.bias
        at, step, errors = parameter.detach().clone(), 2e-3, []
        with torch.no_grad():
            for way in (1, -1):
                parameter.copy_(at + way * step * parameter.grad / parameter.grad.norm())
                _, there = self.carried(network, picture, views)
                errors.append(float(exact_error(there.kernels, picture)))
        slope = (errors[0] - errors[1]) / (2 * step)
        assert float(parameter.grad.norm()) == pytest.approx(slope, rel=2e-2)

    def test_stages_carry_the_gradients_of_those_before(self):
        """As two changes one after the other do, by hand."""
        picture, network = waves(), loud(made(), 3.0)
        self.learn(network, self.carried(network, picture)[1])
        by_hand = [parameter.grad.clone() for parameter in network.parameters()]
        self.learn(network, walk(network, picture, 40, shares=(1.0,) * 2)[-1])
        for parameter, expected in zip(network.parameters(), by_hand, strict=True):
            torch.testing.assert_close(parameter.grad, expected)

    def carried(self, network, picture, views=()):
        """Two stages by hand, which may be told what was found before instead of anew."""
        kernels, held = begun(picture, 40, dice()), list(views)
        for number in range(2):
            if not views:
                held.append(view(kernels.packed(), kernels.change, picture, compared(kernels, picture, 1), 1))
            kernels = moved(kernels, network(held[number], kernels.change, number))
        return held, Stage(kernels=kernels, bent=compared(kernels, picture, 1))


class TestColoured:
    def test_is_better_and_leaves_the_kernels(self):
        picture = waves()
        before = begun(picture, 50, dice())
        after = coloured(before, picture, 4, 1)
        assert compared(after, picture, 1).error < 0.7 * compared(before, picture, 1).error
        assert all(torch.equal(getattr(after, name), getattr(before, name)) for name in (*PARTS[:3], "change"))

    def test_no_steps_change_nothing(self):
        before = begun(waves(), 50, dice())
        assert torch.equal(coloured(before, waves(), 0, 1).colours, before.colours)

    def test_threads_do_not_change_a_byte(self):
        before = begun(waves(), 50, dice())
        assert torch.equal(coloured(before, waves(), 3, 1).colours, coloured(before, waves(), 3, 4).colours)
