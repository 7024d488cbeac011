from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing import ConvExperts, ModuleExperts
from moesaic.routing.experts import reach


class TestReach:
    @pytest.mark.parametrize(
        ("module", "pixels"),
        [
            (nn.Conv2d(1, 1, 1), 0),
            (nn.Conv2d(1, 1, 3), 1),
            (nn.Conv2d(1, 1, 3, dilation=4), 4),
            (nn.Conv2d(1, 1, (1, 7)), 3),
            (nn.Conv2d(1, 1, 4), 2),  # 1.5 rounded up
            (nn.Conv2d(1, 1, 2, dilation=3), 2),
            (nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(1, 1, 5, dilation=2))), 5),
            (nn.Identity(), 0),
        ],
        ids=str,
    )
    def test_adds_up_over_what_acts_in_sequence(self, module, pixels):
        assert reach(module) == pixels

    def test_is_as_far_as_a_pixel_moves_the_output(self):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=2, dilation=2), nn.Conv2d(2, 1, 5, padding=2))
        x = torch.zeros(1, 1, 21, 21)
        x[0, 0, 10, 10] = 1
        moved = (module(x) - module(torch.zeros_like(x)))[0, 0].abs() > 1e-8
        rows = moved.any(1).nonzero().flatten()
        assert (int(rows[0]), int(rows[-1])) == (10 - reach(module), 10 + reach(module))


class TestConvExperts:
    def test_each_expert_is_a_convolution_of_its_own(self, bank):
        x = torch.randn(2, 3, 7, 8)
        for j in range(4):
            want = functional.conv2d(x, bank.kernels[j], bank.bias[j], padding=1)
            torch.testing.assert_close(bank.alone(j, x), want)
        assert (bank.kernels[0] - bank.kernels[1]).abs().max() > 0.01

    def test_the_kernels_are_the_weight(self, bank):
        with torch.no_grad():
            bank.kernels[2].zero_()
        assert bank.weight.shape == (20, 3, 3, 3)
        assert (bank.weight[10:15] == 0).all()

    @pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
    def test_a_mixture_is_the_weighted_sum_of_kernels(self, bank, form):
        bank = copy.deepcopy(bank).to(memory_format=form)
        weights = torch.rand(2, 9, 4)
        kernels, constants = bank.mixed(weights)
        torch.testing.assert_close(kernels, torch.einsum("bpe,eoihw->bpoihw", weights, bank.kernels))
        torch.testing.assert_close(constants, weights @ bank.bias)

    def test_fresh_weights_are_drawn_as_torch_draws_a_convolution(self):
        torch.manual_seed(0)
        bank, layer = ConvExperts(64, 8, 8, (3, 3)), nn.Conv2d(8, 512, 3)
        assert abs(bank.weight.std() / layer.weight.std() - 1) < 0.05
        assert bank.weight.abs().max() <= 1 / 72**0.5
        assert bank.bias.abs().max() <= 1 / 72**0.5

    def test_what_it_cannot_read_is_refused(self, bank):
        for shape in ((3, 7, 7), (1, 4, 7, 7)):
            with pytest.raises(ShapeError, match=r"maps of shape \(B, 3, H, W\)"):
                bank.check(torch.zeros(shape))

    def test_without_constants(self):
        bank = ConvExperts(2, 3, 4, (1, 1), bias=False)
        assert bank.mixed(torch.rand(1, 2))[1] is None
        assert [name for name, _ in bank.named_parameters()] == ["weight"]


class TestModuleExperts:
    def test_the_halo_is_of_the_expert_that_sees_furthest(self):
        bank = ModuleExperts([nn.Identity(), nn.Conv2d(2, 2, 7, padding=3), nn.Conv2d(2, 2, 3, padding=1)])
        assert (bank.halo, bank.experts) == (3, 3)
        assert ModuleExperts(bank.bank, halo=5).halo == 5

    def test_an_expert_that_changes_the_size_is_refused(self):
        bank = ModuleExperts([nn.Identity(), nn.Conv2d(2, 2, 3)])
        with pytest.raises(ShapeError, match=r"expert 1 turned \(6, 6\) rows and columns into \(4, 4\)"):
            bank.alone(1, torch.zeros(1, 2, 6, 6))

    def test_what_is_no_map_is_refused(self):
        with pytest.raises(ShapeError, match=r"\(B, C, H, W\)"):
            ModuleExperts([nn.Identity()]).check(torch.zeros(2, 6, 6))

    def test_bad_arguments(self):
        with pytest.raises(ArgumentError, match="modules is empty: give at least one expert"):
            ModuleExperts([])
        with pytest.raises(ArgumentError, match="halo is a number of pixels from 0 up, not -2"):
            ModuleExperts([nn.Identity()], halo=-2)
