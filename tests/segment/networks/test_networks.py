from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from moesaic.errors import ArgumentError, LimitError, ShapeError
from moesaic.routing.layer import RoutedConv2d
from moesaic.segment.networks import NETWORKS, make_network
from moesaic.segment.networks.network import Widths

THIN = {"enet": 1.0, "erfnet": 0.5, "unet": 0.1, "lraspp": 0.5, "deeplab": 0.1, "pspnet": 0.1}  # fast, same layers
every = pytest.mark.parametrize("name", NETWORKS)


def thin(name, classes=5, **arguments):
    return make_network(name, classes, **{"width": THIN[name]} | arguments)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@every
class TestEveryNetwork:
    @pytest.mark.parametrize("more", [(0, 0), (1, 13), (7, 0)])
    def test_logits_have_the_pictures_size(self, name, more):
        network = thin(name).eval()
        side = network.minimum
        with torch.no_grad():
            logits = network(torch.rand(2, 3, side + more[0], side + more[1]))
        assert logits.shape == (2, 5, side + more[0], side + more[1])
        assert logits.isfinite().all()

    def test_trains_on_one_picture_of_the_smallest_size(self, name):
        network = thin(name).train()
        network(torch.rand(1, 3, network.minimum, network.minimum)).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())

    @pytest.mark.parametrize("channels", [1, 4, 20])
    def test_takes_any_number_of_channels(self, name, channels):
        network = thin(name, channels=channels).eval()
        side = network.minimum
        with torch.no_grad():
            assert network(torch.rand(1, channels, side, side)).shape == (1, 5, side, side)
        with pytest.raises(ShapeError, match=rf"takes \(B, {channels}, H, W\)"):
            network(torch.rand(1, channels + 1, side, side))

    def test_refuses_what_is_too_small(self, name):
        network = thin(name)
        side = network.minimum
        with pytest.raises(ShapeError, match=f"at least {side}x{side}"):
            network(torch.rand(1, 3, side, side - 1))
        with pytest.raises(ShapeError, match="shape"):
            network(torch.rand(3, side, side))

    def test_repeats_the_border_up_to_a_multiple(self, name):
        network = thin(name).eval()
        m = network.multiple_of
        height, width = network.minimum + 1, network.minimum + m - 1
        x = torch.rand(1, 3, height, width)
        whole = pad(x, (0, 1, 0, m - 1), mode="replicate")
        with torch.no_grad():
            torch.testing.assert_close(network(x), network(whole)[..., :height, :width])

    def test_normalises_inside(self, name):
        network = thin(name).eval()
        side = network.minimum
        x = torch.rand(1, 3, side, side)
        with torch.no_grad():
            want = network(x)
            mean, std = network.mean.clone(), network.std.clone()
            network.mean.zero_()
            network.std.fill_(1.0)
            got = network((x - mean) / std)
        torch.testing.assert_close(got, want)
        assert {"mean", "std"} <= set(network.state_dict())

    def test_places_are_convolutions(self, name):
        network = thin(name)
        assert network.moe_place == network.moe_places[0]
        assert all(type(network.get_submodule(place)) is nn.Conv2d for place in network.moe_places)

    def test_every_place_can_be_a_mixture(self, name):
        side = NETWORKS[name](5, width=0.1).minimum + 50
        for place in thin(name).moe_places:
            network = thin(name, experts=3, grid=2, place=place)
            assert isinstance(network.get_submodule(place), RoutedConv2d)
            logits = network(torch.rand(2, 3, side, side))
            logits.mean().backward()
            assert logits.shape == (2, 5, side, side)
            assert network.get_submodule(place).experts.weight.grad is not None

    def test_channels_last_gives_the_same(self, name):
        network = thin(name).eval()
        x = torch.rand(2, 3, network.minimum, network.minimum)
        with torch.no_grad():
            want = network(x)
            got = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))

    def test_under_autocast(self, name):
        network = thin(name).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = network(torch.rand(1, 3, network.minimum, network.minimum))
        assert logits.isfinite().all()

    def test_begins_near_a_guess(self, name):
        network = thin(name, classes=11).train()
        with torch.no_grad():
            logits = network(torch.rand(2, 3, 64, 64))
        loss = nn.functional.cross_entropy(logits, torch.randint(11, (2, 64, 64)))
        assert loss < torch.tensor(11.0).log() + 0.6

    def test_size_grows_with_width_in_steps_below_two_percent(self, name):
        with torch.device("meta"):
            sizes = [parameters(NETWORKS[name](11, width=1 + step / 256)) for step in range(24)]
        assert all(a <= b < 1.02 * a for a, b in itertools.pairwise(sizes))  # so any size can be met within one percent


@pytest.mark.parametrize("name", ["enet", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "enet")])
def test_compiles_in_one_graph(name):
    torch.compiler.reset()
    network = thin(name).eval()
    x = torch.rand(1, 3, network.minimum + 3, network.minimum)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network, backend="eager", fullgraph=True)(x), network(x))


class TestPublishedCounts:
    """Against numbers that others published; the docstrings of the networks name them too."""

    @pytest.mark.parametrize(
        ("name", "classes", "channels", "options", "count"),
        [
            ("enet", 20, 3, {}, 364_376),  # "0.36 M", timosaemann/ENet
            ("erfnet", 20, 3, {}, 2_064_256),  # "2.07 M" with the second classifier, see below
            ("unet", 2, 1, {"base": 32}, 7_765_442),  # counted layer by layer in public for UNet++'s "7.76 M"
            ("unet", 2, 1, {}, 31_042_434),  # "31 M"
            ("lraspp", 21, 3, {}, 3_221_538),  # torchvision's lraspp_mobilenet_v3_large
            ("deeplab", 21, 3, {}, 40_352_181),
            ("pspnet", 21, 3, {}, 46_592_597),  # "46 M", qubvel/segmentation_models#130
        ],
    )
    def test_whole(self, name, classes, channels, options, count):
        with torch.device("meta"):
            assert parameters(NETWORKS[name](classes, channels=channels, **options)) == count

    def test_erfnet_with_the_second_classifier(self):
        with torch.device("meta"):
            network = NETWORKS["erfnet"](20)
        assert parameters(network) + 128 * 20 + 20 == 2_066_836  # Eromera/erfnet_pytorch keeps it in the network

    def test_resnet_50(self):
        with torch.device("meta"):
            backbones = [NETWORKS[name](21).backbone for name in ("deeplab", "pspnet")]
        classifier = 2048 * 1000 + 1000
        assert [parameters(b) + classifier for b in backbones] == [25_557_032] * 2  # torchvision's resnet50

    def test_deeplab_less_the_plus(self):
        with torch.device("meta"):
            network = NETWORKS["deeplab"](21)
        second_classifier = 1024 * 256 * 9 + 2 * 256 + 256 * 21 + 21
        plus = parameters(network.low) + parameters(network.refine[0])
        assert parameters(network) - plus + second_classifier == 42_004_074  # torchvision's deeplabv3_resnet50


class TestWidths:
    def test_one_leaves_counts_alone(self):
        widths = Widths(1.0)
        assert [widths(64), *(widths.spread(c) for c in (16, 32, 4))] == [64, 16, 32, 4]

    def test_spread_hands_on_what_rounding_owes(self):
        widths = Widths(1.02)
        counts = [widths.spread(32) for _ in range(20)]
        assert set(counts) == {32, 33}
        assert abs(sum(counts) - 20 * 32 * 1.02) < 1

    @pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
    def test_refuses(self, width):
        with pytest.raises(ArgumentError, match="width"):
            Widths(width)


class TestMakeNetwork:
    def test_the_seed_decides(self):
        before = torch.get_rng_state()
        first, again, other = (make_network("enet", 3, experts=2, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        assert not torch.equal(first.stem.weight, other.stem.weight)

    def test_dense_and_mixture_share_their_other_weights(self):
        dense, mixture = make_network("enet", 3), make_network("enet", 3, experts=4)
        place = mixture.moe_place
        shared = {name for name, _ in dense.named_parameters() if not name.startswith(place)}
        given = dict(mixture.named_parameters())
        assert all(torch.equal(p, given[name]) for name, p in dense.named_parameters() if name in shared)
        assert mixture.get_submodule(place).experts.kernels.shape == (4, 16, 16, 3, 3)

    def test_fresh_experts_differ_and_copies_do_not(self):
        fresh, copies = (
            make_network("enet", 3, experts=2, initial=initial).get_submodule("stage4.1.conv").experts.kernels
            for initial in ("fresh", "copy")
        )
        assert not torch.equal(fresh[0], fresh[1])
        assert torch.equal(copies[0], copies[1])

    def test_a_mixture_takes_channels_last(self):
        network = make_network("enet", 3, experts=2).to(memory_format=torch.channels_last)
        x = torch.rand(2, 3, 32, 32).to(memory_format=torch.channels_last)
        assert network(x).shape == (2, 3, 32, 32)

    def test_options_reach_the_network(self):
        assert make_network("unet", 2, options={"base": 4}).classifier.in_channels == 4
        assert not make_network("enet", 2, options={"unpool": False}).up4.unpool

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("enett", 3), "did you mean 'enet'.*erfnet"),
            (("zzz", 3), "choose one of enet, erfnet"),
            (("enet", 0), "classes 0"),
            (("enet", 2.0), "classes 2.0"),
            (("enet", True), "classes True"),
        ],
    )
    def test_refuses(self, arguments, text):
        with pytest.raises(ArgumentError, match=text):
            make_network(*arguments)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"channels": 0}, "channels 0"),
            ({"options": {"base": 4}}, "options .*base.* 'enet'"),
            ({"experts": 2, "k": 3}, "k"),
            ({"experts": 2, "place": "nowhere"}, "nowhere"),
        ],
    )
    def test_refuses_options(self, arguments, text):
        with pytest.raises(ArgumentError, match=text):
            make_network("enet", 3, **arguments)

    def test_refuses_a_base_of_nothing(self):
        with pytest.raises(ArgumentError, match="base 0"):
            make_network("unet", 3, options={"base": 0})


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"width": 1e9}, ArgumentError, "width 1000000000.0 must be a number above 0 and below 1000"),
        ({"width": "wide"}, ArgumentError, "width 'wide'"),
        ({"width": 900.0}, LimitError, r"not enough memory for enet with 2 classes, 3 channels, width 900\.0; lower"),
        ({"classes": 10**14}, LimitError, "not enough memory"),
        ({"channels": 10**15}, LimitError, "not enough memory"),
        ({"name": "unet", "options": {"base": 10**12}}, LimitError, "base 1000000000000; lower one of them"),
        ({"name": 5}, ArgumentError, "network 5 is unknown"),
        ({"options": 5}, ArgumentError, "options is a table"),
        ({"seed": "x"}, ArgumentError, "seed is a whole number"),
    ],
)
def test_networks_that_cannot_be(change, kind, says):
    with pytest.raises(kind, match=says):
        make_network(**({"name": "enet", "classes": 2} | change))


def test_bytes_are_no_pictures():
    with pytest.raises(ShapeError, match="divide bytes by 255"):
        make_network("enet", 2, width=0.1)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
