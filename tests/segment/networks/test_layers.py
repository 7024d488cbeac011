"""Details of single networks that a count of parameters does not show."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from moesaic.segment.networks import enet, erfnet, lraspp, pspnet
from moesaic.segment.networks.deeplab import DilatedPyramid
from moesaic.segment.networks.enet import PReLU
from moesaic.segment.networks.network import Widths
from moesaic.segment.networks.resnet import ResNet50


class TestENet:
    def test_prelu_is_torchs_own(self):
        ours, theirs = PReLU(4).double(), nn.PReLU(4).double()
        with torch.no_grad():
            slopes = torch.tensor([-0.5, 0.0, 0.25, 1.5], dtype=torch.float64)
            ours.weight.copy_(slopes)
            theirs.weight.copy_(slopes)
        x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
        g = torch.randn_like(x)
        results = []
        for layer in (ours, theirs):
            leaf = x.clone().requires_grad_()
            y = layer(leaf)
            results.append((y, *torch.autograd.grad(y, (leaf, layer.weight), g)))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)

    def test_dilated_and_asymmetric_convolutions_take_turns(self):
        network = enet(3)
        for stage in (network.stage2, network.stage3):
            kinds = [
                c.dilation[0] if isinstance(c, nn.Conv2d) else tuple(k.kernel_size for k in c)
                for c in (block.conv for block in stage)
            ]
            turn = ((5, 1), (1, 5))
            assert kinds == [1, 2, turn, 4, 1, 8, turn, 16]

    def test_dropout_of_the_encoder_alone(self):
        network = enet(3)
        rates = {n: m.p for n, m in network.named_modules() if isinstance(m, nn.Dropout2d)}
        assert {p for n, p in rates.items() if n.startswith(("down1", "stage1"))} == {0.01}
        assert {p for n, p in rates.items() if n.startswith(("down2", "stage2", "stage3"))} == {0.1}
        assert len(rates) == 5 + 9 + 8

    def test_unpooling_puts_values_where_the_maxima_were(self):
        up = enet(3).up5.eval()
        x, inner = torch.randn(1, 64, 4, 4), torch.randn(1, 16, 8, 8)
        _, places = torch.nn.functional.max_pool2d(inner, 2, return_indices=True)
        with torch.no_grad():
            branch = up.expand(up.after(up.conv(up.reduce(x))))
            shortcut = up.shortcut(x).flatten(2)
            want = branch.flatten(2).scatter_add(2, places.flatten(2), shortcut).relu().view(1, 16, 8, 8)
            torch.testing.assert_close(up(x, places), want)

    def test_without_unpooling_under_deterministic_algorithms(self):
        torch.use_deterministic_algorithms(True)
        try:
            enet(3, unpool=False)(torch.rand(1, 3, 16, 16)).mean().backward()
        finally:
            torch.use_deterministic_algorithms(False)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")  # of the exporter's own
    def test_exports_with_sizes_left_open(self, tmp_path):
        pytest.importorskip("onnxscript")
        runtime = pytest.importorskip("onnxruntime")
        network = enet(3, width=0.25).eval()
        sizes = {"x": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
        program = torch.onnx.export(
            network, (torch.rand(1, 3, 48, 64),), dynamo=True, dynamic_shapes=sizes, verbose=False
        )
        program.save(tmp_path / "enet.onnx")
        session = runtime.InferenceSession(tmp_path / "enet.onnx")
        for height, width in ((48, 64), (50, 77)):
            x = torch.rand(1, 3, height, width)
            (got,) = session.run(None, {"x": x.numpy()})
            with torch.no_grad():
                torch.testing.assert_close(torch.from_numpy(got), network(x), rtol=1e-4, atol=1e-5)


def test_erfnet_dilates_the_second_pair():
    network = erfnet(3)
    blocks = [(b.conv1.dilation, b.conv2.dilation, b.conv3.dilation, b.conv4.dilation) for b in network.stage2]
    assert blocks == [((1, 1), (1, 1), (d, 1), (1, d)) for d in (2, 4, 8, 16)] * 2


@pytest.mark.parametrize(
    ("stride", "dilations"),
    [
        (32, [{1}, {1}, {1}, {1}]),
        (16, [{1}, {1}, {1}, {1, 2}]),
        (8, [{1}, {1}, {1, 2}, {2, 4}]),
    ],
)
def test_resnet_turns_steps_into_dilations(stride, dilations):
    network = ResNet50(3, Widths(0.1), stride=stride).eval()
    with torch.no_grad():
        low, high = network(torch.rand(1, 3, 64, 96))
    assert low.shape[2:] == (16, 24)
    assert high.shape[2:] == (64 // stride, 96 // stride)
    assert [{block.middle.conv.dilation[0] for block in stage} for stage in network.stages] == dilations
    assert network.stages[3][0].middle.conv.dilation[0] == min(dilations[3])  # the first block steps as before


def test_mobilenet_hands_on_an_eighth_and_a_sixteenth():
    with torch.no_grad():
        low, high = lraspp(3).backbone.eval()(torch.rand(1, 3, 64, 96))
    assert low.shape == (1, 40, 8, 12)
    assert high.shape == (1, 960, 4, 6)


def test_lraspp_classifies_before_enlarging():
    network = lraspp(3).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        low, high = network.backbone((x - network.mean) / network.std)
        deep = network.deep(high) * torch.sigmoid(network.gate(adaptive_avg_pool2d(high, 1)))
        after = network.deep_classifier(interpolate(deep, scale_factor=2, mode="bilinear"))
        want = interpolate(network.low_classifier(low) + after, size=(64, 64), mode="bilinear")
        torch.testing.assert_close(network(x), want)


def test_psp_means_are_adaptive_pooling_where_grids_divide():
    pyramid = pspnet(3, width=0.05).pyramid.eval()
    x = torch.randn(2, pyramid.levels[0].conv.in_channels, 12, 18)
    with torch.no_grad():
        maps = [x]
        for level, grid in zip(pyramid.levels, (1, 2, 3, 6), strict=True):
            maps.append(interpolate(level(adaptive_avg_pool2d(x, grid)), size=(12, 18), mode="bilinear"))
        torch.testing.assert_close(pyramid(x), torch.cat(maps, 1), rtol=1e-4, atol=1e-4)


def test_dilated_pyramid_sees_the_global_mean():
    torch.manual_seed(0)  # some weights leave every rectifier of the branch shut
    pyramid = DilatedPyramid(8, 4).eval()
    x = torch.randn(1, 8, 40, 40)
    far = x.clone()
    far[:, :, -1, -1] += 100.0  # 39 px away, beyond the reach of 18
    with torch.no_grad():
        assert not torch.equal(pyramid(x)[..., 0, 0], pyramid(far)[..., 0, 0])
