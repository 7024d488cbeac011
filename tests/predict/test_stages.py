"""Stages: exact numbers of kernels, a fresh network is the start of a fit, and every gradient reaches the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture import colours as closed
from moesaic.mixture.fit import FitConfig, Fitting
from moesaic.mixture.observed import Pixels
from moesaic.mixture.reference import render
from moesaic.predict.network import MAPS, OWN, MixturePredictor
from moesaic.predict.shapes import COLOUR, RAW
from moesaic.predict.stages import changed, coloured, halvings, placed, sloped, stages, totals
from moesaic.predict.teacher import optimised
from moesaic.predict.use import mixture_of, predict
from moesaic.predict.views import at, maps, sampled, windows


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MixturePredictor(width=8, blocks=(1, 1, 1), hidden=16).eval()


@pytest.fixture
def picture():
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    planes = [0.5 + 0.4 * torch.sin(columns / (4 + c) + rows / (9 - 2 * c)) for c in range(3)]
    return torch.stack(planes)


def dice(seed=0):
    return np.random.default_rng(seed)


def squared(drawn, picture):
    return float((drawn - picture).square().mean())


@pytest.mark.parametrize("experts", [1, 2, 37, 200])
@pytest.mark.parametrize("shares", [(1.0,), (0.6, 1.0, 1.0), (0.1, 0.5, 1.0)])
def test_there_are_as_many_kernels_as_asked_for(network, picture, experts, shares):
    sizes = [len(kernels) for kernels, _ in stages(network, picture, experts, dice(), shares=shares)]
    assert sizes == totals(experts, shares)
    assert sizes[-1] == experts


def test_a_network_that_changes_nothing_is_the_start_of_a_fit(network, picture):
    with torch.no_grad():
        for parameter in network.change.parameters():
            parameter.zero_()
        (kernels, drawn), *_ = stages(network, picture, 60, dice(), shares=(1.0,), colours=0)
        fitting = Fitting(picture.numpy(), 0, 0, 1, None, FitConfig(), Pixels(picture.numpy()))
        fitting.place(60)
    assert len(fitting.packed.centres) == 60
    found = kernels.packed()
    np.testing.assert_allclose(found.geometry, fitting.packed.geometry, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.centres, fitting.packed.centres, atol=1e-4)
    assert bool(drawn.isfinite().all())


def test_what_is_drawn_is_the_mixture(network, picture):
    with torch.no_grad():
        *_, (kernels, drawn) = stages(network, picture, 30, dice())
    exact = render(mixture_of(kernels, picture, 0).to(dtype=torch.float64))
    assert float((drawn - exact).abs().max()) < 1e-4


def test_colours_in_closed_form_are_better_and_leave_the_kernels(network, picture):
    with torch.no_grad():
        kernels = placed(picture, None, None, 50, 0, dice())
        before = squared(kernels.drawn((56, 40)), picture)
        solved = coloured(kernels, picture, 4)
        assert squared(solved.drawn((56, 40)), picture) < 0.7 * before
        assert torch.equal(solved.raw, kernels.raw)


def test_every_parameter_gets_a_gradient_from_each_stage(network, picture):
    for number, (_, drawn) in enumerate(stages(network, picture, 50, dice())):
        network.zero_grad()
        (drawn - picture).square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, (name, number)
            assert bool(parameter.grad.isfinite().all()), (name, number)
            if "code" not in name:
                assert float(parameter.grad.abs().max()) > 0, (name, number)


def test_the_loss_at_solved_colours_falls_along_the_gradient(network, picture):
    """Variable projection: the gradient with the colours held fixed is that of the error at the best colours."""
    kernels = placed(picture, None, None, 20, 0, dice())
    direction = torch.randn(20, RAW, generator=torch.Generator().manual_seed(3))
    direction[:, COLOUR] = 0

    def error(step):
        moved = replace(kernels, raw=kernels.raw + step * direction)
        packed = moved.packed()
        best = closed.solve(packed, np.ascontiguousarray(picture.numpy()), steps=200, damping=0.0)
        return replace(moved, colours=torch.from_numpy(best))

    raw = kernels.raw.clone().requires_grad_()
    here = replace(error(0.0), raw=raw)
    (here.drawn((56, 40)) - picture).square().sum().backward()
    along = float((raw.grad * direction).sum())
    step = 4e-3
    errors = [float((error(s).drawn((56, 40)) - picture).square().sum()) for s in (-step, step)]
    assert along == pytest.approx((errors[1] - errors[0]) / (2 * step), rel=0.05)


def test_slopes_point_down(picture):
    kernels = coloured(placed(picture, None, None, 40, 0, dice()), picture, 4)
    found, drawn = sloped(kernels, picture)
    moved = replace(found, raw=found.raw + 0.02 * found.down[:, :RAW])
    assert squared(moved.drawn((56, 40)), picture) < squared(drawn, picture)
    assert float(found.down[:, :RAW].abs().max()) <= 1


def test_new_kernels_go_where_the_most_is_missing(picture):
    drawn = picture.clone()
    drawn[:, :, 40:] += 0.3
    kernels = placed(picture, drawn, placed(picture, None, None, 30, 0, dice()), 100, 1, dice())
    assert len(kernels) == 130
    assert float((kernels.places[30:, 0] > 38).float().mean()) > 0.9
    assert kernels.stage.tolist() == [0] * 30 + [1] * 100


def test_sparse_kernels_see_a_coarser_picture(network, picture):
    assert [halvings(n, 768 * 512) for n in (20_000, 9_830, 5_000, 2_000, 500)] == [0, 0, 0, 1, 2]
    with torch.no_grad():
        *_, (kernels, drawn) = stages(network, picture, 5, dice())
    assert len(kernels) == 5
    assert bool(drawn.isfinite().all())


def test_a_crop_is_treated_as_in_its_picture():
    """Nothing looks at the whole map: far from the cut, features are the same."""
    torch.manual_seed(1)
    network = MixturePredictor(width=8, blocks=(1, 1, 1), hidden=16).eval()
    shown = torch.rand(1, MAPS, 256, 256)
    with torch.no_grad():
        whole, part = network.look(shown, 0), network.look(shown[..., :192], 0)
    torch.testing.assert_close(whole[..., :8], part[..., :8])


def test_views(picture):
    kernels = placed(picture, None, None, 25, 0, dice())
    shown = maps(picture, None, kernels.places)
    assert shown.shape == (1, MAPS, 48, 64)
    assert float(shown[0, 6, :40, :56].sum()) == 25
    assert float(shown[0, 3:6].abs().max()) == 0
    points = torch.tensor([[0.5, 0.5], [3.5, 2.5], [-5.0, 100.0]])
    expected = torch.stack([picture[:, 0, 0], picture[:, 2, 3], picture[:, -1, 0]])
    torch.testing.assert_close(sampled(picture, points), expected, atol=1e-4, rtol=0)
    seen = windows(picture, picture, kernels.places, kernels.spacing).view(25, 25, 6)
    assert float(seen[:, 12].abs().max()) < 1e-5
    features = torch.arange(2.0 * 3).view(1, 2, 3)
    torch.testing.assert_close(at(features, torch.tensor([[4.0, 4.0], [20.0, 12.0]])), torch.tensor([[0.0], [5.0]]))


def test_a_teacher_improves_what_it_is_given(picture):
    kernels = coloured(placed(picture, None, None, 40, 0, dice()), picture, 4)
    wanted = optimised(kernels, picture, 20)
    taught = replace(kernels, raw=torch.cat([wanted, kernels.raw[:, COLOUR]], dim=1))
    better = coloured(taught, picture, 4).drawn((56, 40))
    assert squared(better, picture) < 0.8 * squared(kernels.drawn((56, 40)), picture)


def test_changes_are_added_to_what_was_there(network, picture):
    with torch.no_grad():
        kernels = placed(picture, None, None, 25, 0, dice())
        features = network.look(maps(picture, None, kernels.places), 0)[0]
        found = changed(network, features, picture, None, kernels, 0, 1)
        told = network.say(
            at(features, kernels.places), windows(picture, None, kernels.places, kernels.spacing), torch.zeros(25, OWN)
        )
    assert told.shape == found.raw.shape
    torch.testing.assert_close(found.colours - kernels.colours, found.raw[:, COLOUR])


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"width": 2.5}, {"blocks": (1, 2)}, {"blocks": 3}, {"hidden": -1}, {"stages": 0}, {"stages": 99}],
)
def test_wrong_networks(options):
    with pytest.raises(ArgumentError):
        MixturePredictor(**options)


def test_wrong_maps(network):
    with pytest.raises(ShapeError, match="multiples of 16"):
        network.look(torch.zeros(1, MAPS, 24, 32), 0)
    with pytest.raises(ArgumentError, match="stage"):
        network.look(torch.zeros(1, MAPS, 32, 32), 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (33, 17)])
def test_pictures_of_every_kind_and_size(network, channels, size):
    pixels = np.random.default_rng(0).random((*size, channels), dtype=np.float32)
    mixture = predict(pixels, experts=7, model=network)
    assert (len(mixture), mixture.channels, mixture.width, mixture.height) == (7, channels, size[1], size[0])
    assert bool(mixture.render().isfinite().all())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"experts": 0}, "experts"),
        ({"experts": 2.5}, "experts"),
        ({"experts": 10**9}, "experts"),
        ({"colours": -1}, "colours"),
        ({"seed": -1}, "seed"),
        ({"shares": ()}, "shares"),
        ({"shares": (1.0, 0.5)}, "shares"),
        ({"shares": (0.2, 0.4, 0.6, 1.0)}, "more stages than the 3"),
        ({"model": 5}, "a model is a name"),
    ],
)
def test_wrong_options(network, options, says):
    with pytest.raises(ArgumentError, match=says):
        predict(np.zeros((8, 8, 3), np.float32), **({"model": network} | options))
