"""Models by name: building, listing, loading, and what is said when a name or a file is wrong."""

from __future__ import annotations

import dataclasses
import json
import logging
import time

import pytest
import safetensors.torch
import torch
from torch import nn

from moesaic import weights_file, zoo
from moesaic.errors import ArgumentError, BackendError, LimitError, ModelError
from moesaic.registry import Registry
from moesaic.weights_file import Card, WeightLimits, card_of, write_weights


def tiny(classes, *, width=4, grid=3):
    if width < 1:
        raise ArgumentError(f"width {width} must be at least 1")
    model = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1))
    model.grid = grid
    return model


CARD = Card(name="tiny_toy", architecture="tiny", task="segment", options={"classes": 2, "width": 5, "grid": [2, 3]})


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(3)
    write_weights(tmp_path / "model.safetensors", tiny(2, width=5).state_dict(), CARD)
    return tmp_path / "model.safetensors"


@pytest.fixture
def registry(file, tmp_path):
    registry = Registry()
    registry.add("tiny", tiny)
    registry.add("tinier", tiny)
    registry.add_weights("tiny_toy", file, missing="never")
    registry.add_weights("tiny_lost", tmp_path / "lost.safetensors", missing="train it anew")
    return registry


def test_architectures_are_built_with_options(registry):
    model = registry.create("tiny", classes=3, width=2)
    assert model[0].out_channels == 2
    assert model.training


def test_names(registry):
    assert registry.names() == ["tinier", "tiny", "tiny_toy"]  # weights only where they are
    assert registry.names("*_toy") == ["tiny_toy"]
    assert registry.names("x*") == []


def test_cards(registry):
    assert registry.card("tiny") is None
    assert registry.card("tiny_toy").options["width"] == 5


def test_the_name_of_weights_builds_their_architecture(registry):
    model = registry.create("tiny_toy")
    assert model[0].out_channels == 5
    assert model.grid == (2, 3)  # JSON knows no tuples
    assert registry.create("tiny_toy", classes=7)[2].out_channels == 7


def test_pretrained(registry, file, caplog):
    with caplog.at_level(logging.INFO, "moesaic"):
        model = registry.create("tiny_toy", pretrained=True)
    assert "tiny_toy: weights under NOASSERTION" in caplog.text  # the licence is told
    assert not model.training
    assert card_of(model).name == "tiny_toy"
    torch.manual_seed(3)
    expected = tiny(2, width=5).state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", [str, lambda path: path, lambda path: path.parent, lambda path: str(path.parent)])
def test_files_and_the_folders_of_runs_are_loaded(registry, file, form):
    assert card_of(registry.load(form(file))).name == "tiny_toy"


def test_loading_costs_no_random_numbers(registry):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    registry.load("tiny_toy")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tyny", "'tyny' is no model here and no file; did you mean .*tiny"),
        ("something else", "known here are tinier, tiny, tiny_lost, tiny_toy"),
        ("tiny_lost", "weights of tiny_lost are not in this installation; train it anew"),
    ],
)
def test_unknown_names(registry, name, says):
    for call in (registry.create, registry.load, registry.card):
        with pytest.raises(ModelError, match=says):
            call(name)


def test_an_architecture_has_no_weights(registry):
    for call in (registry.load, lambda name: registry.create(name, pretrained=True)):
        with pytest.raises(ModelError, match="architecture without weights; trained on it are tiny_toy"):
            call("tiny")
        with pytest.raises(ModelError, match="architecture without weights; train it"):
            call("tinier")


def test_missing_files(registry, tmp_path):
    for path in (tmp_path / "no.safetensors", "no.safetensors"):
        with pytest.raises(ModelError, match=r"no\.safetensors: cannot be read"):
            registry.load(path)


def test_wrong_options(registry):
    with pytest.raises(ArgumentError, match="tiny cannot be built with wings"):
        registry.create("tiny", wings=2)
    with pytest.raises(ArgumentError, match="width 0"):
        registry.create("tiny", classes=2, width=0)
    with pytest.raises(ArgumentError, match="width: a pretrained model is built as it was trained"):
        registry.create("tiny_toy", pretrained=True, width=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "tinyy"}, "architecture 'tinyy', of the task '.*', is unknown here; did you mean .*tiny"),
        ({"options": {"classes": 2, "width": 6}}, "do not fit tiny as its card says to build it: 7 of 9 differ"),
        ({"options": {"classes": 2, "wings": 6}}, "cannot be built as its card says: .*wings"),
        ({"options": {"classes": 2, "width": 0}}, "cannot be built as its card says: width 0"),
        ({"options": {"classes": 2, "width": 10**9}}, "do not fit tiny"),  # without taking the memory for it
        ({"options": {"classes": "many"}}, "cannot be built as its card says"),
    ],
)
def test_cards_that_ask_for_something_else(registry, tmp_path, change, says):
    path = tmp_path / "wrong.safetensors"
    write_weights(path, tiny(2, width=5).state_dict(), dataclasses.replace(CARD, **change))
    with pytest.raises(ModelError, match=says) as caught:
        registry.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_tensors_are_refused(registry, tmp_path):
    path = tmp_path / "wrong.safetensors"
    write_weights(path, {**tiny(2, width=5).state_dict(), "more": torch.zeros(1)}, CARD)
    with pytest.raises(ModelError, match="1 of 9 differ, the first is more"):
        registry.load(path)


def test_limits_are_handed_on(registry, file):
    with pytest.raises(LimitError):
        registry.load(file, limits=WeightLimits(file_bytes=10))


def test_names_are_taken_once(registry, file):
    for add in (lambda: registry.add("tiny_toy", tiny), lambda: registry.add_weights("tiny", file, missing="")):
        with pytest.raises(ModelError, match="is taken"):
            add()


def test_registries_are_joined(registry):
    other = Registry()
    other.add("large", tiny)
    whole = Registry.joined([registry, other])
    assert whole.names() == ["large", "tinier", "tiny", "tiny_toy"]
    with pytest.raises(ModelError, match="is taken"):
        Registry.joined([registry, registry])
    assert "large" not in registry.names()


@pytest.mark.parametrize(
    "kind", [torch.int64, torch.bool, torch.complex64], ids=["whole numbers", "flags", "complex numbers"]
)
def test_weights_of_another_kind_are_refused(registry, tmp_path, kind):
    path = tmp_path / "wrong.safetensors"
    stored = {name: value.contiguous() for name, value in tiny(2, width=5).state_dict().items()}
    stored["0.weight"] = stored["0.weight"].to(kind)
    card = dataclasses.replace(CARD, sha256=weights_file._digest(CARD, stored))
    path.write_bytes(safetensors.torch.save(stored, {"moesaic": json.dumps(dataclasses.asdict(card))}))
    with pytest.raises(ModelError, match=r"1 of 9 differ, the first is 0\.weight"):
        registry.load(path)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": 10**400},
        {"classes": 11, "experts": 10**9},
        {"classes": 11, "experts": 10**7, "gate": "frozen"},
        {"classes": 11, "experts": 4, "gate": []},
        {"classes": 11, "experts": 4, "gate_options": {"grid": 3}},
        {"classes": 11, "width": 1e308},
        {"classes": 11, "channels": 10**9},
        {"classes": 11, "options": "base"},
        {"classes": 11, "name": "unet"},
        {"classes": 11, "seed": 10**30},
    ],
)
def test_cards_that_mean_harm_cost_nothing(tmp_path, options):
    path = tmp_path / "wrong.safetensors"
    write_weights(path, {"w": torch.zeros(2)}, dataclasses.replace(CARD, architecture="enet", options=options))
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"wrong\.safetensors: ") as caught:
        zoo.load_model(path)
    assert time.monotonic() - started < 30
    assert "\n" not in str(caught.value)


def test_a_random_gate_s_state_is_looked_at(tmp_path):
    options = {"classes": 2, "width": 0.1, "experts": 3, "k": 1, "gate": "random"}
    weights = zoo.create_model("enet", **options).state_dict()
    weights["stage4.1.conv.gate._extra_state"] = torch.tensor([-1, -1])
    path = tmp_path / "wrong.safetensors"
    write_weights(path, weights, dataclasses.replace(CARD, architecture="enet", options=options))
    with pytest.raises(ModelError, match="the state of a random gate"):
        zoo.load_model(path)


def test_devices(registry, file):
    assert next(registry.load(file, device="auto").parameters()).device.type in ("cpu", "cuda")
    with pytest.raises(ArgumentError, match="device 'abacus' is unknown"):
        registry.load(file, device="abacus")
    with pytest.raises(BackendError, match="device meta"):
        registry.load(file, device="meta")


@pytest.mark.parametrize("name", [5, None, b"tiny"])
def test_names_of_another_kind(registry, name):
    for call in (registry.create, registry.load, registry.card):
        with pytest.raises(ModelError, match="a model is the name of weights or a path"):
            call(name)
    with pytest.raises(ArgumentError, match="pattern is a text"):
        registry.names(name)


def test_a_model_without_a_name(registry, monkeypatch, file):
    monkeypatch.chdir(file.parent)
    with pytest.raises(ModelError, match="a model has an empty name"):
        registry.load("")
    assert card_of(registry.load(".")).name == "tiny_toy"
