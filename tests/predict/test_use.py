"""predict(): the experts asked for, whatever the picture; the same for the same seed; and refusals with a name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import moesaic
from moesaic.errors import ArgumentError, LimitError, ModelError, PictureError
from moesaic.mixture import colours as closed
from moesaic.predict.kernels import begun
from moesaic.predict.models import DEFAULT_MODEL, make_network, registry
from moesaic.predict.network import MixturePredictor
from moesaic.predict.stages import coloured, compared
from moesaic.predict.use import count_of, load_network, most_of, predict, predict_pixels, surplus_of
from moesaic.registry import Registry
from moesaic.weights_file import Card, write_weights

OPTIONS = {"hidden": 16, "depth": 2, "stages": 4}
PARTS = ("centres", "factors", "log_priors", "colours")


def made(loud=1.0, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MixturePredictor(**OPTIONS)
    with torch.no_grad():
        network.last.weight.mul_(loud)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return made()


@pytest.fixture(scope="module")
def still():
    """A network that says nothing."""
    return made(0.0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, network):
    """The folder of a run, with its weights."""
    folder = tmp_path_factory.mktemp("run")
    card = Card(name="small", architecture="mixture_predictor", task="predict", options=OPTIONS)
    write_weights(folder / "model.safetensors", network.state_dict(), card)
    return folder


def waves(height=40, width=56, channels=3):
    rows, columns = np.mgrid[:height, :width]
    planes = [0.5 + 0.4 * np.sin(columns / (4 + c) + rows / (9 - 2 * c)) for c in range(channels)]
    return np.stack(planes, axis=2).astype(np.float32)


def db(mixture, picture):
    """Of a mixture of colours without alpha beside a picture (H, W, C)."""
    drawn = mixture.render().numpy().transpose(1, 2, 0).clip(0, 1)
    return -10 * np.log10(np.mean((drawn - picture) ** 2))


def check(mixture, experts, channels, height, width):
    assert len(mixture) == experts
    assert (mixture.channels, mixture.height, mixture.width) == (channels, height, width)
    assert mixture.order == 0
    assert all(bool(getattr(mixture, name).isfinite().all()) for name in PARTS)
    assert bool(mixture.render().isfinite().all())
    assert not any(getattr(mixture, name).requires_grad for name in PARTS)
    assert all(getattr(mixture, name).dtype == torch.float32 for name in PARTS)


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in PARTS)


class TestPictures:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (33, 17)])
    @pytest.mark.parametrize("flat", [None, 0.0, 1.0])
    def test_of_every_kind_and_size(self, network, channels, size, flat):
        pixels = np.random.default_rng(0).random((*size, channels), dtype=np.float32)
        if flat is not None:
            pixels[:] = flat
        for experts in (1, 7):
            check(predict(pixels, experts=experts, model=network, stages=3), experts, channels, *size)

    @pytest.mark.parametrize("colours", [0, 2])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_are_close_in_all_their_channels(self, still, channels, colours):
        picture = waves(channels=channels)
        if channels in (2, 4):
            picture[..., -1] = np.linspace(0.2, 1.0, 56)
        mixture = predict(picture, experts=120, model=still, colours=colours)
        premultiplied = picture.copy()
        if channels in (2, 4):
            premultiplied[..., :-1] *= picture[..., -1:]
        assert db(mixture, premultiplied) > 24

    def test_one_colour_is_drawn(self, still):
        mixture = predict(np.full((20, 30, 3), 0.25, np.float32), experts=12, model=still)
        assert float((mixture.render() - 0.25).abs().max()) < 1e-4

    def test_wholly_transparent(self, network):
        mixture = predict(np.zeros((12, 15, 4), np.float32), experts=5, model=network)
        check(mixture, 5, 4, 12, 15)

    @pytest.mark.parametrize(
        ("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("L", 1), ("LA", 2), ("P", 3), ("1", 1), ("I;16", 1)]
    )
    def test_files_and_modes_of_pillow(self, tmp_path, network, mode, channels):
        if mode == "I;16":
            image = Image.fromarray((waves(channels=1)[..., 0] * 65535).astype(np.uint16))
        else:
            image = Image.fromarray((waves() * 255).astype(np.uint8)).convert(mode)
        image.save(tmp_path / "picture.png")
        for source in (image, tmp_path / "picture.png", str(tmp_path / "picture.png")):
            check(predict(source, experts=9, model=network, stages=2), 9, channels, 40, 56)

    def test_16_bits_are_those_of_8(self, network):
        eight = (waves() * 255).astype(np.uint8)
        one, other = (predict(a, experts=9, model=network) for a in (eight, eight.astype(np.uint16) * 257))
        assert same(one, other)

    def test_tensors_as_well_as_arrays(self, network):
        picture = waves()
        tensor = torch.from_numpy(picture).permute(2, 0, 1)
        assert same(predict(picture, experts=9, model=network), predict(tensor, experts=9, model=network))

    def test_pixels_that_are_read_already(self, network):
        picture = waves()
        pixels = np.ascontiguousarray(picture.transpose(2, 0, 1))
        kept = pixels.copy()
        assert same(predict_pixels(pixels, experts=9, model=network), predict(picture, experts=9, model=network))
        assert np.array_equal(pixels, kept)

    def test_missing_or_too_large(self, tmp_path, network):
        with pytest.raises(PictureError):
            predict(tmp_path / "none.png", model=network)
        with pytest.raises(LimitError):
            predict(waves(), model=network, pixel_limit=100)


class TestExperts:
    def test_one_for_forty_pixels_unless_asked_for(self, network):
        assert len(predict(waves(), model=network, stages=1)) == round(40 * 56 / 40)
        assert len(predict(waves(2, 3), model=network, stages=1)) == 1

    @pytest.mark.parametrize("experts", [1, 2, 63, 64])
    def test_exactly_those_even_on_a_pixel(self, network, experts):
        check(predict(waves(1, 1), experts=experts, model=network), experts, 3, 1, 1)

    def test_more_than_pixels(self, network):
        check(predict(waves(5, 6), experts=120, model=network), 120, 3, 5, 6)

    def test_numbers_that_a_fit_would_take(self):
        assert count_of(None, 4000) == 100
        assert count_of(None, 1) == 1
        assert count_of(5, 10) == 5
        assert most_of(1) == 64
        assert most_of(1000) == 4000
        assert count_of(4000, 1000) == 4000
        with pytest.raises(ArgumentError, match="experts"):
            count_of(4001, 1000)

    @pytest.mark.parametrize("refine", [1, 30, 120])
    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_exactly_those_after_a_fit(self, network, refine, channels):
        check(predict(waves(20, 24, channels), experts=11, model=network, refine=refine), 11, channels, 20, 24)

    def test_no_more_before_a_long_fit_than_a_picture_takes(self, network):
        check(predict(waves(1, 2), experts=64, model=network, refine=100, stages=1), 64, 3, 1, 2)


class TestQuality:
    def test_is_better_than_the_start(self, still):
        picture = waves()
        pixels = np.ascontiguousarray(picture.transpose(2, 0, 1))
        begin = coloured(begun(pixels, 60, np.random.default_rng(0)), pixels, 4, 1)
        before = -10 * np.log10(compared(begin, pixels, 1).error / pixels.size)
        assert db(predict(picture, experts=60, model=still), picture) > before + 3

    def test_more_stages_are_better(self, still):
        dbs = [db(predict(waves(), experts=60, model=still, stages=n), waves()) for n in (1, 3, 8)]
        assert dbs == sorted(dbs)

    def test_colours_in_closed_form_are_better(self, still):
        picture = waves()
        plain, solved = (predict(picture, experts=60, model=still, stages=2, colours=n) for n in (0, 4))
        assert torch.equal(plain.centres, solved.centres)
        assert db(solved, picture) > db(plain, picture) + 0.5

    @pytest.mark.parametrize("steps", [1, 3])
    def test_colours_take_as_many_steps_as_asked_for(self, still, steps):
        pixels = np.ascontiguousarray(waves().transpose(2, 0, 1))
        plain, solved = (predict(waves(), experts=60, model=still, colours=n) for n in (0, steps))
        expected = closed.solve(closed.pack(plain), pixels, steps=steps, damping=0.05, margin=8.0)
        assert np.array_equal(solved.colours.numpy(), expected)

    def test_a_fit_goes_on_from_there(self, still):
        picture = waves()
        plain, refined = (predict(picture, experts=60, model=still, refine=n) for n in (0, 40))
        assert db(refined, picture) > db(plain, picture) + 0.5
        assert db(refined, picture) > db(moesaic.fit(picture, experts=60, steps=40, device="cpu"), picture)

    def test_experts_of_a_photograph(self, photo, still):
        mixture = predict(photo, experts=300, model=still)
        assert len(mixture) == 300
        assert db(mixture, photo) > 23

    def test_the_colours_found_are_the_best_nearly(self, still):
        picture = torch.from_numpy(waves()).permute(2, 0, 1)
        mixture = predict(waves(), experts=60, model=still, colours=30)
        best = closed.solve_colours(mixture, picture, steps=100)
        assert db(mixture, waves()) == pytest.approx(db(best, waves()), abs=0.1)


class TestSameAgain:
    def test_the_same_seed(self, network):
        one, again, other = (predict(waves(), experts=30, model=network, seed=seed) for seed in (3, 3, 2**70))
        assert same(one, again)
        assert not torch.equal(one.centres, other.centres)

    @pytest.mark.parametrize(("refine", "stages"), [(0, 8), (2, 8), (3, 7), (8, 6), (18, 2), (60, 2), (130, 2)])
    def test_steps_of_a_fit_take_the_place_of_stages(self, network, refine, stages):
        picture = waves()
        usual = predict(picture, experts=12, model=network, refine=refine)
        assert same(usual, predict(picture, experts=12, model=network, refine=refine, stages=stages))
        assert not same(usual, predict(picture, experts=12, model=network, refine=refine, stages=stages + 1))

    @pytest.mark.parametrize(("refine", "begun"), [(0, 20), (31, 20), (32, 24), (119, 24), (120, 30)])
    def test_a_longer_fit_begins_with_more_kernels(self, network, refine, begun):
        told = []
        predict(waves(), experts=20, model=network, refine=refine, progress=told.append)
        assert round(20 * surplus_of(refine)) == begun
        assert all(one.experts == begun for one in told[:1])

    @pytest.mark.parametrize("refine", [0, 5])
    def test_any_threads(self, network, refine):
        one, *others = (
            predict(waves(), experts=30, model=network, threads=threads, refine=refine) for threads in (1, 2, 7, None)
        )
        assert all(same(one, other) for other in others)

    def test_draws_nothing_from_the_callers_generators(self, network):
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        predict(waves(), experts=30, model=network)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002

    def test_leaves_the_network_as_it_was(self):
        network = made().train()
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        predict(waves(), experts=30, model=network)
        assert network.training
        assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_a_fit_says_how_it_goes_and_may_be_ended(self, network):
        steps = []

        def news(now):
            steps.append(now.step)
            return now.step == 3

        check(predict(waves(), experts=20, model=network, refine=10, progress=news), 20, 3, 40, 56)
        assert steps == [1, 2, 3]

    @pytest.mark.parametrize(("stages", "loud"), [(8, 1e3), (64, 30.0)])
    def test_wild_networks_draw_something(self, stages, loud):
        for seed in range(2):
            wild = made(loud, seed)
            check(predict(waves(), experts=25, model=wild, stages=stages), 25, 3, 40, 56)

    def test_the_folder_is_the_call(self, network):
        assert same(moesaic.predict(waves(), experts=9, model=network), predict(waves(), experts=9, model=network))
        assert moesaic.predict.use.predict is predict


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("experts", [0, -1, 2.5, True, "7", 10**9, float("nan")]),
            ("stages", [0, -1, 65, 1.5, True, "8"]),
            ("colours", [-1, 1.5, True, "4", None]),
            ("refine", [-1, 1.5, True, "4", None]),
            ("seed", [-1, 1.5, True, "4", None]),
            ("threads", [0, -1, 1.5, True, "2", 10**6]),
            ("progress", [5, "yes"]),
        ],
    )
    def test_wrong_ones_are_named(self, network, name, values):
        for value in values:
            with pytest.raises(ArgumentError, match=f"^{name} "):
                predict(waves(8, 8), model=network, **{name: value})

    @pytest.mark.parametrize("model", [5, True, ["a"], nn.Linear(2, 2)])
    def test_a_model_is_a_name_a_path_or_a_predictor(self, model):
        with pytest.raises(ArgumentError, match="a model is a name, a path or a predictor, not"):
            predict(waves(8, 8), model=model)

    def test_networks_elsewhere_are_refused(self):
        with pytest.raises(ArgumentError, match="on the CPU; move the network there"):
            predict(waves(8, 8), model=made().to("meta"))


class TestModels:
    def test_a_file_or_its_folder(self, saved):
        by_file, by_folder, by_text = (
            predict(waves(), experts=9, model=model)
            for model in (saved / "model.safetensors", saved, str(saved / "model.safetensors"))
        )
        assert same(by_file, by_folder)
        assert same(by_file, by_text)

    def test_a_loaded_one_is_ready(self, saved):
        network = load_network(saved)
        assert isinstance(network, MixturePredictor)
        assert not network.training
        assert network.stages == OPTIONS["stages"]
        assert same(predict(waves(), experts=9, model=network), predict(waves(), experts=9, model=saved))

    def test_the_architecture_is_known_by_name(self):
        assert "mixture_predictor" in registry.names()
        assert isinstance(registry.create("mixture_predictor", hidden=8), MixturePredictor)
        assert isinstance(make_network("mixture_predictor", hidden=8, depth=1), MixturePredictor)
        with pytest.raises(ArgumentError, match="did you mean 'mixture_predictor'"):
            make_network("mixture_predictr")
        with pytest.raises(ArgumentError, match=r"options .* do not fit 'mixture_predictor'"):
            make_network("mixture_predictor", width=8)
        with pytest.raises(ArgumentError, match="hidden is a whole number"):
            make_network("mixture_predictor", hidden=0)

    @pytest.mark.parametrize("name", ["no_such_model", "stages_predic", ""])
    def test_unknown_names(self, name):
        with pytest.raises(ModelError):
            predict(waves(8, 8), model=name)

    def test_an_architecture_is_no_model(self):
        with pytest.raises(ModelError, match="an architecture without weights"):
            predict(waves(8, 8), model="mixture_predictor")

    def test_the_default_says_how_to_get_it_where_it_is_missing(self, tmp_path):
        own = Registry()
        own.add("mixture_predictor", MixturePredictor)
        own.add_weights(DEFAULT_MODEL, tmp_path / "none.safetensors", missing="train it")
        with pytest.raises(ModelError, match=f"the weights of {DEFAULT_MODEL} are not in this installation; train it"):
            predict(waves(8, 8), registry=own)

    def test_the_default_is_what_the_registry_says(self, saved):
        own = Registry()
        own.add("mixture_predictor", MixturePredictor)
        own.add_weights(DEFAULT_MODEL, saved / "model.safetensors", missing="train it")
        assert same(predict(waves(), experts=9, registry=own), predict(waves(), experts=9, model=saved))

    @pytest.mark.parametrize("keep", [0, 7, 100, 2000, -1])
    def test_files_that_were_cut_off(self, tmp_path, saved, keep):
        data = (saved / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(data[:keep])
        with pytest.raises(ModelError):
            load_network(tmp_path)

    def test_files_with_a_flipped_bit(self, tmp_path, saved):
        data = bytearray((saved / "model.safetensors").read_bytes())
        data[-5] ^= 4
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            predict(waves(8, 8), model=tmp_path / "model.safetensors")

    def test_files_that_are_something_else(self, tmp_path):
        place = tmp_path / "model.safetensors"
        place.write_text(json.dumps({"hello": 1}))
        with pytest.raises(ModelError):
            load_network(place)
        with pytest.raises(ModelError):
            load_network(Path(tmp_path / "none.safetensors"))

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"options": {**OPTIONS, "hidden": 8}}, "do not fit"),
            ({"options": {**OPTIONS, "hidden": 0}}, "hidden is a whole number"),
            ({"options": {"width": 8}}, "cannot be built"),
            ({"architecture": "other"}, "is unknown here"),
        ],
    )
    def test_cards_that_do_not_fit_their_weights(self, tmp_path, network, changes, says):
        card = Card(name="small", architecture="mixture_predictor", task="predict", options=OPTIONS)
        write_weights(tmp_path / "model.safetensors", network.state_dict(), replace(card, **changes))
        with pytest.raises(ModelError, match=says):
            load_network(tmp_path)

    def test_models_of_another_task(self, tmp_path):
        own = Registry()
        own.add("linear", nn.Linear)
        card = Card(name="other", architecture="linear", task="other", options={"in_features": 2, "out_features": 3})
        write_weights(tmp_path / "model.safetensors", nn.Linear(2, 3).state_dict(), card)
        with pytest.raises(ArgumentError, match="is a Linear, no predictor"):
            predict(waves(8, 8), model=tmp_path, registry=own)
