"""The restoration models by name, and the weights that ship."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from moesaic import zoo
from moesaic.errors import ArgumentError, ModelError
from moesaic.restore.models import DEFAULT_MODEL, NETWORKS, make_network, registry
from moesaic.restore.network import MoceLite
from moesaic.restore.published import MoceIR
from moesaic.weights_file import Card, card_of

TINY = {"width": 8, "encoder": (1, 1, 1), "middle": 1}


def test_each_name_makes_its_network():
    with torch.device("meta"):  # no numbers: 25 million take their time
        made = {name: make_network(name) for name in NETWORKS}
    assert isinstance(made["moce_lite"], MoceLite)
    assert isinstance(made["moce_ir"], MoceIR)
    assert {name: made[name].width for name in ("moce_ir", "moce_ir_s")} == {"moce_ir": 48, "moce_ir_s": 32}


def test_options_are_the_networks_own():
    assert make_network("moce_lite", **TINY).stem.out_channels == 8
    small = {"blocks": (1, 1, 1, 1), "decoder_blocks": (1, 1, 1), "heads": (1, 1, 1, 1), "refinement": 1}
    assert make_network("moce_ir_s", width=8, **small).width == 8


def test_fresh_weights_follow_from_the_seed():
    torch.manual_seed(3)
    first = make_network("moce_lite", **TINY).state_dict()
    torch.manual_seed(3)
    again = make_network("moce_lite", **TINY).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("moce_light", {}, "did you mean 'moce_lite'"),
        ("swin", {}, "choose one of moce_lite, moce_ir, moce_ir_s"),
        ("moce_lite", {"depth": 3}, "'depth'"),
        ("moce_lite", {"width": 1}, "width"),
    ],
)
def test_what_cannot_be_made(name, options, says):
    with pytest.raises(ArgumentError, match=says):
        make_network(name, **options)


def test_they_are_in_the_zoo(tmp_path):
    assert set(NETWORKS) <= set(zoo.list_models("moce*"))
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in TINY.items()}
    card = Card(name="tiny", architecture="moce_lite", task="restore", options=options, multiple_of=16)
    model = zoo.create_model("moce_lite", **TINY).eval()
    zoo.save_model(tmp_path / "tiny.safetensors", model, card)
    again = zoo.load_model(tmp_path / "tiny.safetensors")
    assert card_of(again).name == "tiny"
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(again(x), model(x), atol=0.01, rtol=0)  # the file holds halves


def test_an_architecture_has_no_weights():
    with pytest.raises(ModelError, match="moce_lite is an architecture without weights"):
        registry.load("moce_lite")


def test_the_shipped_weights():
    if DEFAULT_MODEL not in registry.names():
        with pytest.raises(ModelError, match="moesaic train restore"):
            registry.load(DEFAULT_MODEL)
        pytest.skip("the weights are not there yet")
    card = registry.card(DEFAULT_MODEL)
    assert (card.name, card.task) == (DEFAULT_MODEL, "restore")
    assert card.licence != "NOASSERTION"
    assert card.data
    assert card.recipe
    assert card.scores
    assert isinstance(registry.load(DEFAULT_MODEL), MoceLite)


def test_the_table_of_models_loads_no_network():
    code = "import sys, moesaic.restore.models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
