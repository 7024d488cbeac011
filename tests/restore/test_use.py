"""restore() with small networks that were never trained, and with the shipped one where it is there."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import moesaic
from moesaic.degrade.batch import LABELS
from moesaic.errors import ArgumentError, BackendError, LimitError, ModelError, PictureError, ShapeError
from moesaic.image import read_picture
from moesaic.metrics import psnr
from moesaic.picture import Picture
from moesaic.registry import Registry
from moesaic.restore import use
from moesaic.restore.explanation import found_in_words
from moesaic.restore.models import DEFAULT_MODEL, registry
from moesaic.restore.network import MoceLite
from moesaic.restore.published import MoceIR
from moesaic.restore.use import restore
from moesaic.weights_file import Card, card_of, write_weights

OPTIONS = {"width": 8, "encoder": (1, 1, 1), "middle": 1}
CARD = Card(name="tiny", architecture="moce_lite", task="restore", options=OPTIONS, licence="CC0-1.0", data="nothing")


def tiny(seed: int = 0) -> MoceLite:
    """A small network that changes every picture by a few hundredths, and decides by what it sees."""
    torch.manual_seed(seed)
    network = MoceLite(**OPTIONS)
    with torch.no_grad():
        nn.init.normal_(network.head.weight, std=0.01)
        for layer in (network.film, network.tone):
            nn.init.normal_(layer.weight, std=0.02)
        for gate in network.gates():
            nn.init.normal_(gate.last.weight, std=2.0)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return tiny()


@pytest.fixture
def weights(tmp_path):
    write_weights(tmp_path / "tiny.safetensors", tiny().state_dict(), CARD)
    return tmp_path / "tiny.safetensors"


@pytest.fixture(scope="module")
def shipped():
    if DEFAULT_MODEL not in registry.names():
        pytest.skip("the weights are not there yet")
    return use.load_network()


def as_tensor(pixels: np.ndarray) -> torch.Tensor:  # (1, C, H, W)
    return torch.from_numpy(np.moveaxis(pixels, 2, 0).copy())[None]


def waves(height: int, width: int) -> np.ndarray:
    """A picture with something to see everywhere, (H, W, 3)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    bands = [np.sin(rows * a + columns * b) for a, b in ((0.05, 0.31), (0.4, 0.02), (0.11, -0.2))]
    return 0.5 + 0.4 * np.stack(bands, axis=2).astype(np.float32)


class TestPictures:
    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (17, 31), (16, 32), (100, 333)])
    def test_any_size_comes_back_as_the_network_makes_it(self, network, size):
        pixels = waves(*size)
        found = restore(pixels, network)
        with torch.no_grad():
            made = network(as_tensor(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found.picture.pixels, made, atol=1e-5)
        assert abs(made - pixels).max() > 0.005

    def test_long_pictures(self, network):
        assert restore(waves(1, 30_000), network).picture.pixels.shape == (1, 30_000, 3)

    def test_grey_stays_grey(self, network, photo):
        grey = photo[..., :1].copy()
        found = restore(grey, network).picture
        with torch.no_grad():
            made = network(as_tensor(grey.repeat(3, axis=2)))[0]
        assert found.channels == 1
        np.testing.assert_allclose(found.pixels[..., 0], made.mean(0).clamp(0, 1), atol=1e-5)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha_stays_and_colours_are_restored_as_they_show(self, network, photo, channels):
        alpha = np.linspace(0, 1, photo.shape[1], dtype=np.float32)[None, :, None].repeat(photo.shape[0], axis=0)
        colour = photo[..., : channels - 1]
        found = restore(Picture(pixels=np.concatenate([colour, alpha], axis=2)), network).picture
        np.testing.assert_array_equal(found.pixels[..., -1:], alpha)
        assert (found.pixels[:, 0, :-1] == 0).all()
        opaque = restore(colour * alpha, network).picture.pixels
        shown = found.pixels[..., :-1] * alpha
        np.testing.assert_allclose(shown, np.minimum(opaque, alpha), atol=1e-5)

    def test_16_bits_profile_and_metadata_stay(self, network, photo):
        held = Picture(pixels=photo, depth=16, icc=b"profile", exif=b"Exif\0\0note", xmp=b"<x/>")
        clear = replace(held, pixels=np.concatenate([photo, photo[..., :1]], axis=2))
        for picture in (held, clear):
            found = restore(picture, network).picture
            assert (found.depth, found.icc, found.exif, found.xmp) == (16, picture.icc, picture.exif, picture.xmp)

    def test_files(self, network, tmp_path):
        Image.fromarray(np.rint(waves(20, 30) * 255).astype(np.uint8)).save(tmp_path / "a.png")
        np.testing.assert_array_equal(
            restore(tmp_path / "a.png", network).picture.pixels,
            restore(read_picture(tmp_path / "a.png"), network).picture.pixels,
        )

    def test_the_source_is_left_alone(self, network, photo):
        pixels = photo.copy()
        found = restore(Picture(pixels=pixels), network)
        np.testing.assert_array_equal(pixels, photo)
        assert found.source.pixels is pixels
        assert restore(Picture(pixels=photo), network).picture.pixels.shape == photo.shape  # it cannot be written to


class TestTold:
    def test_what_was_decided(self, network, photo):
        found = restore(photo, network)
        decision = network.look([as_tensor(photo)])
        assert tuple(found.detected) == tuple(found.severity) == LABELS
        assert list(found.detected.values()) == pytest.approx(decision.present[0].tolist(), abs=1e-5)
        assert list(found.severity.values()) == pytest.approx(decision.severity[0].tolist(), abs=1e-5)
        chosen = {name: int(routing.chosen) for name, routing in decision.routings.items()}
        assert found.experts == chosen
        spent = network.fixed_cost + sum(choice.costs[choice.chosen] for choice in found.choices)
        assert found.cost == pytest.approx(spent, abs=1e-5)
        assert [choice.title for choice in found.choices] == [f"At 1/{n} of the size" for n in (2, 4, 8)]
        assert all(sum(choice.probabilities) == pytest.approx(1, abs=1e-5) for choice in found.choices)
        assert found.card is None

    def test_the_picture_of_it(self, network, photo):
        drawn = restore(photo, network).routing_picture()
        assert (drawn.width, drawn.channels, drawn.depth) == (1200, 3, 8)

    def test_the_network_is_in_use_and_then_as_it_was(self, photo):
        network = tiny().train()
        modes = []
        network.stem.register_forward_hook(lambda module, *_: modes.append(module.training))
        restore(photo, network)
        assert modes == [False]
        assert network.training

    def test_the_published_network(self, photo):
        small = {"blocks": (1, 1, 1, 1), "decoder_blocks": (1, 1, 1), "heads": (1, 1, 2, 2), "refinement": 0}
        torch.manual_seed(0)
        network = MoceIR(8, **small).eval()
        found = restore(photo[:44, :60], network)
        assert found.detected == found.severity == {}
        assert len(found.experts) == len(found.choices) == 3
        work = network.decoder_work
        assert found.cost == pytest.approx(work.chosen(found.experts) / work.dearest)
        with torch.no_grad():
            made = network(as_tensor(photo[:44, :60]))[0].clamp(0, 1).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found.picture.pixels, made, atol=1e-4)
        assert found.routing_picture().width == 1200
        with pytest.raises(ArgumentError, match="MoceIR has no price of compute; leave price out"):
            restore(photo, network, price=0.1)


class TestOptions:
    def test_strength(self, network, photo):
        none, half, full = (restore(photo, network, strength=s) for s in (0, 0.5, 1.0))
        np.testing.assert_array_equal(none.picture.pixels, photo)
        np.testing.assert_allclose(half.picture.pixels, (photo + full.picture.pixels) / 2, atol=1e-5)
        assert none.experts == full.experts
        assert none.detected == pytest.approx(full.detected, abs=1e-6)

    def test_strength_0_keeps_what_alpha_hides(self, network):
        hidden = np.full((8, 8, 4), 0.5, np.float32)
        hidden[..., 3] = 0
        np.testing.assert_array_equal(restore(hidden, network, strength=0).picture.pixels, hidden)

    def test_a_price_spares_compute(self, photo):
        network = tiny()
        network.price = 0.01
        costs = [restore(photo, network, price=price).cost for price in (0, 1.0, 5.0, 1e3)]
        assert costs == sorted(costs, reverse=True)
        assert costs[0] > costs[-1] == pytest.approx(network.fixed_cost)
        assert network.price == 0.01

    def test_the_price_is_put_back_after_an_error(self, photo):
        network = tiny()
        nn.init.constant_(network.head.bias, float("nan"))
        with pytest.raises(ModelError, match="no finite numbers"):
            restore(photo, network, price=3)
        assert network.price == 0.0

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            *(({"strength": value}, "strength is a number from 0") for value in (-0.1, 1.1, float("nan"), "1", True)),
            *(({"price": value}, "price is a number of dB from 0 to 1000") for value in (-1, 1001, float("inf"), "0")),
            *(({"tile": value}, "tile is a whole number of px") for value in (0, 1.5, "64")),
            *(({"pixel_limit": value}, "pixel_limit is a number of pixels, not") for value in (None, "a", True)),
            ({"progress": 5}, "progress is a function of two numbers, not int"),
        ],
    )
    def test_out_of_range(self, network, photo, options, says):
        with pytest.raises(ArgumentError, match=says):
            restore(photo, network, **options)


class TestModels:
    def test_a_file_and_its_card(self, weights, photo):
        found = restore(photo, weights, device="cpu")
        assert found.card.name == "tiny"
        assert abs(found.picture.pixels - restore(photo, tiny()).picture.pixels).max() < 0.01  # the file holds halves

    def test_names_come_from_the_registry(self, weights, photo):
        own = Registry()
        own.add("moce_lite", MoceLite)
        own.add_weights("tiny", weights, missing="")
        assert restore(photo, "tiny", registry=own, device="cpu").card.name == "tiny"
        with pytest.raises(ModelError, match="'tinny' is no model here and no file; did you mean tiny"):
            restore(photo, "tinny", registry=own)

    def test_what_is_no_registry(self, photo):
        with pytest.raises(ArgumentError, match="registry is a moesaic Registry, not NoneType"):
            restore(photo, registry=None)

    def test_weights_of_another_task(self, photo):
        with pytest.raises(
            ModelError, match=r"'enet_moe_camvid_nc' is no model here and no file; known here are .*moce"
        ):
            restore(photo, "enet_moe_camvid_nc")

    def test_an_unknown_name(self, photo):
        with pytest.raises(ModelError, match="did you mean moce_lite"):
            restore(photo, "moce_lit")
        with pytest.raises(ModelError, match="moce_ir is an architecture without weights"):
            restore(photo, "moce_ir")
        with pytest.raises(ModelError, match="cannot be read"):
            restore(photo, "/none/there.safetensors")

    @pytest.mark.parametrize("place", [-5, 0.5])
    def test_damaged_weights(self, weights, photo, place):
        data = bytearray(weights.read_bytes())
        data[place if isinstance(place, int) else int(len(data) * place)] ^= 0x01
        weights.write_bytes(data)
        with pytest.raises(ModelError, match="the weights are damaged"):
            restore(photo, weights)

    def test_weights_cut_off(self, weights, photo):
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(ModelError, match="damaged"):
            restore(photo, weights)

    def test_a_network_of_another_kind(self, photo):
        with pytest.raises(ArgumentError, match=r"model is a Conv2d, .* such as moesaic.create_model"):
            restore(photo, nn.Conv2d(3, 3, 1))

    def test_devices(self, weights, photo):
        with pytest.raises(ArgumentError, match="device 'toaster' is unknown"):
            restore(photo, weights, device="toaster")
        if not torch.cuda.is_available():
            with pytest.raises(BackendError, match="cuda"):
                restore(photo, weights, device="cuda")

    @pytest.mark.gpu
    def test_on_a_device_as_on_the_cpu(self, weights, photo):
        slow, fast = (restore(photo, weights, device=device) for device in ("cpu", "cuda"))
        assert slow.experts == fast.experts
        assert abs(slow.picture.pixels - fast.picture.pixels).max() < 0.01


class TestWhatIsTold:
    def test_a_short_repr(self, network, photo):
        found = restore(photo, network)
        named = found_in_words(found.detected)
        assert repr(found) == f"Restored(128x96, {named}, {found.cost:.0%} of the dearest decoder)"
        assert repr(replace(found, labels=(), decision=replace(found.decision, present=None))).count(",") == 1

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_change_is_that_of_the_colours_as_they_show(self, network, photo, channels):
        pixels = np.concatenate([photo, photo[..., :1]], axis=2)[
            ..., [[0], [0, 3], [0, 1, 2], [0, 1, 2, 3]][channels - 1]
        ]
        found = restore(pixels, network)
        alpha = pixels[..., -1:] if channels in (2, 4) else 1
        colours = slice(0, channels - 1) if channels in (2, 4) else slice(None)
        apart = abs((found.picture.pixels - pixels)[..., colours] * alpha)
        assert found.change == pytest.approx(255 * apart.mean(), rel=1e-4)
        assert found.change > 0
        assert restore(pixels, network, strength=0).change == 0


class TestBadPictures:
    def test_nan(self, network):
        pixels = np.full((8, 8, 3), np.nan, np.float32)
        with pytest.raises(ArgumentError, match="must lie in"):
            restore(pixels, network)
        with pytest.raises(ArgumentError, match="must lie in"):
            restore(torch.from_numpy(pixels).permute(2, 0, 1), network)

    def test_no_pixels(self, network):
        for shape in ((0, 8, 3), (8, 0, 3)):
            with pytest.raises(ShapeError, match="no pixels"):
                restore(np.zeros(shape, np.float32), network)

    def test_no_picture(self, network, tmp_path):
        (tmp_path / "a.png").write_bytes(b"no picture")
        for bad in (tmp_path / "a.png", tmp_path / "missing.png", b"", b"abc"):
            with pytest.raises(PictureError):
                restore(bad, network)
        with pytest.raises(ShapeError):
            restore(np.zeros((3, 8, 8, 3), np.float32), network)

    def test_too_many_pixels(self, network, photo):
        with pytest.raises(LimitError, match="exceeds the limit of 100 pixels"):
            restore(photo, network, pixel_limit=100)


class TestShipped:
    def test_a_clean_picture_passes(self, shipped, photo):
        assert psnr(restore(photo, shipped).picture.pixels, photo) >= 45

    def test_noise_goes_and_is_named(self, shipped, photo):
        noisy = np.clip(photo + np.random.default_rng(0).normal(0, 25 / 255, photo.shape), 0, 1).astype(np.float32)
        found = restore(noisy, shipped)
        assert psnr(found.picture.pixels, photo) > psnr(noisy, photo) + 5
        assert max(found.detected, key=found.detected.get) == "noise"
        assert found.detected["noise"] > 0.5

    def test_it_is_what_is_taken(self, shipped, photo):
        found = restore(photo)
        assert found.card == card_of(shipped)
        np.testing.assert_allclose(found.picture.pixels, restore(photo, shipped).picture.pixels, atol=1e-5)

    def test_tiles_equal_the_whole(self, shipped):
        pixels = np.clip(waves(400, 600) + np.random.default_rng(0).normal(0, 0.1, (400, 600, 3)), 0, 1)
        pixels = pixels.astype(np.float32)
        whole, parts = restore(pixels, shipped), restore(pixels, shipped, tile=400)
        assert whole.experts == parts.experts
        assert abs(whole.picture.pixels - parts.picture.pixels).max() < 1 / 255


def test_without_weights_it_is_told_how_to_get_some(photo):
    empty = Registry()
    empty.add_weights(DEFAULT_MODEL, "lost.safetensors", missing="train it with `moesaic train restore`")
    with pytest.raises(ModelError, match="not in this installation; train it with"):
        restore(photo, registry=empty)


def test_the_folder_is_a_call(network, photo):
    from moesaic import restore as folder

    np.testing.assert_array_equal(folder(photo, network).picture.pixels, restore(photo, network).picture.pixels)
    assert moesaic.restore is folder
    code = "import moesaic.restore.models, moesaic; assert callable(moesaic.restore)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
