"""What a folder without a checkpoint holds, and whether a run may begin there."""

from __future__ import annotations

import json

import pytest
import torch

from moesaic.errors import TrainingError
from moesaic.training.finished import finished_card, is_of, refuse_others, settled_length
from moesaic.weights_file import Card, write_weights

CONFIG = {"rate": 0.1, "betas": (0.9, 0.9), "steps": 3}


def _write(folder, config):
    card = Card(name="toy", architecture="toy", task="restore", recipe=config)
    return write_weights(folder / "model.safetensors", {"w": torch.ones(2)}, card)


def test_weights_of_this_run_are_known(tmp_path):
    _write(tmp_path, CONFIG)
    card = finished_card(tmp_path / "model.safetensors")
    assert is_of(card, CONFIG)
    assert not is_of(card, {**CONFIG, "rate": 0.2})
    assert (settled_length(card, "steps"), settled_length(card, "epochs"), settled_length(None, "steps")) == (
        3, None, None
    )  # fmt: skip
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])  # cut
    assert finished_card(tmp_path / "model.safetensors") is None


def test_a_run_that_was_stopped_before_its_first_checkpoint_may_begin_again(tmp_path):
    refuse_others(tmp_path, CONFIG, "steps")
    (tmp_path / "recipe.json").write_text(json.dumps({**CONFIG, "steps": 4}))  # planned anew
    (tmp_path / "log.jsonl").write_text('{"event": "started", "step": 0}\n')
    refuse_others(tmp_path, CONFIG, "steps")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("model.safetensors", "anything", "holds finished weights without a checkpoint; name another folder"),
        ("log.jsonl", '{"event": "step", "step": 100}', "holds the log of a run without a checkpoint"),
        ("recipe.json", '{"rate": 0.2}', "holds the recipe of another run"),
        ("recipe.json", "mine", "holds the recipe of another run .*--fresh"),
    ],
)
def test_what_another_run_left_is_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=says):
        refuse_others(tmp_path, CONFIG, "steps")
