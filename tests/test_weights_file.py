"""Weights and their card: round trips, what is refused, and that no flipped bit goes unseen."""

from __future__ import annotations

import dataclasses
import json
import os
import random

import pytest
import safetensors.torch
import torch
from torch import nn

from moesaic import weights_file
from moesaic.errors import LimitError, ModelError, OutputExistsError
from moesaic.weights_file import Card, WeightLimits, card_of, read_card, read_weights, with_card, write_weights

CARD = Card(
    name="small",
    architecture="tiny",
    task="segment",
    options={"classes": 2, "grid": (3, 3), "place": None},
    licence="CC0-1.0",
    data="drawn by hand",
    recipe={"epochs": 3},
    classes=("sky", "ground"),
    colours=((1, 2, 3), (255, 0, 9)),
    size=(36, 48),
    multiple_of=8,
    scores={"test_mean_iou": 0.25},
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "model.safetensors"
    write_weights(path, network.state_dict(), CARD)
    return path


def test_round_trip(network, file):
    weights, card = read_weights(file)
    assert card == read_card(file)
    assert dataclasses.replace(card, sha256="", options=CARD.options) == CARD
    assert card.options == {"classes": 2, "grid": [3, 3], "place": None}
    for name, value in network.state_dict().items():
        kept = weights[name]
        assert kept.dtype == (torch.float32 if value.is_floating_point() else value.dtype)
        expected = value.half().float() if value.ndim > 1 else value  # vectors keep their precision
        assert torch.equal(kept, expected)


def test_kernels_take_two_bytes_a_number(file):
    stored = safetensors.torch.load_file(file)
    assert stored["0.weight"].dtype == torch.float16
    assert stored["0.bias"].dtype == torch.float32


def test_the_card_stands_beside_the_weights(file):
    beside = file.with_suffix(".json").read_text()
    assert Card.from_json(beside) == read_card(file)
    assert json.loads(beside)["licence"] == "CC0-1.0"


def test_same_weights_same_bytes(network, file, tmp_path):
    again = tmp_path / "again.safetensors"
    write_weights(again, dict(reversed(network.state_dict().items())), CARD)
    assert again.read_bytes() == file.read_bytes()


def test_a_value_beyond_float16_is_kept(tmp_path):
    big = torch.tensor([[1e6, 0.5]])
    write_weights(tmp_path / "a.safetensors", {"w": big}, CARD)
    assert torch.equal(read_weights(tmp_path / "a.safetensors")[0]["w"], big)


def test_all_layouts_and_shapes(tmp_path):
    weights = {
        "channels_last": torch.randn(2, 3, 4, 4).half().float().to(memory_format=torch.channels_last),
        "view": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3, 5),
        "vector": torch.tensor([0.1, 0.2]).view(1, 2, 1, 1),
        "flags": torch.tensor([True, False]),
        "double": torch.tensor([1.5], dtype=torch.float64),
    }
    weights["shared"] = weights["view"]
    write_weights(tmp_path / "a.safetensors", weights, CARD)
    kept, _ = read_weights(tmp_path / "a.safetensors")
    for name, value in weights.items():
        assert torch.equal(kept[name], value.float() if value.is_floating_point() else value), name


def test_nothing_is_replaced_unasked(network, file):
    before = file.read_bytes()
    with pytest.raises(OutputExistsError):
        write_weights(file, network.state_dict(), CARD)
    file.unlink()
    with pytest.raises(OutputExistsError, match=r"model\.json"):  # the card alone is a reason, and nothing is written
        write_weights(file, network.state_dict(), CARD)
    assert not file.exists()
    write_weights(file, network.state_dict(), CARD, force=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_written(tmp_path, value):
    with pytest.raises(ModelError, match="w: a weight is not finite"):
        write_weights(tmp_path / "a.safetensors", {"w": torch.tensor([1.0, value])}, CARD)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ModelError, match=r"\.safetensors"):
        write_weights(tmp_path / "model.pt", {}, CARD)
    with pytest.raises(ModelError, match="w: weights are tensors, not dict"):
        write_weights(tmp_path / "a.safetensors", {"w": {}}, CARD)
    for options in ({"f": print}, {"f": float("nan")}):
        with pytest.raises(ModelError, match="JSON"):
            write_weights(tmp_path / "a.safetensors", {}, dataclasses.replace(CARD, options=options))
    with pytest.raises(ModelError, match="colours"):
        write_weights(tmp_path / "a.safetensors", {}, dataclasses.replace(CARD, colours=((1, 2, 256),)))


def test_no_flipped_bit_goes_unseen(file):
    data = file.read_bytes()
    card = read_card(file)
    generator, told = random.Random(0), []
    for _ in range(400):
        place, bit = generator.randrange(len(data)), generator.randrange(8)
        broken = bytearray(data)
        broken[place] ^= 1 << bit
        file.write_bytes(broken)
        try:
            _, read = read_weights(file)
        except (ModelError, LimitError) as error:
            told.append(str(error))
        else:  # only where JSON means the same by other bytes
            assert read == card, (place, bit)
    assert len(told) > 390
    assert all(str(file) in text and "\n" not in text for text in told)


def test_every_cut_is_seen(file):
    data = file.read_bytes()
    for length in (0, 3, 8, 20, len(data) // 3, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_weights(file)
    file.write_bytes(data + b"more")
    with pytest.raises(ModelError):
        read_weights(file)


def test_other_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(2)}, path)
    for read in (read_card, read_weights):
        with pytest.raises(ModelError, match="carry no card"):
            read(path)
        with pytest.raises(ModelError, match="cannot be read"):
            read(tmp_path / "missing.safetensors")
        with pytest.raises(ModelError, match="cannot be read"):
            read(tmp_path)
        with pytest.raises(ModelError, match="cannot be read"):
            read("a\0b")


@pytest.mark.parametrize(("limit", "value"), [("file_bytes", 100), ("header_bytes", 100), ("tensors", 3)])
def test_limits(file, limit, value):
    with pytest.raises(LimitError, match=rf"WeightLimits\({limit}="):
        read_weights(file, limits=WeightLimits(**{limit: value}))


def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="cut off"):
        read_card(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": 3}, "name"),
        ({"options": []}, "options"),
        ({"classes": "sky"}, "classes"),
        ({"colours": [[0, 0]]}, "colours"),
        ({"size": [0, 5]}, "size"),
        ({"size": [True, 5]}, "size"),
        ({"multiple_of": 0}, "multiple_of"),
        ({"parameters": -1}, "parameters"),
        ({"scores": {"a": "good"}}, "scores"),
        ({"scores": {"a": 10**400}}, "scores"),
    ],
)
def test_cards_of_another_form_are_refused(change, says):
    with pytest.raises(ModelError, match=f"the card's {says}"):
        Card.from_json(json.dumps(json.loads(CARD.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"name": "a"}', '{"name": NaN}', "[" * 100_000])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(ModelError, match="card"):
        Card.from_json(text)


def test_lines_from_the_future_are_left_out():
    assert Card.from_json(json.dumps(json.loads(CARD.to_json()) | {"mood": "good"})).name == "small"


def test_models_carry_cards(network):
    assert card_of(network) is None
    assert card_of(with_card(network, CARD)) is CARD
    assert list(dict(network.named_modules())) == ["", "0", "1", "2"]


def _rewritten(path, stored, **change):
    """A file as somebody may write it who knows the format, hash included."""
    card = dataclasses.replace(CARD, **change)
    card = dataclasses.replace(card, sha256=weights_file._digest(dataclasses.replace(card, sha256=""), stored))
    path.write_bytes(safetensors.torch.save(stored, {"moesaic": json.dumps(dataclasses.asdict(card))}))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_not_read(tmp_path, value):
    path = tmp_path / "a.safetensors"
    _rewritten(path, {"w": torch.tensor([1.0, value])}, options={}, size=None, classes=[], colours=[])
    with pytest.raises(ModelError, match="the weight w is not finite"):
        read_weights(path)


@pytest.mark.parametrize("depth", [40, 300, 900])
def test_cards_that_are_deep_are_refused(depth):
    deep = '{"a":' * depth + "1" + "}" * depth
    with pytest.raises(ModelError, match="the card's recipe"):
        Card.from_json(f'{CARD.to_json().strip()[:-1]}, "recipe": {deep}}}')


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "x" * 5000}, "name"),
        ({"architecture": "x" * 5000}, "architecture"),
        ({"classes": ["a"] * 300}, "classes"),
        ({"classes": ["a" * 5000]}, "classes"),
        ({"colours": [[0, 0, 0]] * 300}, "colours"),
        ({"size": [2**15, 5]}, "size"),
        ({"multiple_of": 10**4000}, "multiple_of"),
    ],
)
def test_cards_beyond_measure_are_refused(change, says):
    with pytest.raises(ModelError, match=f"the card's {says}"):
        Card.from_json(json.dumps(json.loads(CARD.to_json()) | change))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "endless.safetensors").symlink_to("/dev/zero")
    for read in (read_card, read_weights):
        for name in ("pipe", "endless"):
            with pytest.raises(ModelError, match="it is a pipe or a device"):
                read(tmp_path / f"{name}.safetensors")
        with pytest.raises(ModelError, match="it is a folder"):
            read(tmp_path)
        with pytest.raises(ModelError, match="from a path, not from int"):
            read(5)


@pytest.mark.parametrize(
    "weights",
    [
        {5: torch.zeros(2)},
        {"__metadata__": torch.zeros(2)},
        {"w": torch.zeros(2, dtype=torch.complex64)},
        {"w": torch.zeros(2, device="meta")},
        {"w": torch.eye(2).to_sparse()},
    ],
)
def test_what_is_no_weight_is_not_written(tmp_path, weights):
    with pytest.raises(ModelError):
        write_weights(tmp_path / "a.safetensors", weights, CARD)
    assert list(tmp_path.iterdir()) == []
