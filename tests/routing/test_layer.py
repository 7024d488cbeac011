"""Routed layers end to end: experts of unequal kind, gates that know positions, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing import (
    Balance,
    ConvExperts,
    ModuleExperts,
    RoutedConv2d,
    RoutedExperts,
    RoutedLayer,
    RoutedLinear,
    balance_loss,
    collect,
    make_gate,
    reference,
    sparsify,
)


@pytest.fixture
def x():
    return torch.randn(2, 3, 30, 34, generator=torch.Generator().manual_seed(0))


def unequal(grid: int | tuple[int, int] = (2, 3), k: int = 2, **options) -> RoutedExperts:
    """A cheap expert, a wide one and one that does nothing."""
    torch.manual_seed(0)
    modules = [
        nn.Conv2d(3, 3, 1),
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=2, dilation=2), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1)),
        nn.Identity(),
    ]
    return RoutedExperts(modules, make_gate("conv", 3, 3, k), grid, **options)


class TestUnequalExperts:
    def test_patches_are_what_each_expert_makes_of_the_whole_map(self, x):
        layer = unequal().train()
        assert layer.experts.halo == 3
        y = layer(x)
        torch.testing.assert_close(y, reference(x, layer.experts, layer.routing))
        assert layer.routing.grid == (2, 3)

    def test_a_halo_of_none_shows_at_the_borders_of_patches_alone(self, x):
        layer = unequal(k=3).train()
        near = copy.deepcopy(layer)
        near.experts.halo = 0
        wrong = ((near(x) - layer(x)).abs() > 1e-5).any(1).any(0)  # (H, W)
        assert wrong[14].any()  # rows 14 and 15 lie on either side of a border
        assert wrong[15].any()
        assert not wrong[:12, :8].any()  # 3 px and more from any border

    def test_all_of_them_train(self, x):
        layer = unequal(k=3).train()
        (layer(x).square().mean() + balance_loss(layer)).backward()
        assert all(p.grad.abs().max() > 0 for p in layer.parameters())

    def test_a_grid_of_one_routes_whole_pictures(self, x):
        layer = unequal(grid=1, k=1).train()
        y = layer(x)
        for picture in range(2):
            expert = int(layer.routing.chosen[picture, 0, 0])
            torch.testing.assert_close(y[picture], layer.experts.alone(expert, x)[picture])

    def test_an_expert_that_changes_the_size_is_refused(self, x):
        layer = RoutedExperts([nn.Conv2d(3, 3, 3)], make_gate("conv", 3, 1, 1), 2)
        with pytest.raises(ShapeError, match="experts keep the size of their map"):
            layer(x)

    def test_mixed_kernels_need_convolutions(self, x):
        with pytest.raises(ArgumentError, match="how='merged' needs convolutions"):
            unequal(how="merged")(x)


class TestPositions:
    @pytest.mark.parametrize(("shape", "grid"), [((2, 12, 6), 2), ((2, 12, 6), (1, 3)), ((2, 7, 8, 6), (3, 2))])
    def test_a_linear_layer_routed_by_position_alone(self, shape, grid):
        layer = sparsify(nn.Linear(6, 5), "", 3, 2, grid, gate="position", initial="fresh").train()
        x = torch.randn(shape)
        layer(x)
        first = collect(layer)[""]
        layer(-3 * x)
        assert torch.equal(collect(layer)[""].dense(), first.dense())
        assert torch.equal(first.dense()[0], first.dense()[1])

    def test_one_expert_for_each_run_of_tokens(self):
        layer = sparsify(nn.Linear(6, 5), "", 4, 1, 2, gate="position", initial="fresh")
        tokens = torch.randn(2, 8, 6)
        y = layer(tokens)
        for run in range(4):
            part = tokens[:, 2 * run : 2 * run + 2]
            kernel = layer.experts.kernels[run, :, :, 0, 0]
            torch.testing.assert_close(y[:, 2 * run : 2 * run + 2], part @ kernel.T + layer.experts.bias[run])


class TestRoutedLayer:
    def test_gate_and_bank_must_agree(self):
        bank = ConvExperts(4, 3, 3, (1, 1))
        for kind in (RoutedConv2d, RoutedLinear, RoutedLayer):
            with pytest.raises(ArgumentError, match="the gate chooses among 3 experts, the bank holds 4"):
                kind(bank, make_gate("linear", 3, 3, 1))
        with pytest.raises(ArgumentError, match="the gate chooses among 2 experts, the bank holds 1"):
            RoutedExperts([nn.Identity()], make_gate("uniform", 3, 2, 1))

    @pytest.mark.parametrize("how", ["fast", "", None])
    def test_an_unknown_form_of_dispatch_is_refused_at_once(self, how):
        with pytest.raises(ArgumentError, match="how is 'auto', 'reference', 'gather' or 'merged', not"):
            RoutedConv2d(ConvExperts(2, 3, 3, (1, 1)), make_gate("linear", 3, 2, 1), how=how)

    def test_a_grid_that_is_none_is_refused_at_once(self):
        with pytest.raises(ArgumentError, match="grid 0 has no places"):
            RoutedConv2d(ConvExperts(2, 3, 3, (1, 1)), make_gate("linear", 3, 2, 1), 0)

    def test_maps_of_other_channels_are_refused(self):
        layer = RoutedConv2d(ConvExperts(2, 3, 3, (1, 1)), make_gate("linear", 3, 2, 1), 1)
        with pytest.raises(ShapeError, match="3 channels, this one has 4"):
            layer(torch.zeros(1, 4, 6, 6))
        with pytest.raises(ShapeError, match=r"\(B, C, H, W\)"):
            layer(torch.zeros(3, 6, 6))

    def test_the_form_of_dispatch_does_not_change_the_result(self, x):
        layer = sparsify(nn.Conv2d(3, 4, 3, padding=1), "", 4, 2, 3, initial="fresh").eval()
        want = layer(x)
        for how in ("reference", "gather", "merged"):
            layer.how = how
            torch.testing.assert_close(layer(x), want)

    def test_a_control_replaces_the_decision_and_is_recorded(self, x):
        layer = unequal().train()
        layer(x)
        first = layer.routing
        layer.control = lambda routing: first
        layer(-x)
        assert layer.routing is first

    def test_says_what_it_is(self):
        text = repr(unequal(balance=Balance("entropy", 0.5), how="gather"))
        for part in ("grid=(2, 3)", "name='entropy', weight=0.5", "how='gather'", "ConvPool(experts=3, k=2)"):
            assert part in text

    def test_balance_is_the_switch_loss_unless_told_otherwise(self):
        assert unequal().balance == Balance("switch", 0.01)
        assert isinstance(unequal().experts, ModuleExperts)
