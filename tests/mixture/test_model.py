from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from moesaic.errors import ArgumentError, ShapeError
from moesaic.mixture.model import Mixture
from moesaic.mixture.render import gate_mass


def same(a, b):
    one, two = a._tensors(), b._tensors()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_properties(scatter):
    mixture = scatter(5, 30, 20, channels=2, order=1)
    assert (len(mixture), mixture.channels, mixture.order, mixture.dtype) == (5, 2, 1, torch.float64)
    assert mixture.device == torch.device("cpu")
    assert repr(mixture) == "Mixture(5 kernels, 2 channels, order 1, canvas 30x20, torch.float64, cpu)"
    assert scatter(5, 30, 20).order == 0


@pytest.mark.parametrize("name", ["centres", "factors", "log_priors", "colours", "slopes"])
@pytest.mark.parametrize("change", [lambda t: t[..., None], lambda t: t.sum(), lambda t: t[:, :1, None]])
def test_each_field_must_have_its_shape(scatter, name, change):
    mixture = scatter(5, 30, 20, order=1)
    tensor = getattr(mixture, name)
    with pytest.raises(ShapeError):
        replace(mixture, **{name: change(tensor if tensor.ndim > 1 else tensor[:, None])})


def test_numbers_of_kernels_must_agree(scatter):
    mixture = scatter(5, 30, 20)
    with pytest.raises(ShapeError, match=r"colours has shape \(4, 3\), \(5, 3\) is needed for 5 kernels"):
        replace(mixture, colours=mixture.colours[:4])


@pytest.mark.parametrize("channels", [0, 5])
def test_refuses_other_numbers_of_channels(scatter, channels):
    with pytest.raises(ShapeError, match="channels"):
        replace(scatter(5, 30, 20), colours=torch.zeros(5, channels, dtype=torch.float64))


def test_refuses_mixed_and_whole_number_types(scatter):
    mixture = scatter(5, 30, 20)
    with pytest.raises(ArgumentError, match="share one dtype"):
        replace(mixture, colours=mixture.colours.float())
    with pytest.raises(ArgumentError, match="floating point"):
        mixture.to(dtype=torch.int32)
    with pytest.raises(ArgumentError, match="share one dtype and one device"):
        replace(mixture, colours=mixture.colours.to("meta"))


@pytest.mark.parametrize("canvas", [{"width": 0}, {"height": -3}])
def test_refuses_an_empty_canvas(scatter, canvas):
    with pytest.raises(ArgumentError, match="canvas"):
        replace(scatter(5, 30, 20), **canvas)


def test_is_frozen(scatter):
    with pytest.raises(FrozenInstanceError):
        scatter(5, 30, 20).width = 3


def test_survives_pickling_and_copying(scatter):
    mixture = scatter(5, 30, 20, order=1)
    for other in (pickle.loads(pickle.dumps(mixture)), copy.deepcopy(mixture), copy.copy(mixture)):
        assert same(other, mixture)
        assert (other.width, other.height) == (30, 20)


class TestSelection:
    def test_slices_lists_and_masks_agree(self, scatter):
        mixture = scatter(5, 30, 20, order=1)
        wanted = [False, True, False, True, False]
        expected = mixture[torch.tensor(wanted)]
        assert len(expected) == 2
        assert torch.equal(expected.centres, mixture.centres[1::2])
        for which in (slice(1, None, 2), [1, 3], (1, 3), [-4, -2], torch.tensor([1, 3]), np.array([1, 3])):
            assert same(mixture[which], expected)

    def test_masks_of_other_kinds_are_masks(self, scatter):
        mixture = scatter(5, 30, 20)
        wanted = [False, True, False, True, False]
        assert same(mixture[np.array(wanted)], mixture[1::2])
        assert same(mixture[wanted], mixture[1::2])

    def test_nothing_chosen_is_an_empty_mixture(self, scatter):
        mixture = scatter(5, 30, 20)
        assert len(mixture[[]]) == len(mixture[:0]) == len(mixture[torch.zeros(5, dtype=torch.bool)]) == 0

    @pytest.mark.parametrize("which", [0, -1, True, np.int64(2), torch.tensor(2)])
    def test_one_position_is_refused(self, scatter, which):
        with pytest.raises(ArgumentError, match="one kernel"):
            scatter(5, 30, 20)[which]

    @pytest.mark.parametrize("which", [[5], [-6], torch.tensor([7]), torch.ones(4, dtype=torch.bool)])
    def test_out_of_range_is_refused(self, scatter, which):
        with pytest.raises(ArgumentError, match="5"):
            scatter(5, 30, 20)[which]

    def test_gradients_flow_to_what_was_chosen(self, scatter):
        mixture = scatter(5, 30, 20).requires_grad_()
        mixture[[3]].colours.sum().backward()
        assert mixture.colours.grad.sum(1).tolist() == [0, 0, 0, 3, 0]


class TestConversion:
    def test_to_keeps_what_fits(self, scatter):
        mixture = scatter(5, 30, 20, order=1)
        assert mixture.to(dtype=torch.float64).centres is mixture.centres
        single = mixture.to(dtype=torch.float32)
        assert {t.dtype for t in single._tensors().values()} == {torch.float32}
        assert mixture.to(device="meta").device.type == "meta"

    def test_detach_and_requires_grad(self, scatter):
        mixture = scatter(5, 30, 20, order=1)
        assert mixture.requires_grad_() is mixture
        assert all(t.requires_grad for t in mixture._tensors().values())
        assert not any(t.requires_grad for t in mixture.detach()._tensors().values())


class TestJoin:
    def test_undoes_a_division(self, scatter):
        mixture = scatter(5, 30, 20, order=1)
        assert same(Mixture.join([mixture[:2], mixture[2:2], mixture[2:]]), mixture)

    def test_needs_a_part(self):
        with pytest.raises(ArgumentError, match="at least one"):
            Mixture.join([])

    @pytest.mark.parametrize("other", [{"width": 31}, {"height": 21}, {"channels": 1}, {"order": 1}])
    def test_refuses_what_does_not_agree(self, scatter, other):
        with pytest.raises(ArgumentError, match="agree"):
            Mixture.join([scatter(2, 30, 20), scatter(2, **{"width": 30, "height": 20, **other})])


class TestImportance:
    def test_sorts_by_the_area_that_gates_own(self, scatter):
        mixture = scatter(12, 40, 30, sigmas=(2.0, 6.0))
        mass = gate_mass(mixture)
        ordered = mixture.sort_by_importance()
        again = gate_mass(ordered)
        assert bool((again[1:] <= again[:-1] + 1e-3).all())
        assert torch.equal(ordered.centres, mixture.centres[mass.argsort(descending=True)])

    def test_works_without_gradients(self, scatter):
        with torch.no_grad():
            assert len(scatter(4, 20, 10).sort_by_importance()) == 4
        with torch.inference_mode():
            assert len(scatter(4, 20, 10).sort_by_importance()) == 4


def test_render_is_a_method_too(scatter):
    mixture = scatter(4, 20, 10)
    assert mixture.render(size=(7, 5)).shape == (3, 5, 7)
    assert torch.equal(mixture.render(backend="reference"), mixture.render(backend="reference", scale=1.0))
