from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from moesaic.errors import ArgumentError, ShapeError
from moesaic.routing import ConvExperts, ModuleExperts, dispatch, gather, merged, reference
from moesaic.routing.dispatch import _choose
from moesaic.routing.grid import boxes
from tests.routing.conftest import forced_routing, make_routing

TOLERANCE = 1e-5

SHAPES = {  # what a bank is made of, and the map it reads
    "plain": ((4, 3, 5, (3, 3)), {"padding": (1, 1, 1, 1)}, (2, 3, 13, 11)),
    "one expert": ((1, 3, 5, (3, 3)), {"padding": (1, 1, 1, 1)}, (1, 3, 9, 9)),
    "1x1": ((4, 3, 2, (1, 1)), {}, (3, 3, 6, 7)),
    "5x5": ((3, 2, 4, (5, 5)), {"padding": (2, 2, 2, 2)}, (1, 2, 12, 9)),
    "dilated": ((3, 2, 4, (3, 3)), {"padding": (4, 4, 4, 4), "dilation": (4, 4)}, (2, 2, 12, 9)),
    "oblong": ((3, 2, 4, (1, 5)), {"padding": (0, 0, 2, 2)}, (1, 2, 8, 10)),
    "stride": ((3, 2, 4, (3, 3)), {"padding": (1, 1, 1, 1), "stride": (2, 2)}, (2, 2, 13, 14)),
    "uneven stride": ((3, 2, 4, (3, 2)), {"padding": (1, 0, 0, 1), "stride": (3, 1)}, (1, 2, 20, 9)),
    "depthwise": ((3, 4, 4, (3, 3)), {"padding": (1, 1, 1, 1), "groups": 4}, (2, 4, 9, 9)),
    "groups": ((3, 4, 6, (3, 3)), {"padding": (1, 1, 1, 1), "groups": 2, "bias": False}, (2, 4, 9, 10)),
    "no padding": ((3, 2, 4, (3, 3)), {}, (2, 2, 11, 9)),
    "reflect": ((3, 2, 4, (3, 3)), {"padding": (1, 1, 1, 1), "padding_mode": "reflect"}, (2, 2, 9, 9)),
    "circular": ((3, 2, 4, (3, 3)), {"padding": (1, 1, 1, 1), "padding_mode": "circular"}, (2, 2, 9, 9)),
    "smallest map": ((3, 2, 4, (3, 3)), {"padding": (1, 1, 1, 1)}, (1, 2, 3, 3)),
    "channels of a long loop": ((2, 130, 3, (1, 1)), {}, (2, 130, 4, 4)),
}


def results(x, experts, routing, how):
    """The output and the gradient of everything that has one, under a loss that weighs every pixel differently."""
    x = x.clone().requires_grad_()
    leaves = [x, routing.weights, *experts.parameters()]
    y = dispatch(x, experts, routing, how=how)
    loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum() + (y**2).sum()
    return y, [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True)
    ]


def assert_same(got, want):
    scale = max(1.0, want.abs().max().item())
    assert (got - want).abs().max().item() <= TOLERANCE * scale


@pytest.mark.parametrize("grid", [(1, 1), (3, 3), (2, 3)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 2, 99])
def test_three_ways_agree_in_value_and_every_gradient(shape, grid, k):
    torch.manual_seed(1)
    sizes, options, x_shape = SHAPES[shape]
    experts, x = ConvExperts(*sizes, **options).double(), torch.randn(x_shape, dtype=torch.float64)
    routing = make_routing(x_shape[0], sizes[0], min(k, sizes[0]), grid, dtype=torch.float64)
    want, want_gradients = results(x, experts, routing, "reference")
    for how in ("gather", "merged", "auto"):
        got, gradients = results(x, experts, routing, how)
        assert_same(got, want)
        for gradient, expected in zip(gradients, want_gradients, strict=True):
            assert_same(gradient, expected)


@pytest.mark.parametrize("how", ["gather", "merged"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_they_agree_in_float32_and_without_gradients(bank, how, form):
    x = torch.randn(2, 3, 17, 19).to(memory_format=form)
    routing = make_routing(2, 4, 2, (3, 3))
    want, _ = results(x, bank, routing, "reference")
    got, _ = results(x, bank, routing, how)
    assert_same(got, want)
    with torch.no_grad():
        assert_same(dispatch(x, bank, routing, how=how), want)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("pictures", "channels"), [(1, 16), (2, 16), (1, 128), (2, 128)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_every_form_of_merged_equals_the_reference_in_use(pictures, channels, k, form):
    """Without gradients a CPU has a way of its own for large kernels."""
    torch.manual_seed(3)
    experts = ConvExperts(4, channels, channels, (3, 3), padding=(1, 1, 1, 1)).to(memory_format=form)
    x = torch.randn(pictures, channels, 13, 10).to(memory_format=form)
    routing = make_routing(pictures, 4, k, (3, 2))
    with torch.no_grad():
        assert_same(merged(x, experts, routing), reference(x, experts, routing))
    narrow = ConvExperts(4, 4, 6, (3, 5), padding=(0, 2, 1, 0), stride=(2, 1), groups=2, bias=False)
    x = torch.randn(pictures, 4, 17, 12).to(memory_format=form)
    with torch.no_grad():
        assert_same(merged(x, narrow, routing), reference(x, narrow, routing))


@pytest.mark.parametrize("how", ["reference", "gather", "merged"])
def test_extreme_inputs(bank, how):
    routing = make_routing(1, 4, 2, (3, 3))
    for factor in (0.0, 1e-30, 1e6):
        x = torch.randn(1, 3, 9, 9) * factor
        want = reference(x, bank, routing)
        assert_same(dispatch(x, bank, routing, how=how), want)
    x = torch.zeros(1, 3, 9, 9)
    x[0, :, 0, 0] = float("nan")  # a broken pixel stays in the patches that see it
    y = dispatch(x, bank, routing, how="merged" if how == "reference" else how)
    assert y[:, :, 4:, 4:].isfinite().all()


def test_the_reference_equals_a_double_loop(bank):
    x, routing = torch.randn(2, 3, 8, 7), make_routing(2, 4, 2, (3, 2))
    expected = torch.zeros(2, 5, 8, 7)
    for picture in range(2):
        for place, (top, bottom, left, right) in enumerate(boxes(8, 7, (3, 2))):
            for slot in range(2):
                expert = routing.chosen[picture, place, slot]
                y = functional.conv2d(x[picture], bank.kernels[expert], bank.bias[expert], padding=1)
                weight = routing.weights[picture, place, slot]
                expected[picture, :, top:bottom, left:right] += weight * y[:, top:bottom, left:right]
    assert_same(reference(x, bank, routing), expected)


@pytest.mark.parametrize("how", ["reference", "gather", "merged"])
def test_two_groups_of_three_places_by_hand(how):
    """Experts that multiply by 1, 10 and 100; the expected map is written out."""
    experts = ConvExperts(3, 1, 1, (1, 1), bias=False)
    with torch.no_grad():
        experts.weight.copy_(torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1))
    x = torch.tensor([[[[1.0, 2.0, 3.0]]], [[[4.0, 5.0, 6.0]]]])  # two pictures of one row
    chosen = torch.tensor([[[0, 1], [1, 2], [2, 0]], [[0, 2], [0, 2], [1, 0]]])
    weights = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]], [[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]])
    routing = forced_routing(chosen, weights, 3, (1, 3))
    expected = torch.tensor([[[[5.5, 38.0, 300.0]]], [[[301.0, 252.5, 6.0]]]])
    assert torch.allclose(dispatch(x, experts, routing, how=how), expected)


@pytest.mark.parametrize("how", ["reference", "gather", "merged"])
@pytest.mark.parametrize("shape", SHAPES)
def test_identical_experts_equal_the_plain_convolution(shape, how):
    """The key test: no seam at patch borders, whatever kernel, dilation, stride and padding."""
    sizes, options, x_shape = SHAPES[shape]
    experts = ConvExperts(*sizes, **options)
    with torch.no_grad():
        experts.kernels.copy_(experts.kernels[:1].clone().expand_as(experts.kernels))
        if experts.bias is not None:
            experts.bias.copy_(experts.bias[:1].clone().expand_as(experts.bias))
    x = torch.randn(x_shape)
    routing = make_routing(x_shape[0], sizes[0], min(2, sizes[0]), (3, 3))
    assert torch.allclose(dispatch(x, experts, routing, how=how), experts.alone(0, x), atol=1e-5)


def modules() -> ModuleExperts:
    torch.manual_seed(2)
    return ModuleExperts(
        [
            nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=2, dilation=2)),
            nn.Conv2d(3, 3, 5, padding=2),
            nn.Identity(),
        ]
    )


@pytest.mark.parametrize("size", [(12, 14), (5, 4), (40, 31)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_experts_of_any_kind_and_cost(size, k):
    experts, routing = modules().double(), make_routing(2, 3, k, (2, 3), dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    want, want_gradients = results(x, experts, routing, "reference")
    got, gradients = results(x, experts, routing, "gather")
    assert_same(got, want)
    for gradient, expected in zip(gradients, want_gradients, strict=True):
        assert_same(gradient, expected)
    assert_same(dispatch(x, experts, routing), want)


def test_the_halo_of_modules_follows_their_convolutions():
    assert modules().halo == 3
    with pytest.raises(ArgumentError, match="halo"):
        ModuleExperts([nn.Identity()], halo=-1)
    with pytest.raises(ArgumentError, match="modules is empty"):
        ModuleExperts([])


def test_a_halo_too_small_shows_at_the_borders():
    experts = modules()
    small = ModuleExperts(experts.bank, halo=0)
    x, routing = torch.randn(1, 3, 12, 12), make_routing(1, 3, 2, (2, 2))
    assert not torch.allclose(gather(x, small, routing), reference(x, experts, routing), atol=1e-3)


def test_an_expert_that_is_never_chosen_does_nothing_and_is_not_run(bank):
    class Explosive(nn.Module):
        def forward(self, x):
            raise RuntimeError("run")

    chosen = torch.zeros((1, 4, 1), dtype=torch.int64)
    routing = forced_routing(chosen, torch.ones(1, 4, 1), 2, (2, 2))
    x = torch.randn(1, 3, 6, 6)
    assert torch.equal(dispatch(x, ModuleExperts([nn.Identity(), Explosive()]), routing), x)


def test_gather_synchronises_once(bank, monkeypatch):
    calls = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: calls.append(1) or original(self))
    for name in ("item", "__bool__", "__int__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("another synchronisation"))
    gather(torch.randn(2, 3, 9, 9), bank, make_routing(2, 4, 2, (3, 3)))
    assert len(calls) == 1


def test_merged_never_synchronises(bank, monkeypatch):
    for name in ("item", "__bool__", "__int__", "nonzero", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda self: pytest.fail("a synchronisation"))
    merged(torch.randn(2, 3, 9, 9), bank, make_routing(2, 4, 2, (3, 3)))


def test_auto_follows_the_shapes(bank):
    routing = make_routing(1, 4, 2, (3, 3))
    assert _choose(torch.zeros(1, 3, 90, 90), bank, routing) == "merged"
    assert _choose(torch.zeros(1, 3, 6, 6), bank, routing) == "gather"
    assert _choose(torch.zeros(1, 3, 90, 90), modules(), routing) == "gather"


def test_bad_input(bank):
    routing = make_routing(2, 4, 2, (3, 3))
    with pytest.raises(ArgumentError, match="how is 'auto'"):
        dispatch(torch.zeros(2, 3, 9, 9), bank, routing, how="fast")
    with pytest.raises(ShapeError, match=r"\(B, 3, H, W\)"):
        dispatch(torch.zeros(2, 4, 9, 9), bank, routing)
    with pytest.raises(ShapeError, match="2 pictures and 4 experts"):
        dispatch(torch.zeros(1, 3, 9, 9), bank, routing)
    with pytest.raises(ShapeError, match="grid"):
        dispatch(torch.zeros(2, 3, 2, 9), bank, routing)
    with pytest.raises(ArgumentError, match="merged"):
        dispatch(torch.zeros(2, 3, 9, 9), modules(), make_routing(2, 3, 2, (3, 3)), how="merged")
    with pytest.raises(ShapeError, match="keep the size"):
        dispatch(torch.zeros(2, 3, 9, 9), ModuleExperts([nn.Conv2d(3, 3, 3)]), make_routing(2, 1, 1, (3, 3)))


@pytest.mark.gpu
def test_merged_captures_in_a_cuda_graph(bank):
    bank, x = bank.cuda(), torch.randn(2, 3, 18, 18, device="cuda")
    routing = make_routing(2, 4, 2, (3, 3))
    routing = type(routing)(
        **{name: getattr(routing, name).detach().cuda() for name in ("weights", "chosen", "probabilities", "logits")},
        grid=routing.grid,
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                merged(x, bank, routing)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = merged(x, bank, routing)
            graph.replay()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert torch.allclose(y, reference(x, bank, routing), atol=1e-4)
