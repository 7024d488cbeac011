"""All models by name, as users call them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from moesaic import zoo
from moesaic.errors import ArgumentError, ModelError
from moesaic.routing.collect import routed_layers
from moesaic.weights_file import Card, card_of, read_card

OPTIONS = {"classes": 4, "width": 0.5, "experts": 3, "k": 1, "grid": (2, 2)}


def test_the_six_networks_are_listed():
    assert {"enet", "erfnet", "unet", "lraspp", "deeplab", "pspnet"} <= set(zoo.list_models())
    assert zoo.list_models("en*t") == ["enet"]


def test_a_routed_network_by_name():
    model = zoo.create_model("enet", **OPTIONS)
    assert len(routed_layers(model)) == 1
    with torch.no_grad():
        assert model.eval()(torch.rand(1, 3, 32, 40)).shape == (1, 4, 32, 40)


@pytest.mark.parametrize("gate", ["two_conv", "random", "position", "frozen", "uniform"])
def test_saved_and_loaded_a_network_answers_the_same(tmp_path, gate):
    torch.manual_seed(0)
    options = OPTIONS | {"gate": gate}
    model = zoo.create_model("enet", **options)
    with torch.no_grad():
        model(torch.rand(2, 3, 32, 40))  # statistics of the norms that differ from fresh ones
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    model.eval()
    card = zoo.save_model(
        tmp_path / "m.safetensors", model, Card(name="m", architecture="enet", task="segment", options=options)
    )
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    again = zoo.load_model(tmp_path / "m.safetensors")
    assert card_of(again) == card == read_card(tmp_path / "m.safetensors")
    x = torch.rand(1, 3, 48, 40)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x))


def test_a_loaded_model_is_saved_with_its_own_card(tmp_path):
    card = Card(name="m", architecture="enet", task="segment", options={"classes": 2, "width": 0.25})
    zoo.save_model(tmp_path / "a.safetensors", zoo.create_model("enet", **card.options), card)
    zoo.save_model(tmp_path / "b.safetensors", zoo.load_model(tmp_path / "a.safetensors"))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(ArgumentError, match="card"):
        zoo.save_model(tmp_path / "c.safetensors", zoo.create_model("enet", **card.options))


def test_a_registry_can_be_passed(tmp_path):
    own = zoo.Registry()
    own.add("line", lambda: torch.nn.Linear(1, 1))
    assert zoo.list_models(registry=own) == ["line"]
    assert isinstance(zoo.create_model("line", registry=own), torch.nn.Linear)
    assert zoo.model_card("line", registry=own) is None
    card = Card(name="m", architecture="line", task="test")
    zoo.save_model(tmp_path / "m.safetensors", torch.nn.Linear(1, 1), card)
    assert card_of(zoo.load_model(tmp_path / "m.safetensors", registry=own)).name == "m"
    with pytest.raises(ModelError, match="architecture 'line', of the task 'test', is unknown"):
        zoo.load_model(tmp_path / "m.safetensors")


def test_names_that_are_close_are_suggested():
    with pytest.raises(ModelError, match=r"did you mean .*enet"):
        zoo.create_model("ennet", classes=2)


def test_every_shipped_model_is_what_its_card_says():
    for name in zoo.list_models():
        card = zoo.model_card(name)
        if card is not None:
            model = zoo.load_model(name)
            learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            assert (card.name, card.parameters) == (name, learned)
            assert card.licence != "NOASSERTION"
            assert card.data
            assert card.scores
            assert dataclasses.asdict(card)["recipe"]
