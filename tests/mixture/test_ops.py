from __future__ import annotations

import pytest
import torch

from moesaic.mixture import ops, reference
from moesaic.mixture.backends.cover import exact_margin
from moesaic.mixture.render import draw, render


def arguments(mixture, size=(21, 18), *, grad=True):
    """What `blend` takes, as leaves."""
    experts = mixture.colours
    if mixture.slopes is not None:
        experts = torch.cat([experts, mixture.slopes.flatten(1)], dim=1)
    tensors = [mixture.centres, mixture.factors.float(), mixture.log_priors.float(), experts.float()]
    lists = ops.cover(*tensors[:3], *size, exact_margin(len(mixture)))
    leaves = [t.clone().requires_grad_(grad) for t in tensors]
    return leaves, lists, size


class TestOpcheck:
    def test_cover(self, scatter):
        leaves, _, size = arguments(scatter(6, 21, 18), grad=False)
        torch.library.opcheck(ops.cover, (*leaves[:3], *size, 12.0))

    @pytest.mark.parametrize("order", [0, 1])
    def test_blend(self, scatter, order):
        leaves, lists, size = arguments(scatter(6, 21, 18, order=order))
        torch.library.opcheck(ops.blend, (*leaves, *lists, *size, order))

    @pytest.mark.parametrize("order", [0, 1])
    def test_blend_backward(self, scatter, order):
        leaves, lists, size = arguments(scatter(6, 21, 18, order=order), grad=False)
        picture, sums = ops.blend(*leaves, *lists, *size, order)
        torch.library.opcheck(ops.blend_backward, (torch.ones_like(picture), picture, sums, *leaves, *lists, order))


class TestCompile:
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own, where graphs break
    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_drawing(self, scatter, backend):
        mixture = scatter(6, 21, 18)
        leaves, _, size = arguments(mixture)

        def loss(*tensors):
            return (draw(*tensors, *size, 0) ** 2).sum()

        torch.compiler.reset()
        plain = torch.autograd.grad(loss(*leaves), leaves)
        compiled = torch.autograd.grad(torch.compile(loss, backend=backend)(*leaves), leaves)
        for a, b in zip(plain, compiled, strict=True):
            torch.testing.assert_close(a, b)

    def test_in_one_graph(self, scatter):
        mixture = scatter(6, 21, 18)
        leaves, _, size = arguments(mixture, grad=False)
        torch.compiler.reset()
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            compiled = torch.compile(lambda *t: draw(*t, *size, 0) * 2, backend="eager", fullgraph=True)
            torch.testing.assert_close(compiled(*leaves), draw(*leaves, *size, 0) * 2)


def test_draws_leaves_and_gives_them_gradients(scatter):
    leaves, _, size = arguments(scatter(6, 21, 18))
    draw(*leaves, *size, 0).sum().backward()
    assert [tuple(t.grad.shape) for t in leaves] == [tuple(t.shape) for t in leaves]
    assert [t.grad.dtype for t in leaves] == [t.dtype for t in leaves]


@pytest.mark.parametrize("order", [0, 1])
def test_who_wants_no_gradient_gets_the_same_picture(scatter, order):
    leaves, _, size = arguments(scatter(6, 21, 18, order=order))
    wanted = draw(*leaves, *size, order)
    with torch.no_grad():
        plain = draw(*leaves, *size, order)
    assert wanted.requires_grad
    assert not plain.requires_grad
    assert torch.equal(plain, wanted)


def test_sums_of_weights_have_no_gradient(scatter):
    leaves, lists, size = arguments(scatter(6, 21, 18))
    picture, sums = ops.blend(*leaves, *lists, *size, 0)
    assert picture.requires_grad
    assert not sums.requires_grad


def test_gradients_of_expanded_and_transposed_pictures(scatter):
    mixture = scatter(6, 21, 18).to(dtype=torch.float32).requires_grad_()
    render(mixture).sum().backward()  # dL/dpicture is one number, expanded
    expected = mixture.colours.grad.clone()
    mixture.colours.grad = None
    render(mixture).permute(2, 1, 0).backward(torch.ones(21, 18, 3))
    torch.testing.assert_close(mixture.colours.grad, expected)


def test_only_some_parameters_may_ask_for_gradients(scatter):
    mixture = scatter(6, 21, 18).to(dtype=torch.float32)
    mixture.log_priors.requires_grad_()
    (slope,) = torch.autograd.grad(render(mixture)[0].square().sum(), mixture.log_priors)
    double = mixture.detach().to(dtype=torch.float64)
    double.log_priors.requires_grad_()
    (true,) = torch.autograd.grad(reference.render(double)[0].square().sum(), double.log_priors)
    torch.testing.assert_close(slope.double(), true, rtol=1e-3, atol=1e-4)
